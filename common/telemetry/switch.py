"""Whether a process traces, and where to: its settings, and the variables that OpenTelemetry's users know."""

import os
from urllib.parse import urlsplit

import structlog

from common.settings import SharedSettings
from common.telemetry.port import NO_TRACING, Tracing

log = structlog.get_logger()

EXTRA = "ghubai[telemetry]"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PATH = "/v1/traces"
DEFAULT_ENDPOINT = "http://localhost:4318"
"""Where OTLP over HTTP goes that was told nothing else."""


def open_tracing(settings: SharedSettings, service: str, instance: str) -> Tracing:
    """Traces as they are set.

    Where they are asked for and what they need is not installed, one line says so and the process goes on: a node that
    serves unseen is worth more than one that does not serve.

    Args:
        settings: of the process.
        service: what it is called, such as `ghub-hub`.
        instance: which one of these it is.
    """
    if not wants_traces(settings):
        return NO_TRACING
    try:
        from common.telemetry.otel import OtelTracing  # noqa: PLC0415 - whoever does not trace need not have it
    except ImportError as exc:
        log.warning("traces_off", missing=exc.name, hint=f"install {EXTRA}")
        return NO_TRACING
    protocol = _first_of(_PROTOCOLS)
    if protocol not in ("", "http/protobuf"):
        log.warning("traces_protocol", asked=protocol, hint="spans go out as http/protobuf: name a port that takes it")
    url, ratio = traces_url(settings), settings.traces_ratio
    try:
        tracing = OtelTracing.to_collector(service, instance, url, ratio)
    except (ValueError, OSError, RuntimeError) as exc:  # of one of OpenTelemetry's many variables
        log.warning("traces_off", error=str(exc), hint="look at the variables OTEL_…")
        return NO_TRACING
    log.info("traces_on", endpoint=_shown(url or _first_of(_ENDPOINTS) or DEFAULT_ENDPOINT), ratio=ratio)
    return tracing


def wants_traces(settings: SharedSettings) -> bool:
    """Whether somebody asked for traces, and nobody said no."""
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if settings.traces is not None:
        return settings.traces
    if os.environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "none":
        return False
    return settings.traces_endpoint is not None or bool(_first_of(_ENDPOINTS))


def traces_url(settings: SharedSettings) -> str | None:
    """Where spans are posted; None: as OpenTelemetry's own variables say."""
    if settings.traces_endpoint is None:
        return None
    root = settings.traces_endpoint.rstrip("/")
    return root if root.endswith(_PATH) else root + _PATH


def _first_of(names: tuple[str, ...]) -> str:
    return next((said for name in names if (said := os.environ.get(name, "").strip())), "")


def _shown(url: str) -> str:
    """An address without what may be a secret in it."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
