"""Settings of the one-machine stack: `GHUB_UP_…`; the first group are `ghub up`'s options."""

from pathlib import Path

import platformdirs
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


def _default_data_dir() -> Path:
    return platformdirs.user_data_path("ghubai")


class UpSettings(BaseSettings):
    """What can be set on `ghub up`. The rest is set on its parts (`GHUB_HUB_…`, `GHUB_PROVIDER_…`)."""

    model_config = SettingsConfigDict(env_prefix="GHUB_UP_", extra="ignore", frozen=True, use_attribute_docstrings=True)

    host: str = "127.0.0.1"
    """On anything but loopback clients must show a key, and the embedded broker listens there too."""
    port: int = Field(8080, ge=1, le=65535)
    hubs: int = Field(1, ge=1, le=64)
    """Hub processes that share the port."""
    data_dir: Path = Field(default_factory=_default_data_dir)
    redis_url: str | None = None
    """A broker that runs already; None: the embedded one."""
    engine_url: str | None = None
    """An engine that runs already; None: Ollama if it runs, else the built-in one."""
    slots: int | None = Field(None, ge=1, le=4096)
    """Jobs at once; None: 4 with the built-in engine, which has at most 64, else what the engine says."""

    broker_port: int = Field(6399, ge=1, le=65535)
    """Wish for the embedded broker: 6379 may be another Redis. If it is taken, any free port."""
    broker_memory_mib: int = Field(1024, ge=16)
    """What the embedded broker may hold; past it publishing is refused. 10,000 open requests take about 45 MiB."""
    engine_port: int = Field(11433, ge=1, le=65535)
    """Wish for the built-in engine, next to Ollama's usual one. If it is taken, any free port."""
    provider_port: int = Field(8081, ge=1, le=65535)
    """Wish for the provider's own HTTP. If it is taken, any free port."""
    ollama_url: str = Field("http://127.0.0.1:11434", pattern=r"^https?://[^/\s]+$")
    """Where a running Ollama is looked for when no engine is named."""
    start_timeout_s: float = Field(120, gt=0, le=3600)
    """From the first process to `ready`."""
    hub_shutdown_timeout_s: float = Field(1.2, ge=0, le=600)
    """How long hubs may finish open answers after a stop signal."""
    provider_drain_timeout_s: float = Field(0.8, ge=0, le=600)
    """How long the provider may then finish jobs: few, since its hubs are gone."""
    stop_grace_s: float = Field(0.72, gt=0, le=60)
    """What each of the four turns of the stop gets on top. With the defaults all ends within 4.9 s."""
    log_limit_mib: int = Field(16, ge=1)
    """A part's log that grows past this is put aside as `.1`."""
