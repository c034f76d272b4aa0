"""Settings that hub and provider share, read from the environment (`GHUB_…`); reading them does nothing."""

import re
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings import SettingsError as UnreadableSetting

from common.errors import SettingsError
from common.logs import LogFormat

Kind = TypeVar("Kind", bound=BaseSettings)
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"

LEASE_BEATS = 3
"""An entry in the registry lives for so many heartbeats."""


def _checked_name(value: str) -> str:
    if not re.fullmatch(NAME_PATTERN, value):
        raise ValueError("letters, digits, '.', '_' and '-', at most 64, the first a letter or digit")
    return value


ProcessName = Annotated[str, AfterValidator(_checked_name)]
"""A name that can stand in a key and in a header."""


class ProcessSettings(BaseSettings):
    """What can be set on every process."""

    model_config = SettingsConfigDict(
        env_prefix="GHUB_",
        env_nested_delimiter="__",
        extra="ignore",
        populate_by_name=True,
        frozen=True,
        use_attribute_docstrings=True,
    )

    log_format: LogFormat = Field(LogFormat.CONSOLE, validation_alias="GHUB_LOG_FORMAT")
    """`console` or `json`, one line an event, to stderr."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", validation_alias="GHUB_LOG_LEVEL")
    """Least level that is logged."""


class SharedSettings(ProcessSettings):
    """What every process of a grid must agree on."""

    redis_url: str = Field("redis://127.0.0.1:6379/0", validation_alias="GHUB_REDIS_URL")
    """Where the broker is: `redis://`, `rediss://` or `unix://`; or `redis+sentinel://host:port,host:port/service[/db]`,
    where sentinels name the server; or `redis+cluster://host:port,host:port`, some servers of a cluster."""
    prefix: str = Field("ghub:", min_length=1, max_length=40, pattern=r"^[^{}\s]+$", validation_alias="GHUB_PREFIX")
    """What every key starts with; no braces, they would move keys to another Cluster slot."""
    signing_key: SecretStr | None = Field(
        None, validation_alias="GHUB_SIGNING_KEY", examples=["k1:at-least-16-characters"]
    )
    """`id:secret[,id:secret …]`: hubs sign jobs with the first, providers accept any."""
    traces: bool | None = Field(None, validation_alias="GHUB_TRACES", examples=[True])
    """Whether requests are traced with OpenTelemetry, see docs/traces.md. Default: where `traces_endpoint` or
    `OTEL_EXPORTER_OTLP_ENDPOINT` names a collector."""
    traces_endpoint: str | None = Field(
        None,
        pattern=r"^https?://[^/\s@]+(/\S*)?$",
        validation_alias="GHUB_TRACES_ENDPOINT",
        examples=["http://127.0.0.1:4318"],
    )
    """The collector that spans go to, by OTLP over HTTP; `/v1/traces` is added. Default: what OpenTelemetry's own
    variables say, else this machine's port 4318."""
    traces_ratio: float | None = Field(None, ge=0, le=1, validation_alias="GHUB_TRACES_RATIO", examples=[0.1])
    """How many of the traces that begin here are recorded; where the caller traces, what it does counts. Default: as
    `OTEL_TRACES_SAMPLER` says, else all."""
    heartbeat_s: float = Field(2.0, ge=0.1, le=60, validation_alias="GHUB_HEARTBEAT_S")
    """How often a process renews its entry; the entry lives for three of these."""

    @property
    def lease_ms(self) -> int:
        """How long an entry lives after its last heartbeat, ms."""
        return int(self.heartbeat_s * LEASE_BEATS * 1000)


def read_settings(kind: type[Kind], **given: Any) -> Kind:  # noqa: ANN401 - each setting has its own type
    """Settings from what was given, the environment and the defaults, in this order.

    Raises:
        SettingsError: one line that names each wrong variable and what was expected.
    """
    try:
        return kind(**given)
    except UnreadableSetting as exc:
        raise SettingsError(str(exc)) from exc
    except ValidationError as exc:
        raise SettingsError("; ".join(_explained(problem, kind) for problem in exc.errors())) from exc


def _explained(problem: ErrorDetails, kind: type[BaseSettings]) -> str:
    if not problem["loc"]:  # of several settings together
        return problem["msg"].removeprefix("Value error, ")
    first, *rest = (str(part) for part in problem["loc"])
    field = kind.model_fields.get(first)
    alias = first if field is None else field.validation_alias
    name = alias if isinstance(alias, str) else kind.model_config.get("env_prefix", "") + first
    return f"{'__'.join([name, *rest]).upper()}: {problem['msg']}"
