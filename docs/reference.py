"""Writes docs/reference.md: every route of a hub and of a provider, from their own OpenAPI descriptions.

Who may call a route is not written here: each is called without any secret, and says whose it wants.

Run it as `uv run python docs/reference.py`.
"""

import asyncio
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import structlog
from fastapi import FastAPI
from pydantic import SecretStr

from common.broker.broker import connect
from hub.app import Hub
from hub.settings import HubSettings
from provider.api.app import make_app
from provider.settings import ProviderSettings

PAGE = Path(__file__).with_name("reference.md")
OUTSIDE = ("192.0.2.7", 40_000)
"""Who asks: a machine of the documentation's network, since what comes from loopback may be let in without a secret."""

INTRO = """# Every endpoint

Made from the descriptions that hubs and providers give of themselves (`GET /openapi.json`) by
`uv run python docs/reference.py`. How they hang together, the headers and what each error means: [HTTP API](api.md);
what the operator's routes do: [operations](operations.md).

Who may call: **anybody**; a **client** shows an API key where the hub asks for one; a **provider** its token; the
**operator** the admin token. Each secret goes in `Authorization: Bearer …`. Bodies are JSON; what is listed is what the
hub itself reads, and all other fields of an inference request go to the engine as they are. A body that cannot be,
and a parameter that is wrong, is 400 with the field's name in `param`."""

HUB_INTRO = """## Hub

By default port 8080."""
PROVIDER_INTRO = """## Provider

On the machine with the GPU, port 8081 of loopback unless `server.host` says otherwise: see
[the provider's own HTTP](provider.md#its-own-http) for who may call what, and with which header."""

TITLES = {
    "inference": "Inference, OpenAI's and Anthropic's API",
    "ollama": "Ollama's API",
    "models": "Models",
    "direct": "Direct calls",
    "operations": "How it stands",
    "providers": "For providers",
    "dead jobs": "Dead jobs",
    "status": "How it stands",
    "control": "The owner's word",
}
"""Of groups whose tag says too little."""

WANTED = (("admin token", "operator"), ("provider's token", "provider"), ("API key", "client"))
"""What a refusal speaks of, and who has that."""

REFUSALS = {
    "operator": ["401 `invalid_token`, `admin_token_not_set`"],
    "provider": ["401 `invalid_token`, `provider_tokens_not_set`"],
    "client": ["401 `missing_api_key`, `invalid_api_key`, `expired_api_key`"],
    "anybody": [],
}
"""Whom a route turns away, and with what."""

ADMITTED = "403 `model_not_allowed`, 404 `model_not_found`, and what else [can happen to a request](api.md#errors)"
CODES = {
    "POST /v1/direct": "403 `model_not_allowed`, 404 `model_not_found`, 409 `direct_keys_not_set`, "
    "503 `no_direct_node`",
    "GET /v1/models/{model}": "404 `model_not_found`",
    "POST /api/show": "404 `model_not_found`",
    "GET /v1/requests/{name}/stream": "400 `invalid_position`, 404 `request_not_found`, 409 `not_resumable`, "
    "410 `request_gone`, `request_cancelled`, 429 `too_many_readers`",
    "GET /v1/requests/{name}": "404 `request_not_found`",
    "DELETE /v1/requests": "400 `invalid_request`, 404 `request_not_found`, 409 `request_is_over`",
    "DELETE /v1/requests/{name}": "404 `request_not_found`, 409 `request_is_over`",
    "GET /api/nodes/{node}": "404 `node_not_found`",
    "DELETE /api/nodes/{node}": "404 `node_not_found`",
    "POST /api/nodes/{node}/drain": "404 `node_not_found`",
    "POST /api/nodes/{node}/pause": "404 `node_not_found`",
    "POST /api/nodes/{node}/resume": "404 `node_not_found`",
    "GET /api/nodes/{node}/acl": "404 `node_not_found`",
    "GET /api/requests/{name}": "404 `request_not_found`",
    "DELETE /api/requests/{name}": "404 `request_not_found`, 409 `request_is_over`",
    "POST /api/dead/{entry}/retry": "404 `dead_job_not_found`, 409 `not_retryable`, `being_retried`",
    "DELETE /api/dead/{entry}": "404 `dead_job_not_found`",
    "POST /api/keys": "409 `name_taken`",
    "GET /api/keys/{name}": "404 `key_not_found`",
    "DELETE /api/keys/{name}": "404 `key_not_found`",
    "GET /api/keys/{name}/usage": "404 `key_not_found`",
    "POST /api/tokens": "409 `name_taken`",
    "DELETE /api/tokens/{name}": "404 `token_not_found`",
    "POST /api/provider/register": "409 `node_taken`, `name_taken`",
    "POST /api/provider/health": "403 `node_of_another_token`, 413 `request_too_large`",
    "POST /api/provider/validate_hmac": "401 with [the reason](api.md#direct-calls), 403 `node_of_another_token`",
    "GET /health": "503 without the broker",
    "GET /health/ready": "503 without the broker, and while the hub stops",
}
"""Errors beside those of every route of its kind; a test looks that each route and code named here is known."""


