"""The blocks of code in a page, and how to run them as a reader would, in terminals of one machine."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.markdown import tokens
from tests.support.processes import until

RUN_LIMIT_S, READY_LIMIT_S, END_LIMIT_S = 90.0, 90.0, 10.0


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the line on which it begins."""

    language: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """Every block of a page that names a language; pictures made of letters name none."""
    fences = [token for token in tokens(page) if token.type == "fence" and token.info]
    return [Block(token.info, token.content, (token.map or [0])[0] + 1) for token in fences]


@dataclass(frozen=True)
class Command:
    """A line behind a prompt, and what the page shows as its answer."""

    line: str
    shown: tuple[str, ...]


def commands(block: Block) -> list[Command]:
    """The commands of a block of a console."""
    parts = re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]
    split = [part.rstrip().split("\n") for part in parts]
    return [Command(lines[0], tuple(line for line in lines[1:] if line.strip(" …"))) for lines in split]


def first_words(shown: str) -> list[str]:
    """What of a shown line must be in the true answer: what each of its parts begins with, however it is set."""
    return [part.split()[0] for part in shown.split(" · ")]


@dataclass
class Terminals:
    """Terminals of a machine: one folder, one environment; what runs for ever goes on in its own."""

    folder: Path
    env: dict[str, str]
    _running: list[tuple[subprocess.Popen[bytes], Path]] = field(default_factory=list)

    def run(self, text: str, env: Mapping[str, str]) -> str:
        """Run it to its end; what it printed. Fails unless it ends well."""
        done = subprocess.run(
            self._shell(text),
            cwd=self.folder,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=RUN_LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, f"{text}\nended with {done.returncode}:\n{done.stdout[-4000:]}"
        return done.stdout

    def serve(self, text: str, ready: str, env: Mapping[str, str]) -> str:
        """Start what runs for ever, and wait until it says that it is ready; what it said so far."""
        log = self.folder / f"terminal-{len(self._running)}-{time.monotonic_ns()}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                self._shell(text),
                cwd=self.folder,
                env={**self.env, **env},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._running.append((process, log))

        def is_ready() -> bool:
            assert process.poll() is None, f"{text}\nended with {process.returncode}:\n{log.read_text()[-4000:]}"
            return ready in log.read_text()

        until(is_ready, READY_LIMIT_S, lambda: f"{text}\ndoes not say {ready!r}:\n{log.read_text()[-4000:]}")
        return log.read_text()

    def interrupt(self) -> list[float]:
        """Ctrl-C in every terminal in which something runs, the last one first; how long each took, in seconds."""
        took = []
        while self._running:
            process, log = self._running.pop()
            begun = time.monotonic()
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(END_LIMIT_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise AssertionError(f"Ctrl-C did not end it:\n{log.read_text()[-4000:]}") from None
            took.append(time.monotonic() - begun)
        return took

    @staticmethod
    def _shell(text: str) -> list[str]:
        return ["bash", "-euo", "pipefail", "-c", text]
