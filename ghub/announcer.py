"""What `ghub up` says on standard output: lines for people, and one that scripts wait for."""

import json
import os
import shlex
import sys
from pathlib import Path
from typing import assert_never

from rich.console import Console
from rich.markup import escape
from rich.status import Status

from ghub.child import Part
from ghub.events import Died, Event, Healthy, Killed, Started
from ghub.stack import Stack

MOST_TOKENS = 200
"""Of the answer to the line that is printed to copy: a small model doesn't know when to stop (seen: minutes)."""


class Announcer:
    """Tells the life of one stack. A reader that goes away silences it and harms nothing."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._status: Status | None = None
        self._waiting: list[str] = []
        self._seen: set[str] = set()
        self._is_mute = False

    def begin(self, stack: Stack, data_dir: Path) -> None:
        """Say what is about to be started, and what is used as it is."""
        self._say(f"[dim]data      {escape(str(data_dir))}[/]")
        names = {part.name for part in stack.parts}
        if "broker" not in names:
            self._say(f"broker    {escape(stack.broker_url)}  [dim]runs already[/]")
        if "engine" not in names:
            self._say(f"engine    {escape(stack.engine.url)}  [dim]runs already: {escape(stack.engine.about)}[/]")
        else:
            self._say(f"[dim]engine    {escape(stack.engine.about)}[/]")
        self._waiting = [part.name for part in stack.parts]
        if self._console.is_terminal:
            self._status = self._console.status(self._waiting_text())
            self._status.start()

    def report(self, event: Event) -> None:
        """Tell what a part went through."""
        match event:
            case Started(part, pid):
                self._say(f"{part.name:<9} {escape(part.address)}  [dim]pid {pid}[/]")
            case Healthy(part):
                self._on_healthy(part)
            case Died(part, why, last_lines, restart_in_s):
                again = "given up" if restart_in_s is None else f"again in {restart_in_s:.1f} s"
                self._say(f"[red]{part.name} died: {why}[/]; {again}")
                for line in last_lines:
                    self._say(f"[dim]  {part.name}: {escape(line)}[/]")
            case Killed(part):
                self._say(f"[yellow]{part.name} did not end within {part.stop_timeout_s:g} s: killed[/]")
            case _:
                assert_never(event)

    def ready(self, stack: Stack, models: list[str], logs: Path) -> None:
        """Say that the stack works, and how to use it. The first line's form is relied upon by scripts."""
        self._end_status()
        self._write(f"ready {stack.base_url}/v1")
        messages = [{"role": "user", "content": "Tell me a story."}]
        body = {"model": models[0], "stream": True, "max_tokens": MOST_TOKENS, "messages": messages}
        self._write("")
        self._write(
            f"  curl -N {stack.base_url}/v1/chat/completions -H 'Content-Type: application/json'"
            f" -d {shlex.quote(json.dumps(body, ensure_ascii=False))}"
        )
        self._write(f"  redis-cli {stack.redis_cli} --scan --pattern {shlex.quote(stack.prefix + '*')}")
        self._write(f"  tail -F {shlex.quote(str(logs))}/*.log")
        self._write("")

    def stopping(self) -> None:
        """Say that the end has begun."""
        self._end_status()
        self._say("stopping")

    def stopped(self) -> None:
        """Say that nothing runs any more."""
        self._say("stopped")

    def _on_healthy(self, part: Part) -> None:
        if part.name in self._seen:
            self._say(f"{part.name} is back")
            return
        self._seen.add(part.name)
        self._waiting.remove(part.name)
        if self._status is not None:
            self._status.update(self._waiting_text())
        else:
            self._say(f"{part.name:<9} up")

    def _waiting_text(self) -> str:
        names = ("engine (loads its model)" if name == "engine" else name for name in self._waiting)
        return f"waiting for {', '.join(names) or 'the first model to be served'}"

    def _end_status(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None

    def _say(self, markup: str) -> None:
        if not self._is_mute:
            try:
                self._console.print(markup, soft_wrap=True)
            except OSError:
                self._silence()

    def _write(self, text: str) -> None:
        if not self._is_mute:
            try:
                self._console.file.write(f"{text}\n")
                self._console.file.flush()
            except OSError:
                self._silence()

    def _silence(self) -> None:
        self._is_mute = True
        self._status = None
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())  # so that Python's last flush finds nothing to complain about
        os.close(nothing)
