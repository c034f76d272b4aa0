"""Nodes and hubs as the registry shows them, and how their hashes are read.

They write these themselves, and every hub reads them: what is no node, or more than one can be, is passed over.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from common.report import MAX_AMOUNT, MAX_MODEL_CHARS, MAX_MODELS, MAX_TEXT_CHARS
from common.types import HubId, ModelId, NodeId, NodeState, RequestId

MAX_FIELD_BYTES = 2 * 2**20
"""Of a node's hash; 4,096 models with long names fit. A node writes its entry itself, and every hub reads it."""
MAX_TIME_MS = 253_402_300_799_000
"""The end of the year 9999, behind which there are no dates."""
PASSING: Mapping[str, Any] = {"heartbeat_at": 0, "gpus": (), "running": ()}
"""Fields of a node that differ at each heartbeat, empty: nobody is told of what comes and goes there."""


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """A provider as the registry shows it. Times are Unix ms on the broker's clock."""

    node: NodeId
    instance: str
    """Which process of that name: new at each start."""
    version: str
    hostname: str
    state: NodeState
    reasons: tuple[str, ...]
    """Why it takes no work; empty if it does."""
    models: tuple[ModelId, ...]
    loaded: tuple[ModelId, ...]
    slots: int
    requests: tuple[RequestId, ...]
    engine: Mapping[str, Any]
    started_at: int
    heartbeat_at: int
    gpus: tuple[Mapping[str, Any], ...] = ()
    public_url: str = ""
    running: tuple[Mapping[str, Any], ...] = ()
    """How far each request is: `id model lane attempt claimed_at`, and once it has begun `first_data_at tokens`; `near`
    is 1 where it came by the node's own lane."""
    near: int = 0
    """1 where it reads a lane of its own; those of former versions don't."""
    lease_ms: int = 0
    """How long the entry lives after a heartbeat, where its node tells of its changes; 0 where it does not."""

    @property
    def gist(self) -> "NodeRecord":
        """The same without what differs at each heartbeat: what hubs must hear of when it changes."""
        return replace(self, **PASSING)

    def to_hash(self) -> dict[Any, Any]:
        """The fields of the node's hash; lists and objects as JSON."""
        return {
            name: orjson.dumps(value) if isinstance(value, tuple | Mapping) else value
            for name in self.__slots__
            for value in [getattr(self, name)]
        }

    @classmethod
    def from_hash(cls, raw: Mapping[Any, Any]) -> "NodeRecord | None":
        """Read a hash; None if it is no node of a version that can be read here, or more than a node can be."""
        try:
            if any(len(value) > MAX_FIELD_BYTES for value in raw.values()):
                return None
            text = {name.decode(): value.decode() for name, value in raw.items()}
            return cls(
                node=NodeId(text["node"]),
                instance=text["instance"],
                version=text["version"],
                hostname=text["hostname"],
                state=NodeState(text["state"]),
                reasons=_list_of(str, text["reasons"]),
                models=_models(text["models"]),
                loaded=_models(text["loaded"]),
                slots=_amount(text["slots"]),
                requests=_list_of(str, text["requests"]),
                engine=_objects(f"[{text['engine']}]")[0],
                started_at=_amount(text["started_at"], MAX_TIME_MS),
                heartbeat_at=_amount(text["heartbeat_at"], MAX_TIME_MS),
                gpus=_objects(text.get("gpus", "[]")),
                public_url=_web_address(text.get("public_url", "")),
                running=_objects(text.get("running", "[]")),
                near=int(text.get("near") == "1"),
                lease_ms=_amount(text.get("lease_ms", "0")),
            )
        except (KeyError, ValueError, IndexError):
            return None


def _list_of(kind: type, text: str) -> tuple[Any, ...]:
    """A JSON list of one kind of items; ValueError if it is anything else."""
    items = orjson.loads(text)
    if not isinstance(items, list) or not all(isinstance(item, kind) for item in items):
        raise ValueError(f"no list of {kind.__name__}")
    return tuple(items)


def _web_address(text: str) -> str:
    """A URL that browsers and clients may be sent to; empty for anything else that a node may have written."""
    return text if text.startswith(("https://", "http://")) and len(text) <= MAX_TEXT_CHARS else ""


def _models(text: str) -> tuple[ModelId, ...]:
    """A JSON list of models' names, as many as a provider may serve and without those that no client can write."""
    return tuple(model for model in _list_of(str, text) if len(model) <= MAX_MODEL_CHARS)[:MAX_MODELS]


def _objects(text: str) -> tuple[dict[str, Any], ...]:
    """A JSON list of objects, each no deeper than a list of plain values: what is deeper may not be written again."""
    objects: tuple[dict[str, Any], ...] = _list_of(dict, text)
    values = [value for one in objects for value in one.values()]
    inner = [item for value in values if isinstance(value, list) for item in value]
    if any(isinstance(value, dict) for value in values) or any(isinstance(item, dict | list) for item in inner):
        raise ValueError("an object that is not flat")
    return objects


def _amount(text: str, most: int = MAX_AMOUNT) -> int:
    """A whole number from 0 on; ValueError if it is anything else."""
    number = int(text)
    if not 0 <= number <= most:
        raise ValueError("out of range")
    return number


@dataclass(frozen=True, slots=True)
class HubRecord:
    """A hub process as the registry shows it."""

    hub: HubId
    address: str
    version: str
    open_requests: int
    started_at: int
    heartbeat_at: int = 0
    """Unix ms on the broker's clock."""
    url: str = ""
    """Where clients reach it; empty if it cannot tell."""

    @classmethod
    def from_hash(cls, raw: Mapping[Any, Any]) -> "HubRecord | None":
        """Read a hash; None if it is no hub of a version that can be read here."""
        try:
            text = {name.decode(): value.decode() for name, value in raw.items()}
            return cls(
                hub=HubId(text["hub"]),
                address=text["address"],
                version=text["version"],
                open_requests=int(text["open_requests"]),
                started_at=int(text["started_at"]),
                heartbeat_at=int(text.get("heartbeat_at", 0)),
                url=_web_address(text.get("url", "")),
            )
        except (KeyError, ValueError):
            return None
