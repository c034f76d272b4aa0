"""A provider's report on itself: what `GET /health` of a provider answers and `POST /api/provider/health` takes."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from common.settings import NAME_PATTERN
from common.types import NodeState

Text = Annotated[str, Field(max_length=1024)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, use_attribute_docstrings=True)


class GpuReport(_Part):
    """One GPU; None where it doesn't tell."""

    name: Text
    uuid: Text = ""
    driver_version: Text = ""
    cuda_version: Text = ""
    memory_used_mib: int | None = Field(None, ge=0)
    memory_total_mib: int | None = Field(None, ge=0)
    utilization_pct: int | None = Field(None, ge=0, le=100)
    temperature_c: int | None = None
    power_w: float | None = Field(None, ge=0)


class ModelReport(_Part):
    """One model; what the engine doesn't tell is None or empty."""

    id: Text
    size_bytes: int | None = Field(None, ge=0)
    digest: Text = ""
    loaded: bool = False


class EngineReport(_Part):
    """The engine behind a provider."""

    kind: Text
    version: Text = ""
    url: Text = ""
    capabilities: tuple[Text, ...] = ()


class HealthReport(_Part):
    """How a provider stands."""

    node: str = Field(pattern=f"^{NAME_PATTERN}$")
    version: Text
    state: NodeState
    reasons: tuple[Text, ...] = ()
    """Why it takes no work; empty if it does."""
    gpu_count: int = Field(0, ge=0)
    gpus: tuple[GpuReport, ...] = Field((), max_length=256)
    models: tuple[ModelReport, ...] = Field((), max_length=4096)
    engine: EngineReport
    public_url: Text = ""
    slots: int = Field(0, ge=0)
    running: int = Field(0, ge=0)
