"""`ghub up`: the whole grid on one machine, until told to stop."""

import asyncio
import os

import httpx2

from ghub import ports, probes
from ghub.errors import StackFailed
from ghub.processes.keeper import Limits
from ghub.processes.signals import ignore_signals, on_signals
from ghub.processes.supervisor import Supervisor
from ghub.settings import UpSettings
from ghub.up.announcer import Announcer
from ghub.up.data_dir import DataDir, locked_data_dir
from ghub.up.stack import Stack, plan_stack

_POLL_S = 0.1


def run(settings: UpSettings) -> int:
    """Start the stack and keep it up until SIGINT, SIGTERM or SIGHUP.

    Returns:
        0 after a stop that was asked for.

    Raises:
        StartRefused: something must be changed before anything can be started.
        StackFailed: a part does not come up; whatever ran has been ended.
    """
    os.umask(0o077)  # logs and the broker's file hold what users wrote
    with locked_data_dir(settings.data_dir) as data_dir:
        ports.check_free(settings.host, settings.port)
        asyncio.run(_serve(settings, data_dir))
    return 0


async def _serve(settings: UpSettings, data_dir: DataDir) -> None:
    stop = asyncio.Event()
    announcer = Announcer()
    async with probes.http_client() as client:
        stack = await plan_stack(settings, data_dir, client)
        limits = Limits(log_limit_bytes=settings.log_limit_mib * 1024 * 1024)
        supervisor = Supervisor(stack.parts, log_dir=data_dir.logs, report=announcer.report, limits=limits)
        on_signals(stop, supervisor.hurry)
        announcer.begin(stack, data_dir.path)
        supervisor.start()
        ending = asyncio.create_task(supervisor.until(stop))
        getting_ready = asyncio.create_task(_get_ready(settings, stack, supervisor, client))
        try:
            await asyncio.wait({ending, getting_ready}, return_when=asyncio.FIRST_COMPLETED)
            if not ending.done():
                needs_key = not await probes.is_ok(client, f"{stack.base_url}/v1/models")
                announcer.ready(stack, getting_ready.result(), data_dir, needs_key=needs_key)
                supervisor.mark_ready()
            await ending
        finally:
            ending.cancel()
            getting_ready.cancel()
            announcer.stopping()
            await supervisor.stop()
            announcer.stopped()
            ignore_signals()


async def _get_ready(
    settings: UpSettings, stack: Stack, supervisor: Supervisor, client: httpx2.AsyncClient
) -> list[str]:
    """Wait until the hubs serve models, and return their names.

    Raises:
        StackFailed: it takes too long; says what is missing.
    """
    try:
        async with asyncio.timeout(settings.start_timeout_s):
            return await _first_models(stack, client, looks=settings.hubs * 2 - 1)
    except TimeoutError:
        late = supervisor.unhealthy()
        name = late[0].name if late else "provider"
        what = f"{name} does not come up" if late else f"no model is served by {stack.engine.url}"
        lines = "".join(f"\n  {name}: {line}" for line in supervisor.last_lines(name))
        raise StackFailed(f"not ready after {settings.start_timeout_s:g} s: {what}{lines}") from None


async def _first_models(stack: Stack, client: httpx2.AsyncClient, looks: int) -> list[str]:
    """Wait until hubs are ready and list a model, `looks` times in a row: hubs that share a port answer by turns."""
    models: list[str] = []
    seen = 0
    while seen < looks:
        if await probes.is_ok(client, f"{stack.base_url}/health/ready"):
            models = await probes.served(client, stack.base_url, stack.admin_token)
        else:
            models = []
        seen = seen + 1 if models else 0
        if not models:
            await asyncio.sleep(_POLL_S)
    return models
