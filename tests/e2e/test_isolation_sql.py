"""What the database itself refuses, whatever a service asks: read from its catalog.

Tables are found in the catalog, so one that is added later is tested as well.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import asyncpg
import pytest
import pytest_asyncio

from services.common.migrate import known_services
from services.stack.stack import Stack
from tests.e2e.door import Door
from tests.e2e.world import World, full, tables

PRIVILEGES = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
API_UPDATES = {
    "account.accounts": {"last_sequence"},
    "agent.agents": {
        *("display_name", "pool_id", "skills", "status", "average_response_ms", "idle_since"),
        *("version", "last_sequence"),
    },
    "agent.capacities": {"slots", "load"},
    "agent.offers": {"state", "close_time"},
    "agent.requests": {"state", "declined", "settle_time", "change_time"},
    "bot.bots": {"version", "body"},
    "bot.contexts": {
        *("bot_id", "hand_off", "closed", "misses", "turns", "last_intent", "handed_off"),
        *("last_confidence_millis", "model_version", "uses", "event_sequence"),
    },
    "conversation.conversations": {
        *("status", "agent_id", "hand_off_count", "hand_off_reason", "needs", "end_reason"),
        *("hand_off_us", "end_us", "version"),
    },
    "instrument.instruments": {
        *("symbol", "name", "isin", "cusip", "figi", "lot_size_micros", "tick_size_e8"),
        *("calendar", "status", "version", "update_time"),
    },
    "message.conversations": {"last_sequence", "event_sequence", "marks_version"},
    "message.marks": {"delivered_sequence", "read_sequence"},
    "session.instances": {"lease_time", "buried_time"},
    "session.losses": {"lost_time", "told_count"},
    "session.sessions": {
        *("instance_id", "held_time", "expire_time", "resume_count", "end_time", "end_reason"),
    },
    "session.subjects": {"open_count", "last_sequence"},
    "trade.accounts": {"last_sequence"},
}
"""Columns that requests may change; all else is only ever added."""
API_DELETES = {
    "agent.assignments",
    "agent.departures",
    "bot.turns",
    "instrument.search_terms",
}
OF_INSTANCES = {"session.instances", "session.losses"}
"""Of processes of the gateway and not of tenants: only internal rpcs come to them."""
SHARED = {"mesh.personal_keys"}
"""Keys of customers, by which several services seal; bound to the tenant as any table."""
BOOKS = ("ledger.entries", "ledger.journals", "ledger.balances")


def schema(table: str) -> str:
    return table.partition(".")[0].strip('"')


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def owned(database: asyncpg.Connection) -> list[str]:
    """Tables whose rows have a tenant."""
    return await tables(database, with_tenant=True)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def owner(door: Door) -> World:
    return await full(door)


@asynccontextmanager
async def role(stack: Stack, name: str, tenant: str = "") -> AsyncIterator[asyncpg.Connection]:
    """Connect as a role of a service, in a transaction of a tenant that is undone."""
    connection = await asyncpg.connect(stack.database_url(name))
    transaction = connection.transaction()
    await transaction.start()
    if tenant:
        await connection.execute("SELECT set_config('app.tenant_id', $1, true)", tenant)
    try:
        yield connection
    finally:
        await transaction.rollback()
        await connection.close()


async def attempt(connection: asyncpg.Connection, query: str, *values: object) -> object:
    """Return what a query returns, None when the role may not ask it."""
    try:
        async with connection.transaction():
            return await connection.fetchval(query, *values)
    except asyncpg.InsufficientPrivilegeError:
        return None


async def affected(connection: asyncpg.Connection, query: str, *values: object) -> str:
    """Return the status of a write, empty when the role may not write so."""
    try:
        async with connection.transaction():
            return str(await connection.execute(query, *values))
    except asyncpg.InsufficientPrivilegeError:
        return ""


async def granted(
    database: asyncpg.Connection, name: str, names: list[str], privilege: str
) -> set[str]:
    """Return those of the tables on which a role holds a privilege, on a column at least."""
    kind = "any_column" if privilege in ("SELECT", "INSERT", "UPDATE", "REFERENCES") else "table"
    rows = await database.fetch(
        f"SELECT name FROM unnest($2::text[]) AS name WHERE has_{kind}_privilege($1, name, $3)",
        name,
        names,
        privilege,
    )
    return {row["name"] for row in rows}


async def test_every_table_of_tenants_has_its_policy(
    database: asyncpg.Connection, owned: list[str]
) -> None:
    rows = await database.fetch(
        "SELECT c.oid::regclass::text AS name, relrowsecurity AND relforcerowsecurity AS bound, "
        "array_agg(pg_get_expr(polqual, polrelid) ORDER BY polname) AS seen, "
        "array_agg(pg_get_expr(polwithcheck, polrelid) ORDER BY polname) AS written "
        "FROM pg_class c LEFT JOIN pg_policy p ON p.polrelid = c.oid "
        "WHERE c.oid::regclass = ANY ($1::text[]::regclass[]) GROUP BY 1, 2",
        owned,
    )
    policy = ["(tenant_id = current_setting('app.tenant_id'::text, true))"]

    assert len(rows) == len(owned) > 20
    for row in rows:
        assert (row["bound"], row["seen"], row["written"]) == (True, policy, policy), row["name"]


async def test_no_tenant_means_no_rows(stack: Stack, owned: list[str], owner: World) -> None:
    for service in known_services():
        async with role(stack, f"{service}_api") as api:
            for table in (each for each in owned if schema(each) == service):
                assert not await attempt(api, f"SELECT count(*) FROM {table}"), table
                write = f"INSERT INTO {table} (tenant_id) VALUES ($1)"
                assert not await affected(api, write, owner.tenant), table


async def test_one_tenant_is_no_other(stack: Stack, owned: list[str], owner: World) -> None:
    for service in known_services():
        async with role(stack, f"{service}_api", "somebody-else") as api:
            for table in (each for each in owned if schema(each) == service):
                others = f"SELECT count(*) FROM {table} WHERE tenant_id <> 'somebody-else'"
                assert not await attempt(api, others), table
                write = f"INSERT INTO {table} (tenant_id) VALUES ($1)"
                assert not await affected(api, write, owner.tenant), table


async def test_a_tenant_reads_its_own(stack: Stack, owned: list[str], owner: World) -> None:
    """The control of the two tests above: there is something to be seen."""
    for service in known_services():
        async with role(stack, f"{service}_api", owner.tenant) as api:
            mine = [each for each in owned if schema(each) == service]
            assert any([await attempt(api, f"SELECT count(*) FROM {table}") for table in mine])


async def test_what_may_be_changed_can_not_be_given_away(stack: Stack, owner: World) -> None:
    for table in API_UPDATES.keys() - OF_INSTANCES:
        columns = API_UPDATES[table]
        same = ", ".join(f"{column} = {column}" for column in sorted(columns))
        change = f"UPDATE {table} SET {same} WHERE tenant_id = $1"
        async with role(stack, f"{schema(table)}_api", "somebody-else") as api:
            assert await affected(api, change, owner.tenant) == "UPDATE 0", table
    for table in API_DELETES:
        async with role(stack, f"{schema(table)}_api", "somebody-else") as api:
            status = await affected(api, f"DELETE FROM {table} WHERE tenant_id = $1", owner.tenant)
            assert status == "DELETE 0", table


async def test_tables_without_tenants_are_not_for_requests(
    stack: Stack, database: asyncpg.Connection
) -> None:
    names = await tables(database, with_tenant=False)
    assert len(names) > 5
    names = [name for name in names if name not in OF_INSTANCES]
    for service in known_services():
        for privilege in PRIVILEGES:
            assert not await granted(database, f"{service}_api", names, privilege), privilege


async def test_partitions_refuse_everybody(stack: Stack, database: asyncpg.Connection) -> None:
    rows = await database.fetch(
        "SELECT oid::regclass::text AS name FROM pg_class WHERE relispartition AND relkind = 'r'"
    )
    names = [row["name"] for row in rows]
    assert len(names) > 50
    for name in _roles(stack):
        for privilege in PRIVILEGES:
            assert not await granted(database, name, names, privilege), (name, privilege)
        async with role(stack, name) as connection:
            for partition in (each for each in names if name.startswith(schema(each))):
                query = f"SELECT count(*) FROM {partition}"
                assert await attempt(connection, query) is None, partition


async def test_a_service_reads_no_table_of_another(
    stack: Stack, database: asyncpg.Connection, owned: list[str]
) -> None:
    names = {*owned, *await tables(database, with_tenant=False)} - SHARED
    for name in _roles(stack):
        others = [each for each in names if not name.startswith(schema(each) + "_")]
        for privilege in PRIVILEGES:
            assert not await granted(database, name, others, privilege), (name, privilege)


async def test_requests_change_and_delete_what_is_listed_here_alone(
    stack: Stack, database: asyncpg.Connection, owned: list[str]
) -> None:
    rows = await database.fetch(
        "SELECT c.oid::regclass::text AS name, attname FROM pg_class c "
        "JOIN pg_attribute a ON attrelid = c.oid AND attnum > 0 AND NOT attisdropped "
        "JOIN pg_namespace n ON n.oid = relnamespace AND nspname = ANY ($1) "
        "WHERE relkind IN ('r', 'p') AND has_column_privilege(nspname || '_api', c.oid, attnum, "
        "'UPDATE')",
        list(known_services()),
    )
    updates: dict[str, set[str]] = {}
    for row in rows:
        updates.setdefault(row["name"], set()).add(row["attname"])
    assert updates == API_UPDATES

    apis = [f"{service}_api" for service in known_services()]
    deletes = [await granted(database, api, owned, "DELETE") for api in apis]
    assert set().union(*deletes) == API_DELETES


async def test_nobody_truncates(
    stack: Stack, database: asyncpg.Connection, owned: list[str]
) -> None:
    for name in _roles(stack):
        assert not await granted(database, name, owned, "TRUNCATE"), name


async def test_nobody_is_granted_to_change_the_books(
    stack: Stack, database: asyncpg.Connection
) -> None:
    for name in _roles(stack):
        for privilege in ("UPDATE", "DELETE", "TRUNCATE"):
            assert not await granted(database, name, list(BOOKS), privilege), name
        assert not await granted(database, name, ["ledger.balances"], "INSERT"), name


@pytest.mark.parametrize("table", ["ledger.entries", "ledger.journals"])
@pytest.mark.parametrize(
    "change", ["UPDATE {} SET tenant_id = tenant_id", "DELETE FROM {}", "TRUNCATE {}"]
)
async def test_not_even_their_owner_changes_the_books(
    database: asyncpg.Connection, owner: World, table: str, change: str
) -> None:
    with pytest.raises(asyncpg.RestrictViolationError):
        async with database.transaction():
            await database.execute(change.format(table))


async def test_roles_of_services_have_no_powers(stack: Stack, database: asyncpg.Connection) -> None:
    names = list(_roles(stack))
    rows = await database.fetch(
        "SELECT rolname, rolbypassrls, rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication "
        "AS power, EXISTS (SELECT FROM pg_auth_members WHERE member = r.oid) AS member, "
        "EXISTS (SELECT FROM pg_class WHERE relowner = r.oid) AS owner "
        "FROM pg_roles r WHERE rolname = ANY ($1)",
        names,
    )

    assert len(rows) == len(names)
    for row in rows:
        assert [row["power"], row["member"], row["owner"]] == [False] * 3, row["rolname"]
        bypasses = not row["rolname"].endswith("_api")
        assert row["rolbypassrls"] is bypasses, row["rolname"]


async def test_requests_can_not_borrow_the_rights_of_the_owner(
    stack: Stack, database: asyncpg.Connection
) -> None:
    for service in known_services():
        rows = await database.fetch(
            "SELECT oid::regprocedure::text AS name FROM pg_proc "
            "WHERE prosecdef AND has_function_privilege($1, oid, 'EXECUTE')",
            f"{service}_api",
        )
        assert [row["name"] for row in rows] == []


def _roles(stack: Stack) -> Iterator[str]:
    for service in known_services():
        yield from (f"{service}_api", f"{service}_pipeline")
