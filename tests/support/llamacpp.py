"""The real llama.cpp with its small model, as `ghub up` starts it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.call import is_ok
from tests.support.ports import free_port
from tests.support.processes import Process, python, until

MODEL = "smollm2:135m"


@contextmanager
def real_llamacpp(folder: Path, slots: int) -> Iterator[str]:
    """Its URL, once it answers; its log lies in the folder."""
    port = str(free_port())
    url = f"http://127.0.0.1:{port}"
    argv = python("-m", "ghub.up.engine", "--port", port, "--slots", str(slots))
    process = Process("llama.cpp", argv, folder / "llamacpp.log")
    try:
        until(lambda: is_ok(url, "/health"), 60, process.tail)
        yield url
    finally:
        process.stop()
