"""Settings of a provider: `GHUB_PROVIDER_…`, nested with `__`, e.g. `GHUB_PROVIDER_ENGINE__URL`.

`provider.config` reads them, from a file too.
"""

import json
import socket
from enum import StrEnum
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import NoDecode, SettingsConfigDict

from common.broker.url import checked
from common.errors import SettingsError
from common.settings import ProcessName, SharedSettings
from common.signing import SigningKeys
from provider.schedule import Schedule

URL_PATTERN = r"^https?://[^/\s]+(/\S*)?$"


def _default_name() -> str:
    name = "".join(c if (c.isalnum() and c.isascii()) or c in "._-" else "-" for c in socket.gethostname())[:64]
    return name.lstrip("._-") or "node"


def engine_root(url: str) -> str:
    """The root of an engine's URL, whether or not it was given with `/v1` as OpenAI clients want it."""
    return url.rstrip("/").removesuffix("/v1")


def _parted(value: object, separator: str) -> object:
    """A list written as one text: JSON, or parts with a separator; anything else is left as it is."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return [part.strip() for part in value.split(separator) if part.strip()]


def _as_gpus(value: object) -> object:
    parts = [value] if isinstance(value, int) else _parted(value, ",")
    if isinstance(parts, list):
        return [int(part) if isinstance(part, str) and part.isdecimal() else part for part in parts]
    return parts


def _as_token(value: SecretStr) -> SecretStr:
    """A secret that can stand in a header; what files and shells leave around it is cut off."""
    token = value.get_secret_value().strip()
    if not token:
        raise ValueError("it is empty: whoever shows nothing would show the right one")
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise ValueError("printable ASCII characters without blanks are expected")
    return SecretStr(token)


Token = Annotated[SecretStr, AfterValidator(_as_token)]
"""Sent or awaited as a Bearer token."""


def _without_secret(url: str) -> str:
    if "@" in url.partition("://")[2].partition("/")[0]:
        raise ValueError("a URL is shown in logs and in the registry: leave user and password out of it")
    return url


Url = Annotated[str, Field(pattern=URL_PATTERN), AfterValidator(_without_secret)]
EngineUrl = Annotated[Url, AfterValidator(engine_root)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(lambda value: _parted(value, ","))]
Windows = Annotated[tuple[str, ...], NoDecode, BeforeValidator(lambda value: _parted(value, ";"))]
GpuIds = Annotated[tuple[Annotated[int, Field(ge=0)] | str, ...] | None, NoDecode, BeforeValidator(_as_gpus)]


class EngineKind(StrEnum):
    """What serves the models on this machine."""

    AUTO = "auto"
    OLLAMA = "ollama"
    VLLM = "vllm"
    LLAMACPP = "llamacpp"
    LMSTUDIO = "lmstudio"
    OPENAI = "openai"


class UnknownPolicy(StrEnum):
    """What follows when nobody can tell how busy the GPU is."""

    ASSUME_IDLE = "assume-idle"
    SLOTS_ONLY = "slots-only"
    NEVER = "never"


class Section(BaseModel):
    """A group of settings that belong together."""

    model_config = ConfigDict(use_attribute_docstrings=True, frozen=True, extra="forbid", allow_inf_nan=False)


class EngineSettings(Section):
    """The local inference server."""

    url: EngineUrl | None = Field(None, examples=["http://127.0.0.1:11434"])
    """Its root; `/v1` at its end is cut off. Default: the first that is found at the usual ports of Ollama, vLLM,
    llama.cpp and LM Studio on this machine."""
    kind: EngineKind = EngineKind.AUTO
    """`ollama`, `vllm`, `llamacpp`, `lmstudio`, `openai` (anything else that speaks OpenAI's API), or `auto`: looked at
    and found."""
    api_key: Token | None = Field(None, examples=["a-secret-of-the-engine"])
    """Sent as a Bearer token, for engines that want one."""
    connect_timeout_s: float = Field(5, ge=0.1, le=60)
    """For a connection to it; past that it counts as down."""
    probe_interval_s: float = Field(5, ge=0.1, le=300)
    """How often its health and models are looked at: a new model shows within this."""
    probe_timeout_s: float = Field(5, ge=0.1, le=60)
    """For an answer to that look."""
    max_event_bytes: int = Field(16 * 2**20, ge=1024)
    """Longest single event; more is taken for nonsense."""


class ServerSettings(Section):
    """This provider's own HTTP: `/health`, `/busy`, `/metrics` and direct mode."""

    host: str = "127.0.0.1"
    """Address to listen on. Others need not reach a provider at all; a tunnel comes in by loopback."""
    port: int = Field(8081, ge=0, le=65535)
    """0 takes any free port."""
    require_hmac: bool = True
    """Whether direct mode wants `X-Inferoute-HMAC`. Without it whoever reaches the port may use the engine."""
    control_token: Token | None = Field(None, examples=["a-secret-of-yours"])
    """Bearer token for `/pause` and `/resume`. Without it they are for this machine alone, and off behind a tunnel."""
    max_body_bytes: int = Field(64 * 2**20, ge=1024)
    """Largest request body in direct mode; as much as four of them is held before their callers have shown an HMAC."""
    body_timeout_s: float = Field(120, gt=0)
    """For a whole body to arrive in direct mode."""
    send_timeout_s: float = Field(60, gt=0)
    """How long a client in direct mode may read nothing before it is cut off."""
    retry_after_s: int = Field(5, ge=1)
    """What Retry-After says on 503."""


class GateSettings(Section):
    """When the GPU counts as idle."""

    threshold_pct: float = Field(20, ge=0, le=100)
    """Utilisation by others than the engine above which no work is taken."""
    hysteresis_pct: float = Field(5, ge=0, le=100, validate_default=True)
    """How far below the threshold it must fall before work is taken again; at most the threshold itself."""
    sample_interval_s: float = Field(0.25, ge=0.05, le=60)
    """Between two readings of the GPU."""
    busy_after_samples: int = Field(2, ge=1, le=100)
    """So many readings in a row above the threshold close the gate: a single peak is no owner at work."""
    idle_after_s: float = Field(1, ge=0, le=3600)
    """So long it must stay below before the gate opens."""
    unknown: UnknownPolicy | None = Field(None, examples=["slots-only"])
    """When utilisation cannot be told (no driver, MIG, WDDM): `assume-idle`, `slots-only` (only slots that the engine
    says are free count) or `never`. Default: `assume-idle` on a machine without an NVIDIA GPU, else `slots-only`."""
    gpus: GpuIds = Field(None, examples=[[0]])
    """Indexes or UUIDs of the GPUs that the engine uses, e.g. `[0]`; in a variable `0,1`. Default: all."""
    own_processes: Names = ()
    """Names of processes whose GPU use counts as the engine's, beside those found by its port; in a variable parted by
    commas."""
    yield_to_owner: bool = True
    """Give running jobs back when others begin to use the GPU."""
    yield_after_s: float = Field(1, ge=0, le=3600)
    """How long others must use it before that."""
    check_memory: bool = True
    """Take no job for a model that isn't loaded while its weights would not fit into free GPU memory."""
    memory_factor: float = Field(1.2, ge=1, le=10)
    """What a model takes on the GPU, as a multiple of its weights: context and buffers come on top."""

    @field_validator("hysteresis_pct")
    @classmethod
    def _is_within_threshold(cls, value: float, info: ValidationInfo) -> float:
        threshold_pct = info.data.get("threshold_pct")  # missing if it is wrong itself
        if threshold_pct is not None and value > threshold_pct:
            raise ValueError(f"it may be at most threshold_pct, {threshold_pct:g}: the load could never fall so low")
        return value


class ScheduleSettings(Section):
    """When this machine may work for others."""

    windows: Windows = ()
    """`[days] HH:MM-HH:MM`, e.g. `22:00-08:00`, `mon-fri 18:00-24:00`, `sat,sun 00:00-24:00`; in a variable parted by
    semicolons. Default: always."""
    timezone: str = ""
    """An IANA name, e.g. `Europe/Amsterdam`. Default: the machine's."""

    @field_validator("windows")
    @classmethod
    def _are_windows(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        Schedule.parse(value, "")
        return value

    @field_validator("timezone")
    @classmethod
    def _is_timezone(cls, value: str) -> str:
        Schedule.parse((), value)
        return value


class TunnelSettings(Section):
    """How others reach this provider, if they do."""

    url: Url | None = Field(None, examples=["https://your-name.ngrok.app"])
    """The public URL of a tunnel (ngrok, cloudflared, …) to `server.port`; it is in the report."""


class ReportSettings(Section):
    """Health reports to the hub."""

    interval_s: float = Field(300, ge=1, le=86_400)
    """Between two reports when nothing changes."""
    min_gap_s: float = Field(5, ge=0, le=3600)
    """Least time between two reports, however often the state changes."""
    timeout_s: float = Field(10, gt=0, le=300)
    """For the hub's answer, to a report as to a question about an HMAC."""


class ProviderSettings(SharedSettings):
    """Everything that can be set on a provider."""

    # An empty variable is as good as none: container files pass many on that nobody has set.
    model_config = SettingsConfigDict(env_prefix="GHUB_PROVIDER_", env_ignore_empty=True, allow_inf_nan=False)

    name: ProcessName = Field(default_factory=_default_name, examples=["gpu-1"])
    """The node's name, unique in the grid; default: the host's."""
    hub_url: Url | None = Field(None, examples=["https://hub.example.org"])
    """A hub's root: where health reports go and HMACs are checked. Default: neither is done. With a token, and where no
    broker is named (`GHUB_REDIS_URL`), the provider registers here and is told where the broker is."""
    token: Token | None = Field(None, examples=["a-token-from-your-hub"])
    """This provider's token at the hub."""
    require_broker_tls: bool = False
    """Whether to refuse a broker that is reached over a network without TLS: prompts and answers go through it."""
    slots: int | None = Field(None, ge=1, le=4096, examples=[4])
    """Jobs at once; default: as many as the engine says it has, else 4."""
    engine: EngineSettings = EngineSettings()
    gate: GateSettings = GateSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    server: ServerSettings = ServerSettings()
    tunnel: TunnelSettings = TunnelSettings()
    report: ReportSettings = ReportSettings()

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

    traces_content: bool = False
    """Whether what was asked and answered goes into traces too. Whoever may look into the collector reads it there."""

    @property
    def registers(self) -> bool:
        """Whether this provider joins by its hub: it knows hub and token, and nobody told it of a broker."""
        is_told = "redis_url" in self.model_fields_set
        return not is_told and self.hub_url is not None and self.token is not None

    @field_validator("redis_url")
    @classmethod
    def _is_of_a_broker(cls, value: str) -> str:
        return checked(value)

    @field_validator("signing_key")
    @classmethod
    def _are_keys(cls, value: SecretStr | None) -> SecretStr | None:
        try:
            SigningKeys.parse(value, "")
        except SettingsError as exc:
            raise ValueError(str(exc).removeprefix(": ")) from exc
        return value
