"""`ghub hub --workers N`: hub processes that share a port, kept alive until told to stop.

Each is a hub of its own, with its own connections and its own name in the grid; the system hands each new connection to
one of them. They write where this process does.
"""

import asyncio
import sys
from functools import partial
from tempfile import TemporaryDirectory

import httpx2
import structlog

from common.broker.broker import connect
from common.logs import configure_logs
from ghub import ports, probes
from ghub.errors import EXIT_REFUSED
from ghub.processes.child import Part
from ghub.processes.events import Died, Event, Killed
from ghub.processes.signals import ignore_signals, on_signals
from ghub.processes.supervisor import Supervisor
from hub.settings import HubSettings

log = structlog.get_logger()

STOP_GRACE_S = 5.0
"""Beyond what a hub may take to finish its answers, before it is killed."""


def run_workers(settings: HubSettings, workers: int) -> int:
    """Start so many hubs and keep them up until SIGINT, SIGTERM or SIGHUP.

    Returns:
        0 after a stop that was asked for.

    Raises:
        SettingsError: the broker's URL is none.
        StartRefused: the port cannot be used.
        StackFailed: a hub does not come up; the others have been ended.
    """
    configure_logs(settings.log_format, settings.log_level)
    connect(settings.redis_url, prefix=settings.prefix, client_name="ghub")  # says here what each hub would say
    if settings.port:
        ports.check_free(settings.host, settings.port)
    else:
        settings = settings.model_copy(update={"port": ports.free_port(0, ports.listening(settings.host))})
    with TemporaryDirectory(prefix="ghub-metrics-") as metrics:
        asyncio.run(_serve(settings, workers, metrics))
    return 0


async def _serve(settings: HubSettings, workers: int, metrics: str) -> None:
    stop = asyncio.Event()
    async with probes.http_client() as client:
        parts = [_worker(settings, number, metrics, client) for number in range(1, workers + 1)]
        supervisor = Supervisor(parts, log_dir=None, report=_tell)
        on_signals(stop, supervisor.hurry)
        supervisor.start()
        getting_ready = asyncio.create_task(_mark_ready(supervisor))
        try:
            await supervisor.until(stop)
        finally:
            getting_ready.cancel()
            await supervisor.stop()
            ignore_signals()


def _worker(settings: HubSettings, number: int, metrics: str, client: httpx2.AsyncClient) -> Part:
    return Part(
        name=f"hub-{number}",
        argv=(sys.executable, "-P", "-m", "hub"),
        env={
            "GHUB_REDIS_URL": settings.redis_url,
            "GHUB_HUB_HOST": settings.host,
            "GHUB_HUB_PORT": str(settings.port),
            "GHUB_HUB_REUSE_PORT": "1",
            "PROMETHEUS_MULTIPROC_DIR": metrics,  # so that whichever is asked tells the sums of all
        },
        probe=partial(probes.is_ok, client, f"{ports.near_url(settings.host, settings.port)}/health/live"),
        stop_timeout_s=settings.shutdown_delay_s + settings.shutdown_timeout_s + STOP_GRACE_S,
        fatal_exit_codes=frozenset({EXIT_REFUSED}),
    )


async def _mark_ready(supervisor: Supervisor) -> None:
    await supervisor.healthy()
    supervisor.mark_ready()


def _tell(event: Event) -> None:
    match event:
        case Died(part, why, _, restart_in_s):
            log.warning("hub_ended", worker=part.name, why=why, restart_in_s=restart_in_s and round(restart_in_s, 1))
        case Killed(part):
            log.warning("hub_killed", worker=part.name, hint="it did not end in time")
        case _:  # hubs tell of their own beginning and end
            pass
