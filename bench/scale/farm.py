"""Many nodes in one process: real providers with connections of their own, over an engine that answers from constants.

    python -m bench.scale.farm URL --nodes 500 --first 0 --models a,b,c --per-node 3 --slots 4 --answer-ms 0

Each node has the provider's own presence, control, claim loop, runner and writer; only the engine and the GPU are not
real. What each answer says: who made it, and when it was asked.
"""

import argparse
import asyncio
import gc
import resource
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import orjson
import uvloop

from common.broker.broker import Broker, connect
from common.endpoints import Capability
from common.logs import LogFormat, configure_logs
from common.signing import SigningKeys
from common.streams.jobs import JobLanes
from common.tasks import Crew
from common.telemetry.port import NO_TRACING
from common.types import ModelId, NodeId
from provider.engines.watch import EngineWatch
from provider.gate.gate import Gate
from provider.gate.gpu import GpuWatch
from provider.gate.readings import GpuSnapshot
from provider.gate.room import ModelRoom
from provider.machine import Machine
from provider.membership.access import SharedAccess
from provider.membership.joining import Footing
from provider.protocol.engine import EngineStatus, ModelInfo, Question
from provider.settings import ProviderSettings
from provider.slots import Slots
from provider.standing import Standing
from provider.telemetry.trail import Trails
from provider.worker import Worker

ENTERING_AT_ONCE = 10


class ConstantAnswer:
    """What the engine says."""

    status = 200
    content_type = "application/json"
    usage = None

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def chunks(self) -> AsyncIterator[bytes]:
        """All of it."""
        yield self._body


class ConstantEngine:
    """Answers after a set time with who it is and when it was asked, on this machine's monotonic clock."""

    def __init__(self, node: str, answer_s: float) -> None:
        self._node = node
        self._answer_s = answer_s

    @asynccontextmanager
    async def ask(self, question: Question) -> AsyncIterator[ConstantAnswer]:
        """One answer."""
        asked_at_ns = time.monotonic_ns()
        if self._answer_s:
            await asyncio.sleep(self._answer_s)
        usage = {"prompt_tokens": 1, "completion_tokens": 1}
        answer = {"id": question.id, "node": self._node, "asked_at_ns": asked_at_ns, "choices": [], "usage": usage}
        yield ConstantAnswer(orjson.dumps(answer))

    async def aclose(self) -> None:
        """Nothing to close."""


class ConstantWatch(EngineWatch):
    """An engine that is always there."""

    def __init__(self, settings: ProviderSettings, models: Sequence[ModelId], answer_s: float) -> None:
        super().__init__(settings.engine, settings.slots, lambda: None)
        self._constant = ConstantEngine(settings.name, answer_s)
        infos = tuple(ModelInfo(model, is_loaded=True) for model in models)
        self._told = EngineStatus(
            "vllm", "http://127.0.0.1:1", "1", infos, frozenset({Capability.CHAT}), settings.slots
        )

    @property
    def current(self) -> ConstantEngine:  # type: ignore[override]
        return self._constant

    @property
    def status(self) -> EngineStatus:
        return self._told


class NoGpu:
    """A machine without one."""

    def sample(self) -> GpuSnapshot:
        """Nothing to read."""
        return GpuSnapshot(error="none")

    def close(self) -> None:
        """Nothing to close."""


def make_node(options: argparse.Namespace, common: ProviderSettings, number: int) -> tuple[Worker, Broker]:
    """One node that does not work yet."""
    name, gate = f"node-{number:04}", Gate()
    settings = common.model_copy(update={"name": name})
    models = [ModelId(options.models[(number + step) % len(options.models)]) for step in range(options.per_node)]
    is_quick = number % 10 < options.quick_of_ten
    engine = ConstantWatch(settings, models, options.answer_ms / 1000 / (2 if is_quick else 1))
    slots = Slots(lambda: engine.slots)
    gpu = GpuWatch(NoGpu(), settings.gate, gate=gate, slots=slots, engine=engine, on_owner=lambda: None)
    for reason in gate.reasons:  # what the GPU's first reading would clear
        gate.set(reason, holds=False)
    broker = connect(settings.redis_url, prefix=settings.prefix, client_name=name)
    signing = SigningKeys.parse(settings.signing_key)
    access = SharedAccess(JobLanes(broker), lambda: engine.models, signing, NodeId(name))
    machine = Machine(gate, slots, engine, gpu, ModelRoom(settings.gate, gpu, engine, gate))
    worker = Worker(
        Footing(settings, broker, access),
        machine,
        Standing(NodeId(name), settings, machine),
        f"farm-{number}",
        trails=Trails(NO_TRACING, NodeId(name), engine),
        on_registered=lambda: None,
    )
    return worker, broker


async def run_node(
    options: argparse.Namespace, common: ProviderSettings, number: int, entering: asyncio.Semaphore
) -> None:
    """One node until cancelled. They enter a few at a time, or the last ones would wait past their time limits."""
    crew, stop = Crew(), asyncio.Event()
    async with entering:
        worker, broker = make_node(options, common, number)
        await worker.enter(stop)
    try:
        worker.start(crew)
        await crew.until(stop)
    finally:
        await crew.stop()
        await broker.aclose()


async def run(options: argparse.Namespace) -> None:
    """All nodes until SIGTERM or SIGINT; then their connections end, as those of machines that lose their power."""
    entering = asyncio.Semaphore(ENTERING_AT_ONCE)
    common = ProviderSettings(redis_url=options.url, slots=options.slots)
    numbers = range(options.first, options.first + options.nodes)
    nodes = asyncio.gather(*(run_node(options, common, number, entering) for number in numbers))
    for one in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(one, nodes.cancel)
    with suppress(asyncio.CancelledError):
        await nodes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--nodes", type=int, default=10)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--models", type=lambda text: text.split(","), default=["tiny:1b"])
    parser.add_argument("--per-node", type=int, default=1)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--answer-ms", type=float, default=0)
    parser.add_argument("--quick-of-ten", type=int, default=0, help="so many of ten nodes answer twice as fast")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    configure_logs(LogFormat.CONSOLE, "ERROR")
    gc.disable()  # one pass over so many nodes would stop all of them at once, which no real node knows
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(options))


if __name__ == "__main__":
    main()
