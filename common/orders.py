"""What hubs order one provider to do, as it travels in its control stream."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from common.errors import WireError
from common.types import RequestId


class Order(StrEnum):
    """What a hub can tell a provider on its control stream."""

    CANCEL = "cancel"
    DRAIN = "drain"
    PAUSE = "pause"
    RESUME = "resume"


@dataclass(frozen=True, slots=True)
class ControlEntry:
    """An order to a provider; `request` is set for `cancel`."""

    order: Order
    request: RequestId | None = None

    def to_fields(self) -> dict[bytes, bytes]:
        """The stream fields."""
        fields = {b"op": self.order.encode()}
        return fields if self.request is None else {**fields, b"id": self.request.encode()}

    @classmethod
    def from_fields(cls, fields: Mapping[bytes, bytes]) -> "ControlEntry":
        """Read a control entry.

        Raises:
            WireError: an order this version does not know.
        """
        try:
            order = Order(fields.get(b"op", b"").decode())
            request = RequestId(fields.get(b"id", b"").decode())
        except ValueError as exc:
            raise WireError(f"unknown order: {exc}") from exc
        return cls(order, request or None)
