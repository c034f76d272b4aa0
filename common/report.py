"""A provider's report on itself: what `GET /health` of a provider answers and `POST /api/provider/health` takes."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from common.settings import NAME_PATTERN
from common.types import NodeState

MAX_TEXT_CHARS = 1024
MAX_AMOUNT = 2**53
MAX_MODELS = 4096
MAX_MODEL_CHARS = 256

Text = Annotated[str, Field(max_length=MAX_TEXT_CHARS)]
Amount = Annotated[int, Field(ge=0, le=MAX_AMOUNT)]
"""A count or a size: no more than every reader of JSON can hold."""


class Part(BaseModel):
    """What providers and hubs say to each other in JSON; members of later versions are passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


class GpuReport(Part):
    """One GPU; None where it doesn't tell."""

    name: Text
    uuid: Text = ""
    driver_version: Text = ""
    cuda_version: Text = ""
    memory_used_mib: Amount | None = None
    memory_total_mib: Amount | None = None
    utilization_pct: int | None = Field(None, ge=0, le=100)
    temperature_c: int | None = Field(None, ge=-MAX_AMOUNT, le=MAX_AMOUNT)
    power_w: float | None = Field(None, ge=0)


class ModelReport(Part):
    """One model; what the engine doesn't tell is None or empty."""

    id: Text
    size_bytes: Amount | None = None
    digest: Text = ""
    loaded: bool = False


class EngineReport(Part):
    """The engine behind a provider."""

    kind: Text
    version: Text = ""
    url: Text = ""
    capabilities: tuple[Text, ...] = Field((), max_length=64)


class HealthReport(Part):
    """How a provider stands."""

    node: str = Field(pattern=f"^{NAME_PATTERN}$")
    version: Text
    state: NodeState
    reasons: tuple[Text, ...] = Field((), max_length=64)
    """Why it takes no work; empty if it does."""
    gpu_count: Amount = 0
    gpus: tuple[GpuReport, ...] = Field((), max_length=256)
    models: tuple[ModelReport, ...] = Field((), max_length=MAX_MODELS)
    engine: EngineReport
    public_url: Text = ""
    slots: Amount = 0
    running: Amount = 0
    in_grid: bool = False
    """Whether its entry stands in the broker: without it no job comes, though direct calls may."""


class StoredReport(HealthReport):
    """A report as the registry keeps it."""

    reported_at: int
    """When a hub took it, Unix ms on the broker's clock."""
