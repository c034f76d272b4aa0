"""What goes to stderr with JSON: one object a line, whoever speaks, in a process of its own."""

import json
import subprocess
from typing import Any

from tests.support.processes import PROJECT, python

HEAD = """
import asyncio, gc, logging, sys, threading, warnings
import structlog
from common.logs import LogFormat, configure_logs
configure_logs(LogFormat.{form}, "{level}")
log = structlog.get_logger()
"""


def said_by(script: str, *, form: str = "JSON", level: str = "INFO") -> tuple[int, str]:
    """The exit status and all of stderr of a process that sets up its logs and then does this."""
    done = subprocess.run(
        python("-c", HEAD.format(form=form, level=level) + script),
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


def lines_of(script: str, **how: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in said_by(script, **how)[1].splitlines()]
    assert all({"timestamp", "level", "event"} <= line.keys() for line in lines), lines
    return lines


def test_libraries_and_warnings_speak_as_we_do_and_name_the_request() -> None:
    line, told, warned = lines_of(
        "structlog.contextvars.bind_contextvars(request='r1')\n"
        "log.info('request_ended', request='r1')\n"
        "logging.getLogger('aiohttp').error('lost\\n%s', 'a line')\n"
        "logging.getLogger('aiohttp').info('not of interest')\n"
        "warnings.warn('an old call', DeprecationWarning, stacklevel=1)\n"
    )
    assert (line["event"], line["request"]) == ("request_ended", "r1")
    assert told | {"event": "library", "logger": "aiohttp", "level": "error", "request": "r1"} == told
    assert told["message"] == "lost\na line"
    assert warned["logger"] == "py.warnings"
    assert "an old call" in warned["message"]


def test_a_crash_is_a_line_with_its_traceback() -> None:
    status, said = said_by("1 / 0")
    line = json.loads(said)
    assert (status, line["event"], line["level"]) == (1, "crashed", "critical")
    assert line["exception"].endswith("ZeroDivisionError: division by zero")


def test_so_is_that_of_a_thread_of_a_forgotten_task_and_of_a_destructor() -> None:
    lines = lines_of(
        "thread = threading.Thread(target=lambda: 1 / 0, name='t')\n"
        "thread.start()\n"
        "thread.join()\n"
        "async def fail(): 1 / 0\n"
        "async def main():\n"
        "    task = asyncio.create_task(fail())\n"
        "    await asyncio.sleep(0)\n"
        "    await asyncio.sleep(0)\n"
        "    del task\n"
        "    gc.collect()\n"
        "asyncio.run(main())\n"
        "class Bad:\n"
        "    def __del__(self): 1 / 0\n"
        "Bad()\n"
    )
    assert [line["event"] for line in lines] == ["thread_crashed", "library", "exception_ignored"]
    assert lines[0]["thread"] == "t"
    assert lines[1]["message"].startswith("Task exception was never retrieved")
    assert all("ZeroDivisionError" in line["exception"] for line in lines)


def test_what_json_cannot_hold_is_told_all_the_same() -> None:
    (line,) = lines_of("log.warning('reply_unreadable', error='\\ud800', at=2**70, kind=object)")
    assert line["at"] == 2**70
    assert line["error"] == "\ud800"


def test_a_level_holds_for_libraries_too_and_none_tells_less_than_warnings() -> None:
    say = "log.info('a')\nlog.error('b')\nlogging.getLogger('x').warning('c')\nlogging.getLogger('x').error('d')\n"
    assert [line.get("message", line["event"]) for line in lines_of(say)] == ["a", "b", "c", "d"]
    assert [line.get("message", line["event"]) for line in lines_of(say, level="ERROR")] == ["b", "d"]
    assert [line.get("message", line["event"]) for line in lines_of(say, level="DEBUG")] == ["a", "b", "c", "d"]


def test_set_up_twice_it_says_everything_once() -> None:
    assert len(lines_of("configure_logs(LogFormat.JSON, 'INFO')\nlogging.getLogger('x').error('d')")) == 1


def test_for_the_eye_a_library_speaks_in_the_same_columns_and_a_crash_as_python_has_it() -> None:
    _, said = said_by("logging.getLogger('x').error('lost %s', 1)\n1 / 0", form="CONSOLE")
    first, second, *_ = said.splitlines()
    assert "[error    ] library" in first
    assert first.endswith("logger=x message=lost 1")
    assert second == "Traceback (most recent call last):"
