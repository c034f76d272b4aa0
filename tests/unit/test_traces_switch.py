"""Whether a process traces, and where to: its own settings first, then what OpenTelemetry's users know."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from common.errors import SettingsError
from common.settings import SharedSettings, read_settings
from common.telemetry.switch import open_tracing, traces_url, wants_traces

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
HERE = "http://127.0.0.1:4318"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in (ENDPOINT, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("given", "env", "wanted"),
    [
        ({}, {}, False),
        ({"traces": True}, {}, True),
        ({"traces_endpoint": HERE}, {}, True),
        ({}, {ENDPOINT: HERE}, True),
        ({}, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": HERE}, True),
        ({}, {ENDPOINT: " "}, False),
        ({"traces": False, "traces_endpoint": HERE}, {ENDPOINT: HERE}, False),
        ({}, {ENDPOINT: HERE, "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"traces": True}, {"OTEL_TRACES_EXPORTER": "none"}, True),
        ({"traces": True}, {ENDPOINT: HERE, "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_traces_are_on_where_somebody_asks_for_them(
    environment: pytest.MonkeyPatch, given: dict[str, Any], env: dict[str, str], wanted: bool
) -> None:
    for name, value in env.items():
        environment.setenv(name, value)
    assert wants_traces(SharedSettings(**given)) is wanted


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        (None, None),
        (HERE, f"{HERE}/v1/traces"),
        (f"{HERE}/", f"{HERE}/v1/traces"),
        (f"{HERE}/otlp", f"{HERE}/otlp/v1/traces"),
        (f"{HERE}/v1/traces", f"{HERE}/v1/traces"),
    ],
)
def test_the_path_of_spans_is_added_where_it_is_not_there(endpoint: str | None, url: str | None) -> None:
    assert traces_url(SharedSettings(traces_endpoint=endpoint)) == url


@pytest.mark.parametrize("endpoint", ["127.0.0.1:4318", "http://me:secret@127.0.0.1:4318", "grpc://h:4317", ""])
def test_what_is_no_address_of_a_collector_is_refused(endpoint: str) -> None:
    with pytest.raises(SettingsError, match="GHUB_TRACES_ENDPOINT") as refused:
        read_settings(SharedSettings, traces_endpoint=endpoint)
    assert "secret" not in str(refused.value)


async def test_what_is_told_at_the_start_names_the_collector_and_no_secret(environment: pytest.MonkeyPatch) -> None:
    environment.setenv(ENDPOINT, "http://me:secret@127.0.0.1:1/x?token=secret")
    environment.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with capture_logs() as told:
        await open_tracing(SharedSettings(traces_ratio=0.1), "s", "i").aclose()
    assert [line["event"] for line in told] == ["traces_protocol", "traces_on"]
    assert (told[1]["endpoint"], told[1]["ratio"]) == ("http://127.0.0.1:1/x", 0.1)


def test_a_variable_that_cannot_work_turns_traces_off_and_stops_nobody(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "-1")
    with capture_logs() as told:
        assert not open_tracing(SharedSettings(traces=True), "s", "i").is_on
    assert [line["event"] for line in told] == ["traces_off"]
