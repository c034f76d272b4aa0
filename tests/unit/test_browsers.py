"""A hub that asks for no key, as web pages would use it: none of another origin gets in, whatever name it gives."""

import json

import httpx2
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from hub.access.browsers import for_browsers
from hub.settings import HubSettings

OURS = "127.0.0.1:8080"
PAGE = "https://chat.example.org"


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("hello")(scope, receive, send)


def open_hub(**settings: object) -> ASGIApp:
    """In front of a hub on loopback, that asks for no key."""
    return for_browsers(hello, HubSettings.model_validate(settings))


async def ask(
    app: ASGIApp, *, host: str = OURS, path: str = "/v1/models", method: str = "POST", **headers: str
) -> httpx2.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://hub") as client:
        return await client.request(method, path, headers={"host": host, **named})


def code(answer: httpx2.Response) -> str:
    return str(json.loads(answer.text)["error"]["code"])


@pytest.mark.parametrize(
    "host",
    [
        OURS,
        "127.0.0.1",
        "localhost:8080",
        "LOCALHOST",
        "a.localhost",
        "192.168.1.5:8080",
        "[::1]:8080",
        "[2001:db8::1]",
    ],
)
async def test_programs_come_in_by_addresses_and_localhost(host: str) -> None:
    assert (await ask(open_hub(), host=host)).text == "hello"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "", "[::1", "desk"])
async def test_a_name_that_somebody_made_lead_here_gets_nothing(host: str) -> None:
    answer = await ask(open_hub(), host=host)
    assert (answer.status_code, code(answer)) == (403, "unknown_host")


async def test_a_name_that_the_operator_gave_is_good_and_so_are_its_pages() -> None:
    app = open_hub(trusted_hosts=("AI.example.org",))
    assert (await ask(app, host="ai.example.org:8080")).text == "hello"
    assert (await ask(app, host="ai.example.org", origin="https://ai.example.org")).text == "hello"
    assert (await ask(app, host="other.example.org")).status_code == 403
    assert (await ask(open_hub(trusted_hosts=("*",)), host="other.example.org")).text == "hello"


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://evil.example:8080",
        "http://127.0.0.1.evil.example",
        "http://192.168.1.5",
        "null",
        "file://",
        "chrome-extension://abcdef",
        "http://[::1",
        "",
    ],
)
@pytest.mark.parametrize("content_type", ["text/plain", "application/json"])
async def test_a_foreign_page_cannot_even_send(origin: str, content_type: str) -> None:
    answer = await ask(open_hub(), origin=origin, content_type=content_type)
    assert (answer.status_code, code(answer)) == (403, "foreign_origin")


@pytest.mark.parametrize("origin", [f"http://{OURS}", "http://localhost:3000", "http://[::1]:5173", "HTTP://LOCALHOST"])
async def test_pages_of_this_hub_and_this_machine_may(origin: str) -> None:
    assert (await ask(open_hub(), origin=origin)).text == "hello"


async def test_a_page_on_the_address_of_the_hub_may() -> None:
    answer = await ask(open_hub(), host="192.168.1.5:8080", origin="http://192.168.1.5:8080")
    assert answer.text == "hello"


async def test_a_refusal_has_the_shape_of_the_api_that_was_called() -> None:
    answer = await ask(open_hub(), host="evil.example", path="/v1/chat/completions")
    assert set(json.loads(answer.text)["error"]) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize("auth", ["required", None])
async def test_a_page_that_is_allowed_is_answered_as_browsers_ask(auth: str | None) -> None:
    app = open_hub(auth=auth, allowed_origins=(PAGE,))
    preflight = await ask(
        app,
        method="OPTIONS",
        origin=PAGE,
        access_control_request_method="POST",
        access_control_request_headers="authorization,content-type",
    )
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == PAGE
    assert "authorization" in preflight.headers["access-control-allow-headers"]

    answer = await ask(app, origin=PAGE)
    assert answer.text == "hello"
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "access-control-allow-origin" not in (await ask(app, origin="https://evil.example")).headers


@pytest.mark.parametrize("auth", ["required", "off"])
async def test_a_hub_behind_keys_of_its_own_or_of_others_leaves_names_and_origins_alone(auth: str) -> None:
    app = open_hub(auth=auth)
    answer = await ask(app, host="evil.example", origin="https://evil.example")
    assert answer.text == "hello"
    assert "access-control-allow-origin" not in answer.headers
    assert app is hello  # nothing stands on the way of its tokens


async def test_lists_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GHUB_HUB_TRUSTED_HOSTS", "a.example, b.example")
    monkeypatch.setenv("GHUB_HUB_ALLOWED_ORIGINS", '["https://a.example"]')
    settings = HubSettings()
    assert settings.trusted_hosts == ("a.example", "b.example")
    assert settings.allowed_origins == ("https://a.example",)
