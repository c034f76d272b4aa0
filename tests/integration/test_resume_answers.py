"""What clients hear who come back for an answer: what is refused, what is gone, and what a stream looks like."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from ghub.connect.entries import EntryParser
from tests.doubles.reading import numbered
from tests.support import late, leftovers
from tests.support.call import Call, post
from tests.support.client_keys import AUTH, TestKey, wait_for_model
from tests.support.grid import Grid, chat
from tests.support.processes import until
from tests.support.resuming import RESUMABLE, Asked, ids_of, resume

QUICK = {"GHUB_HEARTBEAT_S": "0.3"}


@dataclass(frozen=True)
class Front:
    """A hub with a node behind it."""

    grid: Grid
    hub: str

    def ask(self, hub: str, tokens: int, **body: Any) -> Asked:
        """A stream that can be resumed."""
        return Asked(hub, chat(tokens=tokens, stream=True, **body), headers=RESUMABLE)


@pytest.fixture(scope="module")
def _front(module_grid: Grid) -> Front:
    return Front(module_grid, module_grid.chain(slots=8, **QUICK).hub)


@pytest.fixture
def front(_front: Front) -> Iterator[Front]:
    """After each test all jobs are off their lanes."""
    yield _front
    with _front.grid.redis() as client:
        leftovers.until_at_rest(client, 3)


def test_another_key_learns_nothing(front: Front) -> None:
    hub = front.grid.hub(**QUICK, **AUTH)
    wait_for_model(front.grid, hub)
    with front.grid.redis() as client:
        mine, other = TestKey(client), TestKey(client)
    made = Call(hub, chat(tokens=5, stream=True), headers={**RESUMABLE, **mine.headers})
    request = made.finish().headers["x-request-id"]
    assert resume(hub, request, headers=mine.headers).said == numbered(0, 5)
    refused = resume(hub, request, headers=other.headers)
    never = resume(hub, "0" * 32, headers=other.headers)
    assert refused.status == never.status == 404
    assert refused.text == never.text
    assert resume(hub, request).status == 401
    assert resume(front.hub, request).status == 404
    front.grid.hubs[hub].stop()


@pytest.mark.parametrize("last", ["x", "1-1.0", "0-1.1", "1-1.1.1", "-1-1.1", "1-1." + "9" * 40])
def test_what_is_no_event_s_id_is_refused(last: str, front: Front) -> None:
    request = front.ask(front.hub, 2).finish().headers["x-request-id"]
    refused = resume(front.hub, request, last)
    assert (refused.status, refused.error["code"]) == (400, "invalid_position")


@pytest.mark.parametrize("last", ["1-1.99", "1-999.1", "7-1.1"])
def test_an_event_that_never_was_is_refused(last: str, front: Front) -> None:
    request = front.ask(front.hub, 2).finish().headers["x-request-id"]
    refused = resume(front.hub, request, last)
    assert (refused.status, refused.error["code"]) == (400, "invalid_position")


def test_an_answer_that_is_no_longer_kept_is_gone(front: Front) -> None:
    request = front.ask(front.hub, 2).finish().headers["x-request-id"]
    with front.grid.redis() as client:
        until(lambda: client.hget(f"ghub:request:{request}", "status") == "done", 5, "done")
        client.delete(str(client.hget(f"ghub:request:{request}", "reply")))
    gone = resume(front.hub, request)
    assert (gone.status, gone.error["code"]) == (410, "request_gone")


def test_who_did_not_opt_in_cannot_come_back(front: Front) -> None:
    answer = post(front.hub, chat(tokens=3, stream=True))
    assert ids_of(answer.text) == []
    refused = resume(front.hub, answer.headers["x-request-id"])
    assert (refused.status, refused.error["code"]) == (409, "not_resumable")


def test_comments_have_no_ids_and_events_keep_theirs(front: Front) -> None:
    whole = front.ask(front.hub, 9, double={"comments": True, "per_write": 3, "crlf": True}).finish()
    blocks = [block for block in whole.text.replace("\r\n", "\n").split("\n\n") if block]
    assert any(block.startswith(":") for block in blocks)
    assert all(block.startswith(("id: ", ":")) for block in blocks)
    assert whole.said == numbered(0, 9)


def test_the_openai_sdk_reads_a_stream_with_ids(front: Front) -> None:
    with late.openai.OpenAI(base_url=f"{front.hub}/v1", api_key="none", max_retries=0, timeout=20) as client:
        chunks = client.chat.completions.create(
            model="tiny:1b",
            messages=[{"role": "user", "content": "hi"}],
            stream=True,
            max_tokens=12,
            extra_headers=RESUMABLE,
        )
        said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == numbered(0, 12)


def test_the_first_client_hears_of_failures_as_without_opting_in(front: Front) -> None:
    refused = Call(front.hub, chat(double={"status": 400}), headers=RESUMABLE).finish()
    plain = post(front.hub, chat(double={"status": 400}))
    assert refused.status == plain.status == 400
    assert refused.error == plain.error
    broken = front.ask(front.hub, 9, double={"error_event_after": 3}).finish()
    assert broken.is_ended_once
    assert broken.error["code"]


def test_a_stream_may_be_told_entry_by_entry_and_read_on_behind_any(front: Front) -> None:
    for path, body in (
        ("/v1/chat/completions", chat(tokens=7, stream=True, double={"delay_ms": 5})),
        ("/api/chat", chat(stream=True, options={"num_predict": 7})),
    ):
        entries = {"x-ghub-entries": "1", "x-ghub-resumable": "1"}
        told = Asked(front.hub, body, path=path, headers=entries).finish()
        assert told.headers["x-ghub-entries"] == "1"
        parts = EntryParser().feed(told.text.encode())
        names = [part.what for part in parts]
        assert names[-1] == "."
        whole = resume(front.hub, told.headers["x-request-id"])
        assert b"".join(part.data for part in parts) == whole.text.encode()
        for place, name in enumerate(names[:-1]):
            rest = resume(front.hub, told.headers["x-request-id"], name, headers=entries)
            assert EntryParser().feed(rest.text.encode()) == parts[place + 1 :] or rest.status == 204


def test_a_request_can_be_ended_by_its_key_before_its_id_is_known(front: Front) -> None:
    key = {"idempotency-key": "ended by its key"}
    with Call(front.hub, chat(tokens=100_000, double={"delay_ms": 10}), headers=key) as call:
        with front.grid.redis() as client:
            until(lambda: client.xlen("ghub:{jobs}:interactive:tiny:1b") == 1, 5, "it is there")
        assert Call(front.hub, path="/v1/requests", method="DELETE", headers=key).finish().status == 202
        assert call.finish().error["code"] == "cancelled_by_client"
    for headers, status in (({"idempotency-key": "nobody's"}, 404), ({}, 400)):
        assert Call(front.hub, path="/v1/requests", method="DELETE", headers=headers).finish().status == status


def test_every_error_says_its_code_in_a_header(front: Front) -> None:
    for path in ("/v1/chat/completions", "/api/chat", "/v1/messages"):
        refused = post(front.hub, {**chat(), "model": "never:1b"}, path=path)
        assert (refused.status, refused.headers["x-ghub-error"]) == (404, "model_not_found")
