"""Programs that some tests need beside Python: without them a test is skipped here and fails in CI."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest


def tool(name: str, package: str) -> str:
    """Path of a program, looked for beside this interpreter and on PATH; `package` is what brings it."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.is_file() else shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    return found or without(f"no {name} on PATH ({package})")


def without(message: str) -> NoReturn:
    """What a test does that cannot run here."""
    pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)


def ended_well(argv: list[str], **env: str) -> str:
    """Run a program that looks at files; what it said. AssertionError if it is not content."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False, env={**os.environ, **env})
    assert done.returncode == 0, f"{' '.join(argv)}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
    return done.stdout + done.stderr
