"""The parts of a front: streams taken apart, hubs chosen, headers passed on."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some
from multidict import CIMultiDict, CIMultiDictProxy
from pydantic import SecretStr

from common.errors import SettingsError
from common.settings import read_settings
from ghub.connect.call import make_call
from ghub.connect.entries import EntryParser, NoEntries, Part
from ghub.connect.headers import answer_headers, request_headers
from ghub.connect.hubs import Hubs
from ghub.connect.search import Search
from ghub.connect.settings import ConnectSettings, checked_url
from hub.api.entry_frames import frame

A, B, C = "http://a:1", "http://b:2", "https://c"
KEY = SecretStr("ghub-mine")
PARTS = [
    Part("-", b": queued\n\n"),
    Part("1-2", b"data: a\n\n"),
    Part("1-3", b""),
    Part("2-1", b"x" * 300),
    Part(".", b""),
]


class TestEntries:
    @given(some.lists(some.integers(1, 400), max_size=40))
    def test_however_a_stream_is_cut_the_same_parts_come(self, cuts: list[int]) -> None:
        stream = b"".join(frame(*part) for part in PARTS)
        parser, parts, at = EntryParser(), list[Part](), 0
        for size in [*cuts, len(stream)]:
            parts += parser.feed(stream[at : at + size])
            at += size
        assert parts == PARTS

    def test_what_came_by_half_does_not_come(self) -> None:
        parser = EntryParser()
        assert parser.feed(frame("1-1", b"whole") + frame("1-2", b"broken off")[:-1]) == [Part("1-1", b"whole")]

    @pytest.mark.parametrize("data", [b"data: hello\n\n", b"1-1\n", b"1-1 -5\nabc", b" 5\nabc", b"x" * 200])
    def test_other_streams_are_none(self, data: bytes) -> None:
        with pytest.raises(NoEntries):
            EntryParser().feed(data)


class TestHubs:
    def test_the_least_busy_of_the_ready_ones_is_asked(self) -> None:
        hubs = Hubs([A, B, C])
        first, second, third = hubs.all
        first.open_requests, second.open_requests, third.open_requests = 2, 1, 0
        hubs.failed(third, "gone")
        assert hubs.choose() is second
        assert hubs.choose([second]) is first
        assert hubs.choose([second, first]) is third
        assert hubs.choose(hubs.all) is None
        hubs.recovered(third)
        assert hubs.choose() is third

    def test_one_that_stays_away_is_no_news(self) -> None:
        hubs = Hubs([A])
        hubs.failed(hubs.all[0], "gone")
        assert hubs.news.is_set()
        hubs.news.clear()
        hubs.failed(hubs.all[0], "gone still")
        assert not hubs.news.is_set()

    def test_learned_ones_come_and_go_and_named_ones_stay(self) -> None:
        hubs = Hubs([A])
        hubs.learn([B], hubs.all[0])
        assert [hub.url for hub in hubs.all] == [A, B]
        hubs.learn([C], hubs.all[0])
        assert [hub.url for hub in hubs.all] == [A, C]

    def test_no_key_goes_out_in_the_open_because_a_registry_says_so(self) -> None:
        hubs = Hubs([C])
        hubs.learn([A, "https://d"], hubs.all[0])
        assert [hub.url for hub in hubs.all] == [C, "https://d"]

    async def test_all_are_asked_and_then_asked_again(self) -> None:
        hubs = Hubs([A, B])
        search = Search(hubs, limit_s=0.3)
        first = [await search.next(), await search.next()]
        assert {*first} == {*hubs.all}
        assert await search.next() in hubs.all
        while await search.next() is not None:
            pass
        search.allow(0.2, hubs.all[0])
        assert await search.next() is hubs.all[1]

    async def test_one_that_comes_back_ends_the_pause(self) -> None:
        hubs = Hubs([A])
        hubs.failed(hubs.all[0], "gone")
        search = Search(hubs, limit_s=60)
        for _ in range(6):  # the pauses grow
            await search.next()
        waiting = asyncio.create_task(search.next())
        await asyncio.sleep(0)
        hubs.recovered(hubs.all[0])
        async with asyncio.timeout(0.3):
            assert await waiting is hubs.all[0]


def _scope(method: str = "POST", path: str = "/v1/chat/completions", **headers: str) -> dict[str, Any]:
    raw = [(name.replace("_", "-").encode(), said.encode()) for name, said in headers.items()]
    return {"method": method, "path": path, "raw_path": path.encode(), "query_string": b"", "headers": raw}


class TestHeaders:
    def test_what_is_of_one_connection_stays_there(self) -> None:
        sent = request_headers(
            [(b"host", b"x"), (b"connection", b"close, x-mine"), (b"x-mine", b"1"), (b"accept", b"a"), (b"te", b"t")],
            None,
        )
        assert dict(sent) == {"accept": "a", "via": "1.1 ghub-connect"}
        told = CIMultiDictProxy(CIMultiDict({"Date": "x", "X-Request-Id": "1", "Transfer-Encoding": "chunked"}))
        assert answer_headers(told) == [(b"x-request-id", b"1")]

    @pytest.mark.parametrize(
        "shown", [{}, {"authorization": "Bearer "}, {"authorization": "Bearer unused"}, {"x_api_key": "unused"}]
    )
    def test_its_key_is_shown_for_who_shows_none(self, shown: dict[str, str]) -> None:
        call = make_call(_scope(**shown), b"{}", KEY)
        assert call.who == [("authorization", "Bearer ghub-mine"), ("via", "1.1 ghub-connect")]

    @pytest.mark.parametrize("shown", [{"authorization": "Bearer other"}, {"x_api_key": "other"}])
    def test_a_client_s_own_passes(self, shown: dict[str, str]) -> None:
        call = make_call(_scope(**shown), b"{}", KEY)
        assert "ghub-mine" not in str(call.who)


class TestCalls:
    def test_one_of_a_stock_client_gets_a_key_of_the_front(self) -> None:
        call = make_call(_scope(), b"{}", None)
        assert call.own_key == call.question.headers["idempotency-key"]
        assert call.question.headers["x-ghub-resumable"] == "0"
        assert make_call(_scope(), b"{}", None).own_key != call.own_key

    def test_one_that_may_come_back_keeps_its_own(self) -> None:
        for wish in ({"idempotency_key": "mine"}, {"x_ghub_resumable": "1"}):
            call = make_call(_scope(**wish), b"{}", None)
            assert call.own_key is None
            assert call.question.headers["x-ghub-resumable"] == "1"
        assert make_call(_scope(idempotency_key="mine"), b"{}", None).question.headers["idempotency-key"] == "mine"

    def test_it_is_asked_again_until_something_of_it_was_heard_and_then_for_the_rest(self) -> None:
        call = make_call(_scope(authorization="Bearer k"), b"{}", None)
        assert call.next_question().body == b"{}"
        call.has_begun = True  # with a comment
        assert call.next_question().body == b"{}"
        call.request, call.entry = "f" * 32, "1-57"  # type: ignore[assignment]
        question = call.next_question()
        assert (question.method, question.target, question.body) == ("GET", f"/v1/requests/{'f' * 32}/stream", None)
        assert question.headers["last-event-id"] == "1-57"
        assert question.headers["authorization"] == "Bearer k"

    def test_what_changes_something_is_not_repeated(self) -> None:
        assert not make_call(_scope(path="/api/keys"), b"{}", None).may_repeat
        assert make_call(_scope("GET", "/v1/models"), None, None).may_repeat
        assert make_call(_scope(), b"{}", None).may_repeat


class TestSettings:
    def test_urls_are_what_a_client_would_write(self) -> None:
        settings = read_settings(ConnectSettings, hubs="http://a:1/v1, https://c/ ,http://a:1")
        assert settings.hubs == (A, C)

    @pytest.mark.parametrize(
        "url", ["a:1", "ftp://a", "http://", "http://u:p@a", "http://a?x=1", "http://a:x", "http://["]
    )
    def test_what_is_none_is_refused(self, url: str) -> None:
        with pytest.raises(ValueError, match=r"."):
            checked_url(url)
        with pytest.raises(SettingsError, match="GHUB_CONNECT_HUBS"):
            read_settings(ConnectSettings, hubs=[url])
