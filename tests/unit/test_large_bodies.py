"""Large request bodies: what a hub spends on one is bounded, whatever stands in it."""

import time
from collections.abc import Callable, Sequence

import orjson
import pytest
from fastapi import Request

from hub.api.bodies import check_body, read_body
from hub.api.openai.bodies import ChatBody, CompletionBody, ModelBody
from hub.errors import BodyTooLarge, InvalidRequest
from tests.unit.test_bodies import chat, completion

LARGE_BYTES = 5 * 2**20


def cost_s(work: Callable[[], object]) -> float:
    """CPU seconds that it takes."""
    began = time.process_time()
    work()
    return time.process_time() - began


def a_moment_s(body: bytes) -> float:
    """A few times what it costs here and now to read the body as JSON: machines, and what else they do, differ."""
    return 8 * cost_s(lambda: orjson.loads(body)) + 0.1


def request(parts: list[bytes], told: str | None = None) -> Request:
    """A request whose body comes in parts, each taken off the list as it is read."""

    async def receive() -> dict[str, object]:
        body = parts.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(parts)}

    headers: Sequence[tuple[bytes, bytes]] = [] if told is None else [(b"content-length", told.encode("latin-1"))]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive)


class TestChecking:
    @pytest.mark.parametrize(
        "body",
        [
            chat(messages=[{"role": "user", "content": "word " * (LARGE_BYTES // 5)}]),
            chat(messages=[{"role": "user", "content": "短い" * (LARGE_BYTES // 6)}]),
            chat(messages=[{"role": "user", "content": '"\\\n' * (LARGE_BYTES // 6)}]),
            chat(messages=[{"role": "user", "content": "hi"}] * (LARGE_BYTES // 32)),
        ],
        ids=["text", "multibyte", "escapes", "many-messages"],
    )
    def test_five_megabytes_are_looked_through_in_a_moment(self, body: bytes) -> None:
        """Nothing beside the seconds an engine takes to read them."""
        assert len(body) > LARGE_BYTES * 0.9
        assert cost_s(lambda: check_body(ChatBody, body)) < a_moment_s(body)

    @pytest.mark.parametrize(
        ("shape", "body", "param"),
        [
            (ChatBody, chat(messages=[1] * (LARGE_BYTES // 2)), "messages.0"),
            (ChatBody, chat(tools=[[]] * (LARGE_BYTES // 3)), "tools.0"),
            (ChatBody, chat(stop=[1] * (LARGE_BYTES // 2)), "stop"),
            (CompletionBody, completion(prompt=[1.5] * (LARGE_BYTES // 4)), "prompt"),
            (CompletionBody, completion(prompt=[1] * (LARGE_BYTES // 2) + ["a"]), "prompt"),
            (CompletionBody, completion(prompt=[[None] * (LARGE_BYTES // 5)]), "prompt"),
        ],
    )
    def test_five_megabytes_of_mistakes_are_refused_at_the_first(
        self, shape: type[ModelBody], body: bytes, param: str
    ) -> None:
        """To gather a million mistakes would stop every stream of this hub for seconds."""

        def refuse() -> None:
            with pytest.raises(InvalidRequest) as refusal:
                check_body(shape, body)
            assert refusal.value.param == param

        assert cost_s(refuse) < a_moment_s(body)


class TestReading:
    async def test_a_body_up_to_the_limit_is_read_as_it_came(self) -> None:
        parts = [b"\x00\xff" * 10, b"", b"x" * 12]
        whole = b"".join(parts)
        assert await read_body(request(parts), len(whole), 5) == whole

    @pytest.mark.parametrize("parts", [[b"x" * 33], [b"x" * 32, b"x"], [b"x"] * 33])
    async def test_one_byte_more_is_refused(self, parts: list[bytes]) -> None:
        with pytest.raises(BodyTooLarge) as refusal:
            await read_body(request(parts), 32, 5)
        assert (refusal.value.status, refusal.value.code) == (413, "request_too_large")

    async def test_the_rest_of_a_body_that_is_too_large_stays_unread(self) -> None:
        parts = [b"x" * 20] * 100
        asked = request(parts)
        with pytest.raises(BodyTooLarge):
            await read_body(asked, 32, 5)
        assert len(parts) >= 97

    async def test_a_body_that_says_it_is_too_large_is_not_read_at_all(self) -> None:
        parts = [b"x"]
        with pytest.raises(BodyTooLarge):
            await read_body(request(parts, told="33"), 32, 5)
        assert parts

    @pytest.mark.parametrize("told", ["", "-5", "x", "²", "1e3"])
    async def test_a_length_that_is_none_proves_nothing(self, told: str) -> None:
        assert await read_body(request([b"x" * 32], told=told), 32, 5) == b"x" * 32
        with pytest.raises(BodyTooLarge):
            await read_body(request([b"x" * 33], told=told), 32, 5)


@pytest.mark.parametrize("part", [b"{},", b"[],", b"0,"])
def test_a_body_of_more_parts_than_any_request_needs_is_refused_at_once(part: bytes) -> None:
    """64 MiB of `{},` took 2.5 GiB, and two seconds in which the hub answered nobody."""
    body = b'{"model":"tiny:1b","messages":[' + part * (32 * 2**20 // len(part)) + b"{}]}"

    def refuse() -> None:
        with pytest.raises(InvalidRequest, match="more parts") as refused:
            check_body(ChatBody, body)
        assert refused.value.code == "too_many_parts"

    assert cost_s(refuse) < 8 * cost_s(lambda: body.count(b"{")) + 0.1
