"""What `ghub up` says on standard output: lines for people, and one that scripts wait for."""

import json
import shlex
from pathlib import Path
from typing import assert_never

from rich.console import Console
from rich.markup import escape
from rich.status import Status

from common.addresses import is_loopback
from ghub import ports
from ghub.processes.child import Part
from ghub.processes.events import Died, Event, Healthy, Killed, Started
from ghub.settings import UpSettings
from ghub.showing.standard_streams import give_up_output
from ghub.up.data_dir import DataDir
from ghub.up.stack import Stack

MOST_TOKENS = 200
"""Of the answer to the line that is printed to copy: a small model doesn't know when to stop (seen: minutes)."""
_KEY_HEADER = ' -H "Authorization: Bearer $GHUB_API_KEY"'


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
            self._say(f"broker    {escape(stack.broker.shown)}  [dim]runs already[/]")
        for concern in stack.broker.concerns:
            self._say(f"[yellow]broker {escape(concern.text)}[/]: {escape(concern.advice)}")
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

    def ready(self, stack: Stack, models: list[str], data_dir: DataDir, *, needs_key: bool) -> None:
        """Say that the stack works, and how to use it. The first line's form is relied upon by scripts."""
        self._end_status()
        self._write(f"ready {stack.base_url}/v1")
        self._write(f"dashboard {stack.base_url}/")
        messages = [{"role": "user", "content": "Tell me a story."}]
        body = {"model": models[0], "stream": True, "max_tokens": MOST_TOKENS, "messages": messages}
        self._write("")
        self._write(
            f"  curl -N {stack.base_url}/v1/chat/completions -H 'Content-Type: application/json'"
            f"{_KEY_HEADER if needs_key else ''} -d {shlex.quote(json.dumps(body, ensure_ascii=False))}"
        )
        self._write(f"  {stack.broker.redis_cli} --scan --pattern {shlex.quote(stack.prefix + '*')}")
        self._write(f"  tail -F {shlex.quote(str(data_dir.logs))}/*.log")
        self._write("")
        command = f"{_command_env(stack, data_dir)}ghub"
        if not is_loopback(stack.settings.host):
            self._write_ways_in(stack, command, needs_key=needs_key)
        elif needs_key:
            self._write(f"  clients need a key of: {command} key create --name me\n")

    def _write_ways_in(self, stack: Stack, command: str, *, needs_key: bool) -> None:
        """Say what of the stack others can reach, and how to let them in."""
        urls = [f"http://{ports.netloc(host, stack.settings.port)}" for host in ports.far(stack.settings.host)]
        self._write("  open to other machines, without TLS: only on a network where nobody listens")
        with_key = f"  with a key of: {command} key create --name me" if needs_key else "  without a key"
        for url in urls:
            self._write(f"  clients   {url}/v1{with_key}")
        for url in urls:
            self._write(f"  machines  {url}  with a token of: {command} token create NAME")
        if stack.broker.part is not None:
            self._write(f"  broker    {stack.broker.part.address}  each machine gets a user of its own from a hub")
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
        give_up_output()


def _command_env(stack: Stack, data_dir: DataDir) -> str:
    """What `ghub key` and its like must know of this stack beside their defaults, as the beginning of a command."""
    default = {name: field.get_default(call_default_factory=True) for name, field in UpSettings.model_fields.items()}
    known = {
        "GHUB_DATA_DIR": (str(data_dir.path), str(default["data_dir"])),
        "GHUB_HUB_URL": (stack.base_url, f"http://{default['host']}:{default['port']}"),
    }
    return "".join(f"{name}={shlex.quote(now)} " for name, (now, usual) in known.items() if now != usual)
