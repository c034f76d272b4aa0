"""Names of spans and attributes that hub and provider share, as OpenTelemetry's conventions have them.

Generative AI and messaging are in development there (opentelemetry.io/docs/specs/semconv, read in November 2026). What
is ours alone begins with `ghub.`.
"""

from common.endpoints import ENDPOINTS
from common.streams.jobs import LaneName
from common.telemetry.port import Attributes, Value
from common.wire import Job, Usage

FIRST_DATA = "first_data"
"""The event of the first part of an answer."""


def operation_of(endpoint: str) -> str:
    """What a path does, as `gen_ai.operation.name` says it."""
    known = ENDPOINTS.get(endpoint)
    return "unknown" if known is None else known.operation


def about_request(job: Job, asked_for: str) -> dict[str, Value]:
    """What is known of a request. `asked_for`: the model as its client wrote it."""
    return {
        "gen_ai.operation.name": operation_of(job.endpoint),
        "gen_ai.request.model": asked_for,
        "gen_ai.request.stream": job.stream,
        "ghub.request.id": job.id,
    }


def about_usage(usage: Usage | None) -> Attributes:
    """The tokens that an answer took, as far as they are known."""
    if usage is None:
        return {}
    told: dict[str, Value] = {}
    if usage.prompt_tokens is not None:
        told["gen_ai.usage.input_tokens"] = usage.prompt_tokens
    if usage.completion_tokens is not None:
        told["gen_ai.usage.output_tokens"] = usage.completion_tokens
    if usage.is_estimate:
        told["ghub.usage.estimated"] = True
    return told


def about_message(operation: str, kind: str, lane: LaneName, job: Job) -> dict[str, Value]:
    """A job as a message of the broker's. `operation`: what is done in our words; `kind`: in the convention's."""
    return {
        "messaging.system": "redis",
        "messaging.operation.name": operation,
        "messaging.operation.type": kind,
        "messaging.destination.name": str(lane),
        "messaging.message.body.size": len(job.body),
        "ghub.request.id": job.id,
        "ghub.attempt": job.attempt,
        "ghub.lane": lane.lane.value,
    }
