"""What a provider asks of a hub when it joins, and what it is given: `POST /api/provider/register`."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from common.report import MAX_MODEL_CHARS, MAX_MODELS, EngineReport, Part, Text
from common.settings import NAME_PATTERN


class AclMode(StrEnum):
    """How providers that register get at the broker."""

    ON = "on"
    """The hub makes a broker user for each node."""
    PRINT = "print"
    """The hub says which user the broker's operator must make; passwords follow from the hub's admin token."""
    OFF = "off"
    """All providers share one URL."""


MAX_SLOTS = 2**20

ModelName = Annotated[str, Field(min_length=1, max_length=MAX_MODEL_CHARS)]


class RegistrationRequest(Part):
    """A provider that joins, or renews its membership because something changed or time has passed."""

    name: str = Field(pattern=f"^{NAME_PATTERN}$")
    """The node it wants to be."""
    models: tuple[ModelName, ...] = Field((), max_length=MAX_MODELS)
    """Those whose jobs it wants to take; it renews when they change."""
    slots: int = Field(1, ge=0, le=MAX_SLOTS)
    engine: EngineReport
    version: Text = ""
    instance: Annotated[str, Field(max_length=64)] = ""
    """Which process of that name: new at each start. A live node of another instance keeps its name."""


class Registration(Part):
    """What a member of the grid works with. Secrets: never to be logged or shown."""

    node: str
    heartbeat_s: float
    prefix: str
    redis_url: str
    """Where the broker is, without user and password."""
    username: str | None = None
    password: str | None = None
    """Both None in the mode `off`, where the URL holds all there is."""
    signing_keys: tuple[str, ...] = ()
    """`id:secret` each; jobs may be signed with any of them. Empty: jobs are unsigned."""
    models: tuple[ModelName, ...] | None = None
    """Those whose jobs it may take; None: all that it asked for."""
    has_near_lane: bool = False
    """Whether it has a lane of its own, which it may read; hubs of former versions make none."""
    renew_s: float = 60
    """How often to register again, so that changed keys and forgotten users are noticed."""
