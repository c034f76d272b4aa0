"""Reads what `/metrics` tells, as Prometheus would."""

from prometheus_client.parser import text_string_to_metric_families

from tests.support.call import get

Figures = dict[tuple[str, tuple[tuple[str, str], ...]], float]
"""Value by series: its name and its labels, sorted."""


def figures_of(text: str) -> Figures:
    """The series of a scrape."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def figures(url: str) -> Figures:
    """Scrape once."""
    answer = get(url, "/metrics")
    assert answer.status == 200
    return figures_of(answer.text)


def total(found: Figures, name: str, **labels: str) -> float:
    """The sum over all series of a name that have these labels."""
    return sum(
        value for (series, told), value in found.items() if series == name and labels.items() <= dict(told).items()
    )


def labels_by_name(found: Figures) -> dict[str, set[str]]:
    """Which labels the series of each name have."""
    names: dict[str, set[str]] = {}
    for name, labels in found:
        names.setdefault(name, set()).update(label for label, _ in labels)
    return names