def page() -> str:
    """The whole page."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())  # a hub that is only looked at warns nobody
    try:
        hub, who = asyncio.run(described_hub())
    finally:
        structlog.reset_defaults()
    provider = make_app(ProviderSettings(), *([None] * 5)).openapi()  # type: ignore[arg-type] # only described
    parts = [INTRO, HUB_INTRO, *chapters(hub, who), PROVIDER_INTRO, *chapters(provider, {})]
    return "\n\n".join(part for part in parts if part) + "\n"


async def described_hub() -> tuple[dict[str, Any], dict[str, str]]:
    """A hub's description, and who may call each of its routes. No broker is asked for either."""
    settings = HubSettings(host="192.0.2.1", auth="required", admin_token=SecretStr("only-to-be-asked-for"))
    hub = Hub(settings, connect(settings.redis_url, prefix=settings.prefix, client_name="docs"))
    description = hub.app.openapi()
    return description, {route: await caller_of(hub.app, route) for route, _ in routes(description)}


async def caller_of(app: FastAPI, route: str) -> str:
    """Who may call a route, as it says itself to somebody who shows nothing."""
    method, _, path = route.partition(" ")
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False, client=OUTSIDE)
    async with httpx2.AsyncClient(transport=transport, base_url="http://192.0.2.1:8080") as caller:
        refused = await caller.request(method, path.replace("{", "").replace("}", ""))
    if refused.status_code != httpx2.codes.UNAUTHORIZED:
        return "anybody"
    for words, who in WANTED:
        if words in refused.text:
            return who
    raise ValueError(f"{route} wants something else: {refused.text}")


