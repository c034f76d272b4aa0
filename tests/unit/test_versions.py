"""Neighbouring versions understand each other: what each of them wrote is read, and what is new is passed over."""

import json
from dataclasses import replace
from typing import Any

import pytest

from common.errors import WireError
from common.orders import ControlEntry
from common.records.grid import HubRecord, NodeRecord
from common.registration import Registration, RegistrationRequest
from common.wire import Job, ReplyEntry
from tests.support import golden

VERSIONS = sorted(path.stem for path in golden.FOLDER.glob("*.json"))
LATER: dict[str, str] = {"later": "1", "z": "ü"}


@pytest.fixture(params=VERSIONS)
def wrote(request: pytest.FixtureRequest) -> Any:
    """What one version wrote."""
    return golden.read(request.param)


def test_what_is_written_now_is_in_its_file() -> None:
    assert json.loads(json.dumps(golden.written())) == golden.read("now"), "see tests/support/golden.py"


@pytest.mark.parametrize("more", [{}, LATER])
class TestRead:
    def test_jobs_with_their_signatures(self, wrote: Any, more: dict[str, str]) -> None:
        for fields, job in zip(wrote["jobs"], golden.JOBS, strict=True):
            found = Job.from_fields(golden.raw(fields | more))
            found.verify(golden.KEYS)
            assert replace(found, sig="") == job

    def test_reply_entries(self, wrote: Any, more: dict[str, str]) -> None:
        found = [ReplyEntry.from_fields(golden.raw(fields | more)) for fields in wrote["replies"]]
        assert tuple(found) == golden.REPLIES

    def test_orders(self, wrote: Any, more: dict[str, str]) -> None:
        assert tuple(ControlEntry.from_fields(golden.raw(one | more)) for one in wrote["orders"]) == golden.ORDERS

    def test_nodes_and_hubs(self, wrote: Any, more: dict[str, str]) -> None:
        assert NodeRecord.from_hash(golden.raw(wrote["node"] | more)) == golden.NODE
        assert HubRecord.from_hash(golden.raw(wrote["hub"] | more)) == golden.HUB

    def test_registrations_and_their_answers(self, wrote: Any, more: dict[str, str]) -> None:
        asked = RegistrationRequest.model_validate_json(json.dumps(wrote["registration_request"] | more))
        given = Registration.model_validate_json(json.dumps(wrote["registration"] | more))
        assert (asked, given) == (golden.ASKED, golden.GIVEN)


def test_a_node_and_a_hub_of_a_former_version_have_no_lane_of_the_node_s_own() -> None:
    wrote = golden.read("0.1.0")
    assert "near" not in wrote["node"]
    node = NodeRecord.from_hash(golden.raw(wrote["node"]))
    assert node is not None
    assert node.near == 0
    assert not Registration.model_validate(wrote["registration"]).has_near_lane


@pytest.mark.parametrize("version", ["0", "2", "10", "", "1.1", " 1"])
def test_a_job_of_another_wire_is_no_job_here(version: str) -> None:
    fields = golden.raw(golden.read("now")["jobs"][0] | {"v": version})
    with pytest.raises(WireError, match="wire version"):
        Job.from_fields(fields)


def test_parts_of_an_entry_may_have_more_in_them() -> None:
    entry = {b"start": b'{"status":200,"content_type":"a/b","node":"n","after":"","later":[1]}', b"end": b'{"later":1}'}
    assert ReplyEntry.from_fields(entry).start is not None


def test_an_order_that_only_a_later_hub_gives_is_told_as_such() -> None:
    with pytest.raises(WireError, match="unknown order"):
        ControlEntry.from_fields({b"op": b"defrost"})
