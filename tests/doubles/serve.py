"""`python -m tests.doubles.serve --kind ollama --port 0` prints `listening <url>` and serves until SIGTERM."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Mapping, Sequence

from aiohttp import web

from tests.doubles.engine import Engine
from tests.doubles.llamacpp import LlamaCpp
from tests.doubles.lmstudio import LMStudio
from tests.doubles.models import Model, Options
from tests.doubles.ollama import Ollama
from tests.doubles.vllm import VLLM

KINDS: Mapping[str, type[Engine]] = {
    "openai": Engine,
    "ollama": Ollama,
    "vllm": VLLM,
    "llamacpp": LlamaCpp,
    "lmstudio": LMStudio,
}


async def _serve(options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    if options.until_stdin_closes:
        # Nothing is ever sent on it: it becomes readable when the parent, however it ends, is gone.
        loop.add_reader(sys.stdin.fileno(), stop.set)
    models = [Model.read(word) for word in options.model or ["tiny:1b"]]
    lacks = frozenset(options.lacks or ())
    engine = KINDS[options.kind](Options(models, options.slots, options.api_key, options.engine_version, lacks))
    runner = web.AppRunner(engine.app(), access_log=None, handler_cancellation=True, shutdown_timeout=0.05)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", options.port, backlog=1024).start()
        print(f"listening http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
        await stop.wait()
    finally:
        await runner.cleanup()


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.doubles.serve", description="The test engine.")
    parser.add_argument("--kind", choices=KINDS, default="openai", help="whose surface it has")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--model", action="extend", nargs="+", help="names, or JSON objects of Model's fields")
    parser.add_argument("--slots", type=int, help="generations that run at once; more wait in line")
    parser.add_argument("--api-key", help="refuse requests without this Bearer key")
    parser.add_argument("--engine-version", default="", help="what it says of itself")
    parser.add_argument("--lacks", action="extend", nargs="+", help="paths that it does not serve")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end with the parent process")
    asyncio.run(_serve(parser.parse_args(arguments)))


if __name__ == "__main__":
    main()
