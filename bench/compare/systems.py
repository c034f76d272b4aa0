"""The systems that are compared, each in front of the same engine. One that cannot be had is left out, and says why."""

import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from bench.compare.ours import ours
from bench.compare.peers import direct, litellm, nginx, portkey, vllm_router
from bench.compare.system import System
from tests.support.processes import PROJECT, python

Opening = Callable[[int, Path], AbstractContextManager[System]]
"""Starts a system in front of the engine on a port, with a folder for its files; NotHere if it cannot be had."""

ALL: Mapping[str, Opening] = {
    "direct": direct,
    "nginx": nginx,
    "vllm-router": vllm_router,
    "Portkey": portkey,
    "LiteLLM": litellm,
    "GhubAi": ours,
}


@contextmanager
def engine(models: int = 1) -> Iterator[int]:
    """The engine, which lists so many models; its port."""
    argv = python("-m", "bench.compare.engine", str(models))
    with subprocess.Popen(argv, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline().split()[-1])  # it ends with its standard input
