"""Looks at the hub: is it ready, does it know its operator, who may ask it, and does anybody work for it."""

from typing import Any
from urllib.parse import urlsplit

import httpx2

from common import __version__
from common.addresses import is_loopback
from ghub import ports, probes
from ghub.checking.findings import Finding
from ghub.checking.hub import check_hub
from ghub.client.answers import json_object, refusal
from ghub.client.hub import ADVICE
from ghub.doctor.surroundings import Surroundings
from ghub.errors import StartRefused
from ghub.showing.printable import printable

SHOWN = 5


async def look_at_hub(here: Surroundings) -> Finding:
    """Whether it is ready, and of this version."""
    named = f" (of {here.hub_source})" if here.hub_source else ""
    try:
        answer, told = await _get(here, "/health")
    except (httpx2.HTTPError, httpx2.InvalidURL) as exc:
        why = printable(str(exc)) or type(exc).__name__
        if not here.hub_source or here.hub_source == "ghub up":
            return Finding.fail(f"no hub answers at {here.hub.url}{named}: {why}", _start(here))
        return Finding.fail(
            f"no hub answers at {here.hub.url}{named}: {why}", "is the address right, and the hub running?"
        )
    if "broker" not in told:
        return Finding.fail(f"what answers at {here.hub.url}{named} is no hub", "is the port another program's?")
    version = printable(str(told.get("version")))
    if answer.status_code != httpx2.codes.OK:
        return Finding.fail(
            f"{here.hub.url} {version} is there, but its broker is {told['broker']}", "see broker below"
        )
    if version != __version__:
        return Finding.warn(
            f"{here.hub.url} is ready; it is of version {version}, this command of {__version__}",
            "have the same version everywhere",
        )
    return Finding.ok(f"{here.hub.url}{named} is ready, version {version}")


def _start(here: Surroundings) -> str:
    return (
        "wait until it is ready, or see its logs"
        if here.up is not None
        else "run `ghub up`, or name one with --hub-url"
    )


async def look_at_operator(here: Surroundings) -> Finding:
    """Whether the hub takes our admin token."""
    try:
        answer, _ = await _get(here, "/api/queues", **here.hub.headers)
    except (httpx2.HTTPError, httpx2.InvalidURL):
        return Finding.skip("no hub to ask")
    error = refusal(answer)
    code = "" if error is None else error.code
    if answer.is_success:
        return Finding.ok(
            "the admin token is accepted" if here.has_token else "this machine may operate it without a token"
        )
    if code == "admin_token_not_set":
        return Finding.warn(
            "the hub has no admin token, so nobody operates it from afar", "set GHUB_HUB_ADMIN_TOKEN there"
        )
    if code == "invalid_token" and not here.has_token:
        return Finding.skip(f"no admin token here: {ADVICE} if this is the operator's machine")
    if code == "invalid_token":
        return Finding.fail("the hub does not take this admin token", ADVICE)
    return Finding.skip("no hub to ask")


async def look_at_clients(here: Surroundings) -> Finding:
    """Whether clients must show a key, and who can reach it."""
    try:
        _, health = await _get(here, "/health")
        answer, _ = await _get(here, "/v1/models")
        _, hubs = await _get(here, "/api/hubs", **here.hub.headers)
    except (httpx2.HTTPError, httpx2.InvalidURL):
        return Finding.skip("no hub to ask")
    needs_keys = answer.status_code == httpx2.codes.UNAUTHORIZED
    if "broker" not in health:
        return Finding.skip("no hub to ask")
    addresses = sorted({printable(str(hub["address"])) for hub in hubs.get("hubs", ()) if hub.get("address")})
    where = f"on {', '.join(addresses)}" if addresses else f"at {here.hub.url}"
    if needs_keys:
        return Finding.ok(f"it listens {where}; clients must show a key")
    hosts = [urlsplit(f"//{address}").hostname or "" for address in addresses] or [
        urlsplit(here.hub.url).hostname or ""
    ]
    if all(map(is_loopback, hosts)):
        return Finding.ok(f"it listens {where}; clients need no key, since only this machine reaches it")
    return Finding.warn(
        f"it listens {where}, and clients need no key",
        "unless something in front of it authenticates them, set GHUB_HUB_AUTH=required",
    )


async def look_at_port(here: Surroundings) -> Finding:
    """Whether the hub's port is free or its own."""
    parts = urlsplit(here.hub.url)
    if not here.is_hub_here:
        return Finding.skip("the hub is on another machine")
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    try:
        ports.check_free("127.0.0.1" if host == "localhost" else host, port)
    except StartRefused as exc:
        try:
            _, told = await _get(here, "/health")
        except (httpx2.HTTPError, httpx2.InvalidURL):
            told = {}
        if "broker" in told:
            return Finding.ok(f"{port} is the hub's")
        return Finding.fail(str(exc), f"see what has it: ss -ltnp 'sport = :{port}'")
    return Finding.ok(f"{port} is free")


async def look_at_grid(here: Surroundings) -> Finding:
    """Whether there are nodes and models."""
    try:
        answer, told = await _get(here, "/api/registry", **here.hub.headers)
    except (httpx2.HTTPError, httpx2.InvalidURL):
        return Finding.skip("no hub to ask")
    if not answer.is_success or not isinstance(told.get("nodes"), list):
        return Finding.skip("the hub tells its operator only")
    nodes, models = told["nodes"], [one for one in told.get("models", ()) if one.get("nodes")]
    if not nodes:
        return Finding.warn("no node is there: nobody works", "`ghub token create NAME` tells how a machine joins")
    working = sum(node.get("state") in ("idle", "busy") for node in nodes)
    names = [printable(str(model.get("id"))) for model in models]
    served = ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "") if names else "no model"
    text = f"{working} of {len(nodes)} node{'s' * (len(nodes) != 1)} take work; served: {served}"
    if not working:
        return Finding.warn(text, "`ghub why NODE` tells what keeps one")
    return Finding.ok(text) if names else Finding.warn(text, "give the engine a model (`ollama pull llama3.2`)")


async def look_at_membership(here: Surroundings) -> Finding:
    """Whether the provider's hub takes its token."""
    if here.configuration is None or here.up is not None or here.configuration.settings.hub_url is None:
        return Finding.skip("no provider here that joins by a hub")
    return await check_hub(here.configuration)


async def _get(here: Surroundings, path: str, **headers: str) -> tuple[httpx2.Response, dict[str, Any]]:
    async with probes.http_client() as client:
        answer = await client.get(here.hub.url + path, headers=headers)
    return answer, json_object(answer) or {}
