"""Hands on what one hub says of an answer, and takes note of what the client has of it."""

import asyncio
from contextlib import suppress

import aiohttp

from common.serving.bodies import Sender
from common.types import RequestId
from ghub.connect.call import Call
from ghub.connect.client import read_at_most, read_some
from ghub.connect.entries import EntryParser, NoEntries, Part
from ghub.connect.errors import BEFORE_IT_BEGAN, ELSEWHERE, GATEWAY, AnswerBroken, HubFailed, Refusal
from ghub.connect.headers import answer_headers
from hub.api.entry_frames import END, ENTRIES_HEADER, ERROR, OWN
from hub.api.errors import ERROR_HEADER
from hub.api.wishes import REPLAYED_HEADER

MOST_REFUSAL_BYTES = 2**20
READ_OUT_S = 1.0
"""How long the end of a connection's answer is waited for, so that the connection can be used again."""


async def hand_on(call: Call, response: aiohttp.ClientResponse, sender: Sender) -> None:
    """Tell the client what a hub answers; HubFailed if that is not the end of it.

    Raises:
        RequestFailed: it is, and not what was asked for.
        ClientGone: nobody hears it.
    """
    if response.status >= 400:
        await _refused(call, response, sender)
    elif response.headers.get(ENTRIES_HEADER) == "1":
        await _stream(call, response, sender)
    elif response.status == 204 and call.is_stream:  # it has everything
        call.is_over = True
        await sender.body(b"", more=False)
    else:
        await _whole(call, response, sender)


async def _refused(call: Call, response: aiohttp.ClientResponse, sender: Sender) -> None:
    body = await read_at_most(response, MOST_REFUSAL_BYTES)
    code = response.headers.get(ERROR_HEADER)
    refusal = Refusal(response.status, answer_headers(response.headers, ("content-length",)), body, code)
    goes_on = response.status in GATEWAY if code is None else code in _to_go_on(call)
    if goes_on and call.may_repeat:
        raise HubFailed(f"it answered {response.status} {code or ''}".rstrip(), refusal=refusal)
    call.is_over = True
    if call.has_begun:
        raise refusal.as_error()
    await tell_refusal(call, refusal, sender)


async def _stream(call: Call, response: aiohttp.ClientResponse, sender: Sender) -> None:
    parser = EntryParser()
    call.is_stream = True
    while data := await _read(call, response):
        try:
            parts = parser.feed(data)
        except NoEntries as exc:
            raise HubFailed(f"it does not speak as hubs do: {exc}") from exc
        await _deliver(call, response, parts, sender)
        if call.is_over:
            await _read_out(response)
            return
    raise HubFailed("it broke off")


async def _deliver(call: Call, response: aiohttp.ClientResponse, parts: list[Part], sender: Sender) -> None:
    """Tell the client what has come; HubFailed if the hub says that the rest is to be had elsewhere."""
    said: list[bytes] = []
    failed: HubFailed | None = None
    last, wants_more = call.entry, _to_go_on(call)
    for part in parts:
        code = part.what[1:] if part.what.startswith(ERROR) else None
        if code in (wants_more if last == call.entry else ELSEWHERE):
            failed = HubFailed(f"it says {code}")
            break
        said.append(part.data)
        if code is not None or part.what == END:
            call.is_over = True
        elif part.what != OWN:
            last = part.what
    if said:
        await _begin(call, response, sender)
        await sender.body(b"".join(said), more=not call.is_over)
        call.has_moved = call.has_moved or last != call.entry
        if last:
            call.entry = last
            call.forget_body()
    if failed is not None:
        raise failed


async def _whole(call: Call, response: aiohttp.ClientResponse, sender: Sender) -> None:
    """Tell an answer in one piece, or what is left of it: it is the same byte for byte at every hub."""
    told = response.headers.get("content-length", "")
    length = int(told) if told.isdecimal() else None
    if call.has_begun and (call.is_stream or length is None or length != call.length):
        raise AnswerBroken("another hub tells this answer in another form")
    call.length = length
    await _begin(call, response, sender)
    at = 0
    try:
        while data := await _read(call, response):
            news = data[max(0, call.sent_bytes - at) :]
            at += len(data)
            if news:
                call.is_over = at == length
                call.sent_bytes += len(news)
                call.has_moved = True
                await sender.body(news, more=not call.is_over)
                call.forget_body()
    except HubFailed as exc:
        if length is None or not call.is_job:  # or of an older hub: where it stood cannot be told
            raise AnswerBroken("the hub broke off this answer") from exc
        raise
    if not call.is_over:
        call.is_over = True
        await sender.body(b"", more=False)


async def _read(call: Call, response: aiohttp.ClientResponse) -> bytes:
    call.waits_since = asyncio.get_running_loop().time()
    try:
        return await read_some(response)
    finally:
        call.waits_since = None


async def _read_out(response: aiohttp.ClientResponse) -> None:
    """Read the end of a stream that has said it."""
    with suppress(HubFailed, TimeoutError):
        async with asyncio.timeout(READ_OUT_S):
            await read_some(response)


def _to_go_on(call: Call) -> frozenset[str]:
    """The codes after which another hub is asked."""
    return ELSEWHERE if call.is_under_way else BEFORE_IT_BEGAN


async def _begin(call: Call, response: aiohttp.ClientResponse, sender: Sender) -> None:
    """Send the head, once. What says that a call came again is not told who made none."""
    call.request = RequestId(response.headers.get("x-request-id", "")) or call.request
    if not sender.has_begun:
        call.has_begun = True
        without = (REPLAYED_HEADER,) if call.own_key else ()
        await sender.begin(response.status, answer_headers(response.headers, without))


async def tell_refusal(call: Call, refusal: Refusal, sender: Sender) -> None:
    """Tell the client a hub's error as it is."""
    call.is_over = True
    length = (b"content-length", b"%d" % len(refusal.body))
    await sender.begin(refusal.status, [*refusal.headers, length])
    await sender.body(refusal.body, more=False)
