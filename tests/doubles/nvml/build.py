"""Compiles the stub NVML library."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SONAME = "libnvidia-ml.so.1"
_SOURCE = Path(__file__).with_name("stub.c")
_FLAGS = ("-std=c11", "-D_POSIX_C_SOURCE=200809L", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")


def build_library(folder: Path) -> Path:
    """Put the library into a folder, which is returned; without a compiler the test is skipped here and fails in CI."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        message = "no C compiler on PATH (apt-get install gcc)"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    folder.mkdir(parents=True, exist_ok=True)
    built = folder / f".{SONAME}"
    subprocess.run([compiler, *_FLAGS, "-o", built, _SOURCE], check=True, timeout=30)
    # Renamed, not written in place: a process that has the former file mapped keeps it whole.
    built.replace(folder / SONAME)
    return folder
