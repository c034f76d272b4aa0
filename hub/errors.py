"""Errors of a hub. Each is what a client hears, in whatever API it called: a status, a stable code, a sentence.

RequestFailed
├── InvalidRequest     400  the body cannot be a request
├── Unauthorized       401  no token, or not one of ours
├── BodyTooLarge       413
├── ModelNotFound      404  no node ever served it
├── QueueFull          429  the model's queue takes no more
├── HubFull            503  this process holds as many requests as it may
├── ModelUnavailable   503  known, but no node serves it now
├── QueueTimeout       503  no slot came free in time
├── BrokerAway         503
├── ShuttingDown       503
├── JobLost            502  refused by a provider, or lost by the broker, before anyone ran it
├── ProviderLost       502  the node died or gave the job back, and no other attempt is possible
├── AnswerTooLarge     502
└── AttemptFailed      any  what the provider or its engine said
"""

from common.errors import GHubError
from common.wire import Failure


class RequestFailed(GHubError):
    """A request that gets no (whole) answer. `retry_after_s` is set where trying again later makes sense."""

    status = 500
    code = "internal_error"
    type = "server_error"

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        type: str | None = None,  # noqa: A002 - the name that APIs give it
        param: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status or self.status
        self.code = code or self.code
        self.type = type or self.type
        self.param = param
        self.retry_after_s = retry_after_s


class InvalidRequest(RequestFailed):
    """The body cannot be a request of this API."""

    status, code, type = 400, "invalid_request", "invalid_request_error"


class Unauthorized(RequestFailed):
    """The caller does not show a secret that is known here."""

    status, code, type = 401, "invalid_token", "invalid_request_error"


class BodyTooLarge(RequestFailed):
    """The body is longer than the hub takes."""

    status, code, type = 413, "request_too_large", "invalid_request_error"


class ModelNotFound(RequestFailed):
    """No node ever served this model."""

    status, code, type = 404, "model_not_found", "invalid_request_error"


class QueueFull(RequestFailed):
    """The model's queue takes no more."""

    status, code, type = 429, "queue_full", "rate_limit_error"


class HubFull(RequestFailed):
    """This hub holds as many requests as it may."""

    status, code = 503, "hub_full"


class ModelUnavailable(RequestFailed):
    """The model is known, but no live node serves it."""

    status, code = 503, "model_unavailable"


class QueueTimeout(RequestFailed):
    """No slot came free in time."""

    status, code = 503, "queue_timeout"


class BrokerAway(RequestFailed):
    """The broker cannot be reached, or lost this request."""

    status, code = 503, "broker_unavailable"


class ShuttingDown(RequestFailed):
    """This hub is stopping."""

    status, code = 503, "shutting_down"


class JobLost(RequestFailed):
    """Its job left the queue and nobody runs it: a provider refused it, or the broker lost it."""

    status, code = 502, "job_lost"


class ProviderLost(RequestFailed):
    """The node died or gave the job back, and no further attempt is possible."""

    status, code = 502, "provider_lost"


class AnswerTooLarge(RequestFailed):
    """An answer that isn't streamed is longer than the hub holds."""

    status, code = 502, "answer_too_large"


class AttemptFailed(RequestFailed):
    """The last attempt failed, in the provider's words."""

    def __init__(self, failure: Failure, *, retry_after_s: int | None = None) -> None:
        super().__init__(
            failure.message,
            status=failure.status,
            code=failure.code,
            type=failure.type,
            param=failure.param,
            retry_after_s=retry_after_s,
        )
