"""Looks at what a provider talks to: its hub and its broker."""

import httpx2

from common.broker.broker import connect
from common.broker.facts import concerns, read_facts
from common.errors import BrokerError, SettingsError
from ghub import probes
from ghub.checking.findings import Finding
from ghub.client.answers import json_object, refusal
from provider.config.reading import Configuration
from provider.config.words import without_password
from provider.membership.access import is_bare
from provider.settings import ProviderSettings

NO_TOKEN = "invalid_token"  # noqa: S105 - the code of a refusal
NOT_OURS = "node_of_another_token"


async def check_hub(configuration: Configuration) -> Finding:
    """Whether the hub is there and takes this provider's token."""
    settings = configuration.settings
    if settings.hub_url is None:
        return Finding.ok("none is set: no reports are sent, and direct calls are not checked at a hub")
    url = without_password(settings.hub_url)
    async with probes.http_client() as client:
        try:
            ready = await client.get(f"{settings.hub_url.rstrip('/')}/health/ready")
            answer = await _ask(client, settings)
        except (httpx2.HTTPError, httpx2.InvalidURL) as exc:
            return Finding.fail(
                f"{url}: {str(exc) or type(exc).__name__}", "is provider.url right, and the hub running?"
            )
    if ready.status_code != httpx2.codes.OK:
        return Finding.warn(f"{url} answered {ready.status_code} to /health/ready", "is its broker there?")
    return _judged(url, settings, answer)


async def _ask(client: httpx2.AsyncClient, settings: ProviderSettings) -> httpx2.Response:
    """Ask about an HMAC that cannot be right: the hub looks at the token first, and nothing is changed."""
    headers = {"Authorization": f"Bearer {settings.token.get_secret_value()}"} if settings.token else {}
    question = {"hmac": "none", "node": settings.name, "endpoint": "/v1/chat/completions", "body_sha256": "0" * 64}
    url = f"{(settings.hub_url or '').rstrip('/')}/api/provider/validate_hmac"
    return await client.post(url, json=question, headers=headers)


def _judged(url: str, settings: ProviderSettings, answer: httpx2.Response) -> Finding:
    code = _code(answer)
    if code == "provider_tokens_not_set":
        return Finding.fail(f"{url} has no provider tokens", "set GHUB_HUB_PROVIDER_TOKENS on the hub")
    if settings.token is None:
        return Finding.fail(
            f"{url} is there, but there is no token for it", "set provider.api_key or GHUB_PROVIDER_TOKEN"
        )
    if code == NO_TOKEN:
        return Finding.fail(
            f"{url} does not take this provider's token",
            "compare it with GHUB_HUB_PROVIDER_TOKENS, or make one with `ghub token create`",
        )
    if code == NOT_OURS:
        return Finding.fail(
            f"{url} knows another provider by the name {settings.name!r}, with another token", "choose another name"
        )
    if code or answer.status_code == httpx2.codes.OK:
        return Finding.ok(f"{url} is ready and takes the token")
    return Finding.warn(f"{url} answered {answer.status_code} to a provider's question", "is this a GhubAi hub?")


def _code(answer: httpx2.Response) -> str:
    """That of an error, or why an HMAC is none."""
    error = refusal(answer)
    return error.code if error is not None else str((json_object(answer) or {}).get("code") or "")


def _bare(settings: ProviderSettings) -> Finding:
    text = f"{without_password(settings.redis_url)}: passwords, prompts and answers would cross the network in clear"
    advice = "give the broker TLS and name it with rediss://, or leave redis.url out and let the hub name it"
    return Finding.fail(text, advice) if settings.require_broker_tls else Finding.warn(text, advice)


async def check_broker(configuration: Configuration) -> Finding:
    """Whether the broker answers, and keeps what it is given."""
    settings = configuration.settings
    if settings.registers:
        # It would have to register to know: a provider of this name that runs already would be cut in on.
        return Finding.ok("none is set: the hub names it when this provider registers")
    if is_bare(settings.redis_url) and (settings.require_broker_tls or (settings.hub_url or "").startswith("https:")):
        return _bare(settings)
    url = without_password(settings.redis_url)
    try:
        broker = connect(settings.redis_url, prefix=settings.prefix, client_name="ghub-check")
    except SettingsError as exc:
        return Finding.fail(str(exc), "see redis.url or GHUB_REDIS_URL")
    try:
        facts = await read_facts(broker)
    except BrokerError as exc:
        return Finding.fail(f"{url}: {exc}", "is redis.url (GHUB_REDIS_URL) right, and the broker running?")
    finally:
        await broker.aclose()
    what = f"{facts.product} {facts.version}".strip() + f" at {url}"
    if found := [*concerns(facts)]:
        text, advice = ", ".join(one.text for one in found), "; ".join(one.advice for one in found)
        return Finding.warn(f"{what} {text}", advice)
    untold = f"; it does not tell its {', '.join(facts.untold)}" if facts.untold else ""
    return Finding.ok(what + untold)
