"""Settings of every service, typed, from the environment."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """What a service process reads from `INTERCHANGE_*`.

    Each field is the variable of the same name in capitals. Times end in
    their unit. `INTERCHANGE_DATABASE_PASSWORD_FILE` may hold a path in place of
    a password in the environment.
    """

    model_config = SettingsConfigDict(
        env_prefix="INTERCHANGE_", frozen=True, extra="ignore", use_attribute_docstrings=True
    )

    listen: str = "127.0.0.1:9000"
    """Address of the gRPC server; port 0 takes a free one."""
    probe_listen: str = "127.0.0.1:0"
    """Address of the HTTP server of /metrics and /health."""
    database_url: str = "postgresql://127.0.0.1:5432/interchange"
    """Postgres without user; each service adds its own two roles."""
    database_password: SecretStr = SecretStr("")
    """Password of the service roles."""
    database_password_file: Path | None = None
    """File that holds the password; wins over the variable."""
    database_pool_size: int = Field(default=20, ge=1, le=200)
    """Connections of the api role, at most."""
    database_pipeline_pool_size: int = Field(default=6, ge=2, le=50)
    """Connections of the pipeline role, at most."""
    database_statement_timeout_ms: int = Field(default=30_000, ge=100)
    """A statement that takes longer is cancelled."""
    database_idle_in_transaction_timeout_ms: int = Field(default=10_000, ge=100)
    """A transaction that idles longer is ended: it would stall every relay."""
    redis_url: str = "redis://127.0.0.1:6379/0"
    """Redis; a cache, never the authority."""
    kafka_bootstrap: str = "127.0.0.1:9092"
    """Kafka brokers, comma-separated."""
    kafka_partitions: int = Field(default=12, ge=1, le=1000)
    """Partitions of a topic that is created."""
    kafka_replication: int = Field(default=1, ge=1, le=5)
    """Replicas of a topic that is created."""
    kafka_topic_prefix: str = ""
    """Put before each topic name, so that two meshes can share brokers."""
    egress: str = "127.0.0.1:8081"
    """Where services dial each other: the sidecar's egress listener."""
    outbox_shards: int = Field(default=1, ge=1, le=64)
    """Shards of each outbox, each with one relay. Change only while drained."""
    outbox_poll_min_ms: int = Field(default=2, ge=1)
    """Pause between polls of a busy outbox."""
    outbox_poll_max_ms: int = Field(default=50, ge=1)
    """Pause between polls of an idle outbox."""
    consumer_batch_size_max: int = Field(default=4000, ge=1)
    """Events applied in one transaction, at most."""
    consumer_gather_ms: int = Field(default=30, ge=0)
    """How long a busy consumer lets events gather before it applies them."""
    consumer_gap_wait_ms: int = Field(default=2_000, ge=0)
    """How long a missing event is awaited before the event store is asked."""
    batch_size_max: int = Field(default=2000, ge=1)
    """Commands written in one transaction, at most."""
    message_bytes_max: int = Field(default=4 * 1024 * 1024, ge=1024)
    """Largest gRPC message accepted."""
    concurrent_streams_max: int = Field(default=1024, ge=1)
    """Calls on one connection at the same time, at most."""
    deadline_default_ms: int = Field(default=15_000, ge=1)
    """Deadline of a unary call that brings none."""
    drain_ms: int = Field(default=30_000, ge=0)
    """Longest time that a stopping server waits for its calls."""
    drain_notice_ms: int = Field(default=1_500, ge=0)
    """How long a stopping server still takes calls while health says NOT_SERVING."""
    log_level: str = "INFO"
    """DEBUG, INFO, WARNING or ERROR."""
    trace_endpoint: str = ""
    """OTLP gRPC endpoint, host:port; no traces are sent when empty."""
    trace_ratio: float = Field(default=0.001, ge=0, le=1)
    """Share of the traces started here that are kept; a caller's decision wins."""
    conversation_start_rate_per_s: float = Field(default=10, gt=0)
    """Conversations that one customer may start a second, in the long run."""
    conversation_start_burst: int = Field(default=100, ge=1)
    """Conversations that one customer may start at once."""
    message_rate_per_s: int = Field(default=20, ge=1)
    """Messages that one sender may send in a second, each instance counting for itself."""
    message_burst: int = Field(default=40, ge=1)
    """Messages that one sender may send at once after a pause."""
    push_drop_every: int = Field(default=0, ge=0)
    """Drop each n-th push, to test that nothing depends on it; 0 drops none."""
    websocket_listen: str = "127.0.0.1:9300"
    """Address of the gateway's WebSocket server; port 0 takes a free one."""
    jwks_file: Path = Path("jwks.json")
    """Public keys of the issuer of tokens."""
    token_key_file: Path = Path("token_key.json")
    """Private key that signs tokens; only identity reads it."""
    personal_key_file: Path = Path("personal_key")
    """Master key that wraps the keys of customers: 32 bytes as hexadecimal digits."""
    nlu_watch_ms: int = Field(default=1_000, ge=10)
    """Pause between looks for newer versions of models, and for trainings to be done."""
    nlu_models_bytes_max: int = Field(default=512 * 1024 * 1024, ge=1)
    """Memory of the models that an instance keeps loaded, about."""
    nlu_training_lease_ms: int = Field(default=30_000, ge=100)
    """How long a training stays with a trainer who does not renew his claim."""
    nlu_training_timeout_ms: int = Field(default=900_000, ge=100)
    """A training that takes longer has failed."""
    archive_dir: Path = Path("archive")
    """Folder of archived event partitions."""

    agent_offer_timeout_ms: int = Field(default=30_000, ge=100)
    """How long an agent may think about an offer."""
    agent_gone_grace_ms: int = Field(default=10_000, ge=0)
    """How long an agent without a session is still taken to be there."""
    agent_decline_pause_ms: int = Field(default=30_000, ge=0)
    """How long an agent is not asked again about what was offered to him in vain."""
    agent_sweep_ms: int = Field(default=1_000, ge=10)
    """Pause between looks for timers that ran out and conversations that wait."""
    agent_mirror_check_ms: int = Field(default=2_000, ge=10)
    """Pause between comparisons of the copies of agents with the database."""
    agent_match_batch_max: int = Field(default=256, ge=1, le=2_000)
    """Waiting conversations that are matched together, at most."""
    agent_candidates_max: int = Field(default=5, ge=1, le=64)
    """Agents proposed for one conversation, at most."""
    agent_repair_ms: int = Field(default=60_000, ge=100)
    """Pause between comparisons of agents' load with what they have."""

    bot_nlu_timeout_ms: int = Field(default=2_000, ge=10)
    """How long a bot waits to be told what customers mean."""
    bot_nlu_attempts_max: int = Field(default=3, ge=1, le=10)
    """How often a bot asks what one message means before it hands over."""
    bot_retry_pause_ms: int = Field(default=300, ge=1)
    """Pause before a bot asks again; each further one is twice as long."""
    bot_lease_ms: int = Field(default=10_000, ge=100)
    """How long an instance may take to answer a turn before another one does."""
    bot_poll_ms: int = Field(default=200, ge=1)
    """Pause between looks for turns that no event of this process told of."""
    bot_batch_size_max: int = Field(default=256, ge=1, le=500)
    """Turns of one tenant that are answered together, at most."""

    gateway_sockets_max: int = Field(default=10_000, ge=1, le=100_000)
    """Sockets that one gateway holds, at most."""
    gateway_hello_timeout_ms: int = Field(default=5_000, ge=50)
    """How long a new socket may take to say who it is."""
    gateway_heartbeat_ms: int = Field(default=30_000, ge=50)
    """How often a client shall say that it lives."""
    gateway_heartbeat_missed_ms: int = Field(default=75_000, ge=100)
    """Silence after which a socket is closed."""
    gateway_frame_bytes_max: int = Field(default=64 * 1024, ge=1024, le=1024 * 1024)
    """Largest frame that is taken from a client."""
    gateway_frames_per_second: int = Field(default=50, ge=1)
    """Frames that are taken from a client in the long run."""
    gateway_frames_burst: int = Field(default=200, ge=1)
    """Frames that are taken from a client at once."""
    gateway_write_buffer_bytes_max: int = Field(default=1024 * 1024, ge=4096)
    """Bytes that wait for a client that does not read, before it is cut off."""
    gateway_subscriptions_max: int = Field(default=200, ge=1, le=5_000)
    """Conversations that one socket follows, at most."""
    gateway_tails_ms: int = Field(default=1_500, ge=20)
    """Pause between looks for news that no push brought."""
    gateway_presence_ms: int = Field(default=5_000, ge=20)
    """Pause between looks for who came and went."""
    gateway_confirm_ms: int = Field(default=60_000, ge=20)
    """Pause between comparisons of the sessions held with those that the session service knows."""
    gateway_marks_flush_ms: int = Field(default=250, ge=1)
    """How long marks of readers gather."""
    gateway_drain_spread_ms: int = Field(default=5_000, ge=0)
    """Time over which the clients of a leaving gateway come back."""

    session_heartbeat_ms: int = Field(default=5_000, ge=10)
    """How often an instance of the gateway says that it lives."""
    session_lease_ms: int = Field(default=15_000, ge=10)
    """How long it lives without saying so."""
    session_resume_ms: int = Field(default=30_000, ge=10)
    """How long a session may be taken up again whose socket broke."""
    session_keep_ms: int = Field(default=60_000, ge=10)
    """How long a session without a socket lives without a heartbeat."""

    @property
    def password(self) -> str:
        """The password of the service roles."""
        if self.database_password_file is not None:
            return self.database_password_file.read_text().strip()
        return self.database_password.get_secret_value()
