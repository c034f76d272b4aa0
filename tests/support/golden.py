"""What each version writes, jobs, entries, nodes, hubs and registrations, as a file that later versions read.

A file stands for one version and is never changed. What the code writes now is `now.json`; after a change of the wire
it is written anew by `uv run python -m tests.support.golden > tests/unit/golden/now.json`, and the former one kept
under the version that wrote it.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.orders import ControlEntry, Order
from common.records.grid import HubRecord, NodeRecord
from common.registration import Registration, RegistrationRequest
from common.report import EngineReport
from common.signing import SigningKeys
from common.types import HubId, ModelId, NodeId, NodeState, RequestId
from common.wire import Failure, Job, ReplyEntry, Start, Usage

FOLDER = Path(__file__).resolve().parents[1] / "unit/golden"
KEYS = SigningKeys((("k1", b"a-secret-of-the-grid"),))
REQUEST = RequestId("0123456789abcdef0123456789abcdef")
JOBS = (
    Job(
        id=REQUEST,
        attempt=1,
        model=ModelId("llama3.2:1b"),
        endpoint="/v1/chat/completions",
        stream=True,
        body='{"model":"llama3.2:1b","messages":[{"role":"user","content":"grüße"}],"stream":true}'.encode(),
        reply=f"ghub:reply:{{hub-1a2b3c4d}}:{REQUEST}",
        deadline_ms=1_700_000_600_000,
        trace="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ),
    Job(
        id=REQUEST,
        attempt=2,
        model=ModelId("org/model:70b"),
        endpoint="/api/generate",
        stream=False,
        body=b'{"model":"org/model:70b","prompt":"hi"}',
        reply=f"ghub:reply:{{hub-1a2b3c4d}}:{REQUEST}",
        deadline_ms=1_700_000_600_000,
    ),
)
REPLIES = (
    ReplyEntry(claim=NodeId("desk")),
    ReplyEntry(start=Start(200, "text/event-stream", NodeId("desk")), data=b'data: {"choices":[]}\n\n'),
    ReplyEntry(start=Start(200, "text/event-stream", NodeId("desk"), "1-7"), data=b"data: x\n\n"),
    ReplyEntry(data=b"data: y\n\n"),
    ReplyEntry(data=b"data: [DONE]\n\n", end=Usage(12, 34)),
    ReplyEntry(end=Usage(None, 5, is_estimate=True)),
    ReplyEntry(error=Failure(400, "bad", "no", type="invalid_request_error", param="model")),
    ReplyEntry(error=Failure(503, "engine_failed", "later", retryable=True)),
    ReplyEntry(release="draining"),
)
ORDERS = (ControlEntry(Order.CANCEL, REQUEST), *(ControlEntry(one) for one in (Order.DRAIN, Order.PAUSE, Order.RESUME)))
NODE = NodeRecord(
    node=NodeId("desk"),
    instance="0123456789ab",
    version="0.1.0",
    hostname="desk-pc",
    state=NodeState.BUSY,
    reasons=("gpu-busy",),
    models=(ModelId("llama3.2:1b"), ModelId("org/model:70b")),
    loaded=(ModelId("llama3.2:1b"),),
    slots=4,
    requests=(REQUEST,),
    engine={"kind": "ollama", "version": "0.12", "url": "http://127.0.0.1:11434", "capabilities": ["chat"]},
    started_at=1_700_000_000_000,
    heartbeat_at=1_700_000_002_000,
    gpus=({"name": "H100", "memory_used_mib": 5, "utilization_pct": None},),
    public_url="https://desk.example.org",
    running=({"id": REQUEST, "model": "llama3.2:1b", "lane": "interactive", "attempt": 1, "claimed_at": 1},),
)
HUB = HubRecord(HubId("hub-1a2b3c4d"), "127.0.0.1:8080", "0.1.0", 3, 1_700_000_000_000, 1_700_000_001_000)
ASKED = RegistrationRequest(
    name="desk",
    models=("llama3.2:1b", "org/model:70b"),
    slots=4,
    engine=EngineReport(kind="ollama", version="0.12", url="http://127.0.0.1:11434", capabilities=("chat",)),
    version="0.1.0",
    instance="0123456789ab",
)
GIVEN = Registration(
    node="desk",
    heartbeat_s=2.0,
    prefix="ghub:",
    redis_url="rediss://broker.example.org:6379",
    username="ghub:provider:desk",
    password="a-password",
    signing_keys=("k1:a-secret-of-the-grid",),
    models=("llama3.2:1b",),
)


def written() -> dict[str, Any]:
    """All of it as this code writes it."""
    return {
        "jobs": [_text(job.signed(KEYS).to_fields()) for job in JOBS],
        "replies": [_text(entry.to_fields()) for entry in REPLIES],
        "orders": [_text(order.to_fields()) for order in ORDERS],
        "node": _text(NODE.to_hash()),
        "hub": _text({name: getattr(HUB, name) for name in HUB.__slots__}),
        "registration_request": ASKED.model_dump(mode="json"),
        "registration": GIVEN.model_dump(mode="json"),
    }


def raw(fields: Mapping[str, str]) -> dict[bytes, bytes]:
    """Fields of a file as a broker gives them."""
    return {name.encode(): value.encode() for name, value in fields.items()}


def read(name: str) -> Any:
    """One of the files."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def _text(fields: Mapping[Any, Any]) -> dict[str, str]:
    """Fields as the broker has them: every value is text there."""
    return {_word(name): _word(value) for name, value in fields.items()}


def _word(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(written(), indent=2, ensure_ascii=False) + "\n")
