"""Programs that some tests need beside Python: without them a test is skipped here and fails in CI."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

NPM_LIMIT_S = 45
"""Less than a test has."""


def tool(name: str, package: str) -> str:
    """Path of a program, looked for beside this interpreter and on PATH; `package` is what brings it."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.is_file() else shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    return found or without(f"no {name} on PATH ({package})")


def without(message: str) -> NoReturn:
    """What a test does that cannot run here."""
    pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)


def npm_package(package: str, folder: Path) -> Path:
    """The folder of a package such as `axe-core@4.14.1`, installed below `folder` unless it is there already."""
    there = folder / "node_modules" / package.partition("@")[0]
    if there.is_dir():
        return there
    argv = [tool("npm", "npm"), "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", ".", package]
    env = {**os.environ, "npm_config_update_notifier": "false"}
    try:
        done = subprocess.run(
            argv, cwd=folder, capture_output=True, text=True, timeout=NPM_LIMIT_S, check=False, env=env
        )
    except subprocess.TimeoutExpired:
        without(f"npm did not install {package} within {NPM_LIMIT_S} s")
    if done.returncode != 0:
        without(f"npm could not install {package}: {done.stderr[-1000:]}")
    return there


def ended_well(argv: list[str], **env: str) -> str:
    """Run a program that looks at files; what it said. AssertionError if it is not content."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False, env={**os.environ, **env})
    assert done.returncode == 0, f"{' '.join(argv)}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
    return done.stdout + done.stderr
