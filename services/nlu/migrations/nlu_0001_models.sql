-- Models of the local classifier: their versions, what they learned, who trains.

SELECT mesh.create_service('nlu');
SELECT mesh.create_request_keys('nlu');

CREATE TABLE nlu.models (
    tenant_id text NOT NULL,
    -- "C" is the order of page tokens, whatever the locale of the cluster.
    model_id text COLLATE "C" NOT NULL,
    version bigint NOT NULL CHECK (version > 0),
    state text NOT NULL CHECK (state IN ('TRAINING', 'READY', 'FAILED')),
    example_count integer NOT NULL,
    intent_count integer NOT NULL,
    failure text NOT NULL DEFAULT '',
    accuracy_millis integer NOT NULL DEFAULT 0,
    create_time timestamptz NOT NULL,
    finish_time timestamptz,
    PRIMARY KEY (tenant_id, model_id, version),
    CHECK ((finish_time IS NULL) = (state = 'TRAINING')),
    CHECK ((failure <> '') = (state = 'FAILED'))
);
SELECT mesh.isolate_tenants('nlu.models');

-- The newest versions only: who still loads the one before finds it.
CREATE TABLE nlu.contents (
    tenant_id text NOT NULL,
    model_id text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    -- It is compressed already.
    content bytea STORAGE EXTERNAL NOT NULL,
    digest bytea NOT NULL CHECK (digest = sha256(content)),
    PRIMARY KEY (tenant_id, model_id, version),
    FOREIGN KEY (tenant_id, model_id, version) REFERENCES nlu.models
);
SELECT mesh.isolate_tenants('nlu.contents');

-- The version of a model that serves, on all instances.
CREATE TABLE nlu.active (
    tenant_id text NOT NULL,
    model_id text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (tenant_id, model_id),
    FOREIGN KEY (tenant_id, model_id, version) REFERENCES nlu.contents
);
SELECT mesh.isolate_tenants('nlu.active');

-- Trainings to be done. One is somebody's while his lease runs.
CREATE TABLE nlu.trainings (
    tenant_id text NOT NULL,
    model_id text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    examples bytea NOT NULL,
    create_time timestamptz NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    claim uuid,
    lease_until timestamptz,
    PRIMARY KEY (tenant_id, model_id, version),
    FOREIGN KEY (tenant_id, model_id, version) REFERENCES nlu.models
);
CREATE INDEX trainings_age ON nlu.trainings (create_time);
SELECT mesh.isolate_tenants('nlu.trainings');

GRANT SELECT ON nlu.models, nlu.contents, nlu.active TO nlu_api;
GRANT SELECT (tenant_id, model_id, version) ON nlu.trainings TO nlu_api;
GRANT INSERT ON nlu.models, nlu.trainings TO nlu_api;

GRANT SELECT ON nlu.models, nlu.active TO nlu_pipeline;
GRANT UPDATE (state, failure, accuracy_millis, finish_time) ON nlu.models TO nlu_pipeline;
GRANT SELECT (tenant_id, model_id, version), INSERT, DELETE ON nlu.contents TO nlu_pipeline;
GRANT INSERT, UPDATE (version) ON nlu.active TO nlu_pipeline;
GRANT SELECT, UPDATE (attempts, claim, lease_until), DELETE ON nlu.trainings TO nlu_pipeline;
