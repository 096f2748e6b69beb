"""CreateTrade through Envoy, 64 callers at a time."""

import asyncio
from dataclasses import dataclass

from interchange.trade.v1.trade_service_pb2 import GetTradeRequest

from tests.load import callers, day, echo
from tests.load.callers import Answers, Choice, Load, Metadata
from tests.load.scene import TENANT, Scene, Wrong
from tests.load.table import Figure, Limit, Reference, Report
from tests.load.usage import Usage

CALLERS = 64
PROCESSES = 2
SERVICE = "/interchange.trade.v1.TradeService"
CREATE = f"{SERVICE}/CreateTrade"
GET = f"{SERVICE}/GetTrade"
RATE = Limit(least=1_000)
P95 = Limit(most=100)
KNOWN = 2_000
"""Trades that the reads choose from."""


@dataclass(frozen=True, slots=True)
class Create:
    """Makes requests of CreateTrade."""

    source: str

    def __call__(self, number: int) -> bytes:
        """Return the request of a number."""
        return day.trade(self.source, number).SerializeToString()


def create(target: str, metadata: Metadata, source: str, **until: float) -> Load:
    """Return a load that books single trades."""
    return Load(target, metadata, CREATE, Create(source), **until)  # type: ignore[arg-type]


async def gets(scene: Scene) -> Choice:
    """Return requests of GetTrade for trades that are there."""
    rows = await scene.fetch(
        "SELECT trade_id::text FROM trade.trades WHERE tenant_id = $1 LIMIT $2", TENANT, KNOWN
    )
    if not rows:
        raise Wrong("there is no trade to read")
    return Choice([GetTradeRequest(trade_id=name).SerializeToString() for (name,) in rows])


async def counted(scene: Scene, source: str, answers: Answers) -> None:
    """Make sure that as many trades are in the table as were answered."""
    if answers.errors:
        raise Wrong(f"calls failed: {answers.errors.most_common(3)}")
    ((count,),) = await scene.fetch(
        "SELECT count(*) FROM trade.request_keys WHERE tenant_id = $1 AND request_id LIKE $2",
        TENANT,
        f"{source}-%",
    )
    if count != answers.answered:
        raise Wrong(f"{answers.answered:,} trades were answered, {count:,} are booked")


def run(scene: Scene) -> Report:
    """Measure."""
    scene.start()
    asyncio.run(scene.inhabit())
    seconds = 5.0 if scene.quick else 20.0
    scene.say(f"CreateTrade through Envoy, {CALLERS} callers, {seconds:.0f} s")
    load = create(scene.target, scene.metadata(), "unary", callers=CALLERS, seconds=seconds)
    began: list[Usage] = []
    made = callers.call(load, PROCESSES, lambda: began.append(Usage(scene.stack)))
    usage = began[0]
    spent = usage.spent({"callers": made.cpu_s})
    asyncio.run(counted(scene, "unary", made))
    scene.say(made.text())
    print(usage.table(spent, made.answered, "call"), flush=True)
    choice = asyncio.run(gets(scene))
    edge = Load(scene.target, scene.metadata(), GET, choice, CALLERS, seconds / 2)
    through = _read(scene, "GetTrade through Envoy", edge)
    direct_load = Load(
        scene.direct("trade"), scene.direct_metadata(), GET, choice, CALLERS, seconds / 2
    )
    direct = _read(scene, "GetTrade direct to the service", direct_load)
    echoed = _echo(scene, seconds / 2)
    report = Report("unary", _figures(seconds, made, echoed, through, direct))
    report.notes["cpu_us_a_call"] = {
        role: 1e6 * each / made.answered for role, each in spent.items()
    }
    return report


def _read(scene: Scene, name: str, load: Load) -> Answers:
    answers = callers.call(load, PROCESSES)
    if answers.errors:
        raise Wrong(f"{name}: calls failed: {answers.errors.most_common(3)}")
    scene.say(f"{name}: {answers.text()}")
    return answers


def _echo(scene: Scene, seconds: float) -> Answers:
    """Call a service that does nothing, behind an Envoy of the same configuration."""
    with echo.echoing(scene.stack.settings.port_offset) as stack:
        same = Scene(stack, scene.quick)
        asyncio.run(_until_open(same))
        load = create(same.target, same.metadata(), "echo", callers=CALLERS, seconds=seconds)
        return _read(scene, "CreateTrade of the echo through Envoy", load)


async def _until_open(scene: Scene) -> None:
    """Wait until Envoy knows that the echo is well."""
    async with scene.edge() as edge:
        await edge.call(edge.trades.CreateTrade, day.trade("echo", 0))


def _figures(
    seconds: float, made: Answers, echoed: Answers, through: Answers, direct: Answers
) -> list[Figure]:
    how = (
        f"{CALLERS} callers in {PROCESSES} processes of Python's gRPC on the same machine for "
        f"{seconds:.0f} s, each waits for its answer; the echo answers the same requests behind "
        "the same Envoy configuration without booking"
    )
    read = (
        "the same callers for half the time, through Envoy; each GetTrade asks position and "
        "ledger too; the reference goes to the service's port: what Envoy costs"
    )
    return [
        Figure("CreateTrade, 64 callers", made.rate, "/s", how, RATE,
               Reference("echo", echoed.rate, "/s")),
        Figure("CreateTrade, 64 callers, p95", made.ms(95), "ms", how, P95,
               Reference("echo", echoed.ms(95), "ms")),
        Figure("GetTrade, 64 callers", through.rate, "/s", read, None,
               Reference("direct", direct.rate, "/s")),
        Figure("GetTrade, 64 callers, p95", through.ms(95), "ms", read, None,
               Reference("direct", direct.ms(95), "ms")),
    ]  # fmt: skip
