"""The provider's questions to its hub: what each answer means, and that none is waited for without limit."""

import asyncio
import hashlib
from contextlib import suppress
from typing import Any

import orjson
import pytest

from common.types import NodeId
from provider.errors import HmacRefused, HubError, HubRefused, HubUnreachable
from provider.membership.hub_client import HubClient
from provider.settings import ProviderSettings, ReportSettings
from tests.support.ports import free_port
from tests.unit.engine_server import Said, Server, serving
from tests.unit.provider_parts import Parts

REPORT, VALIDATE = "/api/provider/health", "/api/provider/validate_hmac"
TOKEN = "token-of-the-provider"
NODE = NodeId("desk")


def settings(url: str | None, **fields: Any) -> ProviderSettings:
    return ProviderSettings(name="desk", hub_url=url, token=TOKEN, report=ReportSettings(timeout_s=5), **fields)


async def report_to(answer: object) -> Server:
    """A hub that was sent a report and answered so."""
    async with serving({REPORT: answer}) as server, HubClient(settings(server.url)) as hub:
        await hub.report(Parts().standing.health())
    return server


async def check_at(answer: object) -> Server:
    """A hub that was asked about an HMAC and answered so."""
    async with serving({VALIDATE: answer}) as server, HubClient(settings(f"{server.url}/")) as hub:
        await hub.check_hmac("v1:a:b", NODE, "/v1/completions", b"{}")
    return server


class TestReports:
    async def test_a_report_is_sent_with_the_token(self) -> None:
        (asked,) = (await report_to(Said(status=204))).asked
        assert (asked.method, asked.path) == ("POST", REPORT)
        assert asked.headers["Authorization"] == f"Bearer {TOKEN}"
        assert asked.headers["Content-Type"] == "application/json"
        assert orjson.loads(asked.body)["node"] == "desk"

    @pytest.mark.parametrize("status", [200, 301, 400, 401, 404, 413])
    async def test_anything_but_204_is_no_taken_report(self, status: int) -> None:
        """A hub of another kind, or a page of a proxy, may well say 200."""
        with pytest.raises(HubRefused, match=str(status)):
            await report_to(Said(b"no", status=status))

    async def test_a_hub_in_trouble_counts_as_away(self) -> None:
        with pytest.raises(HubUnreachable):
            await report_to(Said(status=503))


class TestHmacs:
    async def test_it_asks_for_this_node_this_path_and_this_body(self) -> None:
        (asked,) = (await check_at({"valid": True})).asked
        assert asked.headers["Authorization"] == f"Bearer {TOKEN}"
        digest = hashlib.sha256(b"{}").hexdigest()
        question = {"hmac": "v1:a:b", "node": "desk", "endpoint": "/v1/completions", "body_sha256": digest}
        assert orjson.loads(asked.body) == question

    @pytest.mark.parametrize("code", ["wrong", "expired", "replayed", "unknown_key", "malformed"])
    async def test_what_is_the_caller_s_fault_keeps_its_code(self, code: str) -> None:
        with pytest.raises(HmacRefused) as refused:
            await check_at(Said({"valid": False, "code": code, "message": "…"}, status=401))
        assert refused.value.code == code

    @pytest.mark.parametrize("code", ["invalid_token", "provider_tokens_not_set", "direct_keys_not_set"])
    async def test_what_is_the_provider_s_or_the_hub_s_is_not_laid_on_the_caller(self, code: str) -> None:
        with pytest.raises(HubRefused, match=code):
            await check_at(Said({"valid": False, "code": code, "message": "…"}, status=401))

    @pytest.mark.parametrize(
        "answer",
        [
            {"valid": False},
            {"valid": "true"},
            {"valid": 1},
            {},
            Said(b"true"),
            Said(b"[]"),
            Said(b"<html>Welcome</html>"),
            Said({"valid": True}, status=401),
            Said({"valid": True}, status=404),
            Said({"valid": False, "code": 7}, status=401),
            Said({"code": "wrong"}, status=401),
            Said({"valid": False, "code": "wrong"}, status=403),
        ],
    )
    async def test_nothing_else_passes_for_a_yes_or_a_no(self, answer: object) -> None:
        with pytest.raises(HubRefused):
            await check_at(answer)

    @pytest.mark.parametrize("answer", [Said({"valid": True}, status=500), Said(status=503), Said(is_cut=True)])
    async def test_a_hub_in_trouble_says_neither(self, answer: object) -> None:
        with pytest.raises(HubUnreachable):
            await check_at(answer)


class TestAway:
    @pytest.mark.parametrize("url", ["http://127.0.0.1:{port}", "http://[::1"])
    async def test_a_hub_that_is_not_there_is_told_by_its_url(self, url: str) -> None:
        url = url.format(port=free_port())
        async with HubClient(settings(url)) as hub:
            with pytest.raises(HubUnreachable, match=r"^http://"):
                await hub.check_hmac("v1", NODE, "/v1/completions", b"{}")

    async def test_a_hub_that_does_not_answer_is_given_up(self) -> None:
        impatient = ReportSettings(timeout_s=0.1)
        async with serving({VALIDATE: Said(is_late=True)}) as server:
            known = settings(server.url).model_copy(update={"report": impatient})
            async with HubClient(known) as hub:
                with pytest.raises(HubUnreachable):
                    await hub.check_hmac("v1", NODE, "/v1/completions", b"{}")

    async def test_no_trouble_tells_the_token(self) -> None:
        with pytest.raises(HubError) as refused:
            await report_to(Said(b"who are you?", status=401))
        assert TOKEN not in str(refused.value)

    async def test_without_a_hub_there_is_none_to_call(self) -> None:
        async with HubClient(settings(None)) as hub:
            assert not hub.is_set
        async with HubClient(settings("http://hub")) as hub:
            assert hub.is_set


async def test_a_hub_that_answers_in_drops_is_not_waited_for_any_longer() -> None:
    has_ended = asyncio.Event()

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
            while not writer.is_closing():
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.05)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        has_ended.set()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    slow = ProviderSettings(name="desk", hub_url=url, report=ReportSettings(timeout_s=0.3))
    async with asyncio.timeout(5), server:
        async with HubClient(slow) as hub:
            with pytest.raises(HubUnreachable):
                await hub.check_hmac("v1:a:b", NODE, "/v1/completions", b"{}")
        await has_ended.wait()
