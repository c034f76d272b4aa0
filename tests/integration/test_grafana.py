"""The Grafana dashboard, the alert rules and the page on metrics: each speaks of figures that are really there."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import promql_parser as promql
import pytest
import yaml

from tests.support.call import Call, get, post
from tests.support.figures import figures, figures_of, labels_by_name
from tests.support.grid import chat
from tests.support.nvml import StubGpu, StubNvml
from tests.support.pair import Pair
from tests.support.processes import PROJECT, until

FOLDER = PROJECT / "deploy" / "grafana"
ADDED = {"instance", "job"}
"""Labels that Prometheus adds."""
ITS_OWN = {"up": ADDED}
"""A series that Prometheus makes."""


class Scrapes(NamedTuple):
    """What a hub and a provider at work tell."""

    labels: dict[str, set[str]]
    """Of every series, by name."""
    metrics: set[str]
    """Every metric, be there a series of it or not."""


@pytest.fixture
def scrapes(make_pair: Callable[..., Pair], gpu: StubNvml) -> Scrapes:
    """All that can be scraped while a request runs, one waits, and the node was paused."""
    gpu.set(StubGpu())
    pair = make_pair(GHUB_PROVIDER_SLOTS="1", **gpu.env)
    assert pair.call(tokens=3, stream=True).finish().status == 200
    assert pair.call(double={"status": 500, "error_body": "broken"}).finish().status == 502
    assert Call(pair.hub, chat(model="nobodys:1b")).finish().status == 404
    provider = pair.grid.provider_urls[pair.first_node]

    with pair.ask_first(stream=True, double={"prefill_ms": 600_000}), pair.call(stream=True) as waiting:
        waiting.wait_for(": queued")
        assert post(provider, b"", path="/pause", headers={"x-ghub-control": "1"}).status == 200
        until(lambda: "ghub_node_paused" in labels_by_name(figures(pair.hub)), 5, "it is paused")
        texts = [get(url, "/metrics").text for url in (pair.hub, provider)]
    labels = labels_by_name({series: value for text in texts for series, value in figures_of(text).items()})
    return Scrapes(labels, {name for text in texts for name in re.findall(r"^# HELP (\S+)", text, re.MULTILINE)})


def selectors(expression: Any) -> Iterator[Any]:
    """Every series that an expression names."""
    if isinstance(expression, promql.VectorSelector):
        yield expression
    elif isinstance(expression, promql.MatrixSelector):
        yield expression.vector_selector
    else:
        for part in ("lhs", "rhs", "expr", "param"):
            if (inner := getattr(expression, part, None)) is not None:
                yield from selectors(inner)
        for inner in getattr(expression, "args", ()):
            yield from selectors(inner)


def check(text: str, series: Mapping[str, set[str]]) -> None:
    """Fail unless an expression parses, and names but series and labels that are there."""
    plain = text.replace("$__rate_interval", "5m").replace("$model", ".*")
    found = [*selectors(promql.parse(plain))]
    assert found, text
    known = series | ITS_OWN
    for one in found:
        assert one.name in known, f"{one.name} in {text}"
        asked = {matcher.name for matcher in one.matchers.matchers}
        assert asked <= known[one.name] | ADDED, f"{asked} of {one.name} in {text}"
    for group in re.findall(r"(?:by|on|without) \(([^)]*)\)", text):
        labels = {label.strip() for label in group.split(",")}
        assert any(labels <= known[one.name] | ADDED for one in found), f"{labels} in {text}"


def test_dashboard_alerts_and_page_speak_of_what_is_there(scrapes: Scrapes) -> None:
    series = scrapes.labels
    dashboard = json.loads((FOLDER / "dashboard.json").read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    rules = [
        rule for group in yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"] for rule in group["rules"]
    ]
    expressions += [rule["expr"] for rule in rules]
    assert len(expressions) > 30
    for expression in expressions:
        check(expression, series)
    for rule in rules:
        assert rule["annotations"].keys() == {"summary", "cure"}, rule["alert"]
        for label in re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])):
            names = {one.name for one in selectors(promql.parse(rule["expr"]))}
            assert any(label in (series | ITS_OWN)[name] | ADDED for name in names), (rule["alert"], label)
    (variable,) = [one for one in dashboard["templating"]["list"] if one["name"] == "model"]
    asked = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"])
    assert asked is not None
    assert asked[2] in series[asked[1]]

    page = (PROJECT / "docs" / "metrics.md").read_text()
    documented = set(re.findall(r"^\| `(ghub_\w+)", page, re.MULTILINE))
    assert documented == scrapes.metrics
