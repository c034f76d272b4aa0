"""Settings of a provider: `GHUB_PROVIDER_…`, nested with `__`, e.g. `GHUB_PROVIDER_ENGINE__URL`."""

import socket
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, SecretStr
from pydantic_settings import SettingsConfigDict

from common.settings import ProcessName, SharedSettings


def _default_name() -> str:
    name = "".join(c if (c.isalnum() and c.isascii()) or c in "._-" else "-" for c in socket.gethostname())[:64]
    return name.lstrip("._-") or "node"


class EngineKind(StrEnum):
    """What serves the models on this machine."""

    AUTO = "auto"
    LLAMACPP = "llamacpp"
    OPENAI = "openai"


class EngineSettings(BaseModel):
    """The local inference server."""

    model_config = ConfigDict(use_attribute_docstrings=True, frozen=True)

    url: str = Field("http://127.0.0.1:8000", pattern=r"^https?://[^/\s]+(/\S*)?$")
    """Its root, without `/v1`. The default is vLLM's."""
    kind: EngineKind = EngineKind.AUTO
    """`llamacpp`, `openai` (anything that speaks OpenAI's API), or `auto`: looked at and found."""
    api_key: SecretStr | None = None
    """Sent as a Bearer token, for engines that want one."""
    connect_timeout_s: float = Field(5, ge=0.1, le=60)
    """For a connection to it; past that it counts as down."""
    probe_interval_s: float = Field(5, ge=0.1, le=300)
    """How often its health and models are looked at: a new model shows within this."""
    probe_timeout_s: float = Field(5, ge=0.1, le=60)
    """For an answer to that look."""
    max_event_bytes: int = Field(16 * 2**20, ge=1024)
    """Longest single event; more is taken for nonsense."""


class ProviderSettings(SharedSettings):
    """Everything that can be set on a provider."""

    model_config = SettingsConfigDict(env_prefix="GHUB_PROVIDER_")

    name: ProcessName = Field(default_factory=_default_name)
    """The node's name, unique in the grid; default: the host's."""
    slots: int | None = Field(None, ge=1, le=4096)
    """Jobs at once; default: as many as the engine says it has, else 4."""
    engine: EngineSettings = EngineSettings()

    first_token_timeout_s: float = Field(300, gt=0)
    """From asking the engine to its first event: long, since a model may have to load."""
    token_timeout_s: float = Field(60, gt=0)
    """Between two events of a stream: an engine that is silent for so long hangs."""
    answer_timeout_s: float = Field(1800, gt=0)
    """For an answer that isn't streamed, which has no events to watch."""
    drain_timeout_s: float = Field(30, ge=0)
    """How long running jobs may go on after a stop signal before they are given back."""
    flush_gap_ms: float = Field(2, ge=0, le=1000)
    """Least time between two writes to the broker under load; a lone event never waits for it."""
    reply_buffer_bytes: int = Field(2**20, ge=1024)
    """How much of one answer may wait for the broker before its engine is no longer read."""
    max_answer_bytes: int = Field(256 * 2**20, ge=1024)
    """Longest answer to one job."""
    broker_grace_s: float = Field(30, ge=0)
    """How long written events are kept for a broker that is away before the jobs are dropped."""
