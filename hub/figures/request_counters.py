"""Counters and histograms of requests, in prometheus-client's own classes.

So several hubs on one machine can share a port: with PROMETHEUS_MULTIPROC_DIR set, whichever is asked tells the sums of
all. Labels are bounded: engines and clients can invent models and error codes.
"""

from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Histogram

OTHER = "other"
MOST_MODELS = 500
MOST_CODES = 100
MAX_LABEL_CHARS = 256
NO_MODEL = ""
"""Of requests that were refused before their model was known."""
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)


class _Label:
    """The values of a label: as many as come first, then `other`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._seen: set[str] = set()

    def of(self, value: str) -> str:
        if value in self._seen:
            return value
        if len(self._seen) >= self._most or len(value) > MAX_LABEL_CHARS:
            return OTHER
        self._seen.add(value)
        return value


class _OfModel(NamedTuple):
    """The series of one model, found once: looking them up anew for each request took half of counting it."""

    prompt: Counter
    completion: Counter
    queue: Histogram
    first_token: Histogram
    whole: Histogram


class RequestCounters:
    """What is counted of requests."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._models = _Label(MOST_MODELS)
        self._codes = _Label(MOST_CODES)
        self._requests = Counter(
            "ghub_requests",
            "Requests that ended: done, failed, cancelled, expired or refused, and with which error code",
            ["endpoint", "model", "outcome", "code"],
            registry=registry,
        )
        self._tokens = Counter("ghub_tokens", "Tokens, by model and kind", ["model", "kind"], registry=registry)
        self._requeues = Counter(
            "ghub_requeues", "Attempts that came to nothing and were followed by another", ["code"], registry=registry
        )
        self._near = Counter(
            "ghub_affinity",
            "Jobs meant for a node that knows the conversation or has the model loaded, and what came of it",
            ["kind", "outcome"],
            registry=registry,
        )
        self._queue = self._seconds("ghub_queue_seconds", "Admission to first claim", registry)
        self._first_token = self._seconds("ghub_first_token_seconds", "Admission to first data of a stream", registry)
        self._whole = self._seconds("ghub_request_seconds", "Admission to end, of those that are done", registry)
        self._ended: dict[tuple[str, str, str, str], Counter] = {}
        self._of_models: dict[str, _OfModel] = {}

    def ended(self, endpoint: str, model: str, outcome: str, code: str) -> None:
        """A request has ended, or was refused."""
        labels = endpoint, self._models.of(model), outcome, self._codes.of(code)
        series = self._ended.get(labels)
        if series is None:
            series = self._ended[labels] = self._requests.labels(*labels)
        series.inc()

    def used(self, model: str, prompt_tokens: int, completion_tokens: int) -> None:
        """An answer has used so many tokens."""
        of_model = self._of(model)
        of_model.prompt.inc(prompt_tokens)
        of_model.completion.inc(completion_tokens)

    def requeued(self, code: str) -> None:
        """A further attempt is made because of this."""
        self._requeues.labels(self._codes.of(code)).inc()

    def near(self, kind: str, outcome: str) -> None:
        """A job was meant for a node that would do it sooner than others."""
        self._near.labels(kind, outcome).inc()

    def took(self, model: str, *, queue_s: float | None, first_token_s: float | None, whole_s: float | None) -> None:
        """How long what of a request took; None: it did not come to that."""
        of_model = self._of(model)
        if queue_s is not None:
            of_model.queue.observe(queue_s)
        if first_token_s is not None:
            of_model.first_token.observe(first_token_s)
        if whole_s is not None:
            of_model.whole.observe(whole_s)

    def _of(self, model: str) -> _OfModel:
        label = self._models.of(model)
        found = self._of_models.get(label)
        if found is None:
            found = self._of_models[label] = _OfModel(
                prompt=self._tokens.labels(label, "prompt"),
                completion=self._tokens.labels(label, "completion"),
                queue=self._queue.labels(label),
                first_token=self._first_token.labels(label),
                whole=self._whole.labels(label),
            )
        return found

    def _seconds(self, name: str, text: str, registry: CollectorRegistry) -> Histogram:
        return Histogram(name, text, ["model"], buckets=_SECONDS, registry=registry)
