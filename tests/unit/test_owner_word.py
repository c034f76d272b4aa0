"""`ghub pause` and `ghub resume`: whatever stands at the provider's address, the owner hears one line."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ghub.roles.owner_word import ProviderUnmoved, say
from provider.settings import ProviderSettings, ServerSettings
from tests.support.ports import free_port


@contextmanager
def answering(status: int, body: bytes) -> Iterator[tuple[str, list[tuple[str, str | None, str | None]]]]:
    """A server that gives one answer to everything: its URL, and what it was told."""
    told: list[tuple[str, str | None, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append((self.path, self.headers["X-GHub-Control"], self.headers["Authorization"]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class' name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", told
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_reasons_that_stand_are_told() -> None:
    with answering(200, b'{"state": "paused", "reasons": ["gpu-busy", "paused"]}') as (url, told):
        assert say("pause", ProviderSettings(), url) == ["gpu-busy", "paused"]
    assert told == [("/pause", "1", None)]


def test_the_control_token_of_the_settings_is_shown() -> None:
    settings = ProviderSettings(server=ServerSettings(control_token="c0ntr0l"))
    with answering(200, b'{"reasons": []}') as (url, told):
        assert say("resume", settings, f"{url}/") == []
    assert told == [("/resume", "1", "Bearer c0ntr0l")]


def test_a_refusal_is_told_in_the_provider_s_words() -> None:
    with (
        answering(403, b'{"error": {"message": "others can reach this port"}}') as (url, _),
        pytest.raises(ProviderUnmoved, match="refuses: others can reach this port"),
    ):
        say("pause", ProviderSettings(), url)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b""),
        (200, b"[]"),
        (200, b'{"status": "ok"}'),
        (200, b'{"reasons": "none"}'),
        (404, b"Not Found"),
        (404, b"[]"),
    ],
)
def test_something_else_at_its_address_is_no_provider(status: int, body: bytes) -> None:
    with answering(status, body) as (url, _), pytest.raises(ProviderUnmoved, match=r"is no provider \(status \d+\)"):
        say("pause", ProviderSettings(), url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}", "127.0.0.1:{port}", "http://[::1", "http://"])
def test_nothing_at_its_address_is_told(url: str) -> None:
    with pytest.raises(ProviderUnmoved, match="no provider answers at"):
        say("pause", ProviderSettings(), url.format(port=free_port()))