def routes(description: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """`METHOD /path` and its description, in the order of the application."""
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def chapters(description: dict[str, Any], who: dict[str, str]) -> Iterator[str]:
    """A chapter a tag."""
    tagged: dict[str, list[str]] = {}
    for route, operation in routes(description):
        text = "\n\n".join(section(route, operation, who.get(route), description))
        tagged.setdefault(operation["tags"][0], []).append(text)
    for tag, texts in tagged.items():
        yield f"### {TITLES.get(tag, tag.capitalize())}"
        yield from texts


def section(route: str, operation: dict[str, Any], who: str | None, description: dict[str, Any]) -> Iterator[str]:
    """One route: what it does, who may, what it takes, what it answers, how it fails."""
    yield f"#### `{route}`"
    yield operation.get("description", "").strip()
    if parameters := operation.get("parameters"):
        yield table("parameter", map(parameter_row, parameters))
    if body := operation.get("requestBody"):
        yield from body_of(body["content"]["application/json"]["schema"], description)
    yield facts(route, operation, who, description)


def body_of(schema: dict[str, Any], description: dict[str, Any]) -> Iterator[str]:
    """The fields of a body."""
    yield table("field", field_rows(schema, description, schema))
    if schema.get("additionalProperties") is False:
        yield "Other fields are refused."


def facts(route: str, operation: dict[str, Any], who: str | None, description: dict[str, Any]) -> str:
    """Who may call it, what comes back, and the codes of what may go wrong."""
    lines = [f"- Who: **{who}**"] if who else []
    for status, answer in operation["responses"].items():
        if status != "422":  # FastAPI's own form, which no route of ours answers with
            schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
            fields = ", ".join(f"`{name}`" for name in resolved(schema, description, schema).get("properties", {}))
            told = f" with {fields}" if fields else ", [its fields](operations.md#routes)" if who == "operator" else ""
            lines.append(f"- Answer: {status}{told}")
    errors = list(REFUSALS[who or "anybody"])
    if who == "client" and operation.get("requestBody") and route not in CODES:
        errors.append(ADMITTED)
    if who and (known := CODES.get(route)):
        errors.append(known)
    if errors:
        lines.append(f"- Errors: {', '.join(errors)}")
    return "\n".join(lines)


def table(head: str, rows: Iterable[str]) -> str:
    """A table of parameters or fields."""
    return f"| {head} | type | |\n|---|---|---|\n" + "\n".join(rows)


def parameter_row(parameter: dict[str, Any]) -> str:
    """One row a parameter."""
    schema = parameter["schema"]
    default = f"default `{schema['default']}`" if "default" in schema else ""
    words = [f"in the {parameter['in']}", default, parameter.get("description", "")]
    return f"| `{parameter['name']}` | {type_of(schema, {}, {})} | {'; '.join(word for word in words if word)} |"


def field_rows(
    schema: dict[str, Any], description: dict[str, Any], root: dict[str, Any], above: str = ""
) -> Iterator[str]:
    """One row a field, those of objects within it behind their names."""
    required = schema.get("required", [])
    for name, field in schema.get("properties", {}).items():
        words = ["required"] if name in required else []
        if (default := field.get("default")) not in (None, "", []):
            words.append(f"default `{default}`")
        if text := field.get("description"):
            words.append(" ".join(text.split()).rstrip("."))
        yield f"| `{above}{name}` | {type_of(field, description, root)} | {'; '.join(words)} |"
        inner, mark = (field["items"], "[].") if field.get("type") == "array" else (field, ".")
        if "$ref" in inner:
            yield from field_rows(resolved(inner, description, root), description, root, f"{above}{name}{mark}")


def type_of(schema: dict[str, Any], description: dict[str, Any], root: dict[str, Any]) -> str:
    """A type in a word or two, with its bounds."""
    if choices := schema.get("anyOf"):
        return " or ".join(type_of(one, description, root) for one in choices if one.get("type") != "null")
    schema = resolved(schema, description, root)
    if values := schema.get("enum"):
        return " or ".join(f"`{value}`" for value in values)
    if schema.get("type") == "array":
        return f"list of {type_of(schema.get('items', {}), description, root)}"
    low, high = schema.get("minimum"), schema.get("maximum")
    bounds = [f"≥ {low:.10g}"] if low is not None else []
    bounds += [f"≤ {high:.10g}"] if high is not None and high < 2**31 else []
    return " ".join([str(schema.get("type", "any")), *([f"({', '.join(bounds)})"] if bounds else [])])


def resolved(schema: dict[str, Any], description: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """What a reference stands for: a component of the description, or a part of the same body."""
    name = schema.get("$ref", "").rpartition("/")[2]
    parts = {**description.get("components", {}).get("schemas", {}), **root.get("$defs", {})}
    return dict(parts.get(name, schema))


if __name__ == "__main__":
    PAGE.write_text(page())
