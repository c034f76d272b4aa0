"""One event word and fields a line, as JSON or for the eye, to stderr. Never a prompt, a key or a token."""

import logging
import sys
from enum import StrEnum

import orjson
import structlog


class LogFormat(StrEnum):
    """How log lines look."""

    CONSOLE = "console"
    JSON = "json"


def render_plainly(_logger: object, _method: str, line: structlog.types.EventDict) -> str:
    """What structlog's renderer for consoles shows without colours, at a fifth of its time (3 us against 16)."""
    time, level, event = line.pop("timestamp", ""), line.pop("level", ""), line.pop("event", "")
    exception = line.pop("exception", None)
    told = " ".join(f"{name}={said if isinstance(said, str) else repr(said)}" for name, said in sorted(line.items()))
    shown = f"{time} [{level:<9}] {event:<24} {told}".rstrip()
    return shown if exception is None else f"{shown}\n{exception}"


def configure_logs(log_format: LogFormat, level: str) -> None:
    """Set up logging of this process; called once by each process' entry point."""
    renderer: structlog.types.Processor
    if log_format is LogFormat.JSON:
        renderer = structlog.processors.JSONRenderer(lambda line, **_: orjson.dumps(line, default=str).decode())
    elif sys.stderr.isatty():
        renderer = structlog.dev.ConsoleRenderer(pad_event_to=24)
    else:
        renderer = render_plainly
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")
