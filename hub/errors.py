"""Errors of a hub. Each is what a client hears, in whatever API it called: a status, a stable code, a sentence.

RequestFailed
├── 400  InvalidRequest
├── 401  Unauthorized ── UnknownClient
├── 403  Forbidden ── ModelForbidden, LaneForbidden
├── 404  NotFound, ModelNotFound, ApiNotServed
├── 408  BodyTimeout
├── 409  Conflict
├── 410  RequestGone, NobodyReads
├── 413  BodyTooLarge
├── 422  KeyReused
├── 429  QueueFull, KeyQueueFull, TooManyReaders, RateLimited
├── 502  AnswerTooLarge, ClientTooSlow, HubLost, JobLost, ProviderLost
├── 503  BrokerAway, HandedOn, HubFull, ModelUnavailable, QueueTimeout, ShuttingDown
├── 504  DeadlineExceeded
└── any  AttemptFailed
"""

import re

from common.errors import GHubError
from common.wire import Failure

_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)


def plain_code(code: str) -> str:
    """An error's code where it must be one word: engines may say anything."""
    return code if _CODE.fullmatch(code) else "request_failed"


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
        param: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status or self.status
        self.code = code or self.code
        self.param = param
        self.retry_after_s = retry_after_s

    def as_failure(self) -> Failure:
        """The same, as a reply's last word."""
        return Failure(self.status, self.code, self.message, type=self.type, param=self.param)


class InvalidRequest(RequestFailed):
    """The body cannot be a request of this API."""

    status, code, type = 400, "invalid_request", "invalid_request_error"


class Unauthorized(RequestFailed):
    """The caller does not show a secret that is known here."""

    status, code, type = 401, "invalid_token", "invalid_request_error"


class UnknownClient(Unauthorized):
    """The client shows no key, or none that is good here."""

    code, type = "invalid_api_key", "authentication_error"


class Forbidden(RequestFailed):
    """Who asks is known, and may not have this."""

    status, code, type = 403, "forbidden", "permission_error"


class ModelForbidden(Forbidden):
    """The client's key does not allow this model."""

    code = "model_not_allowed"


class LaneForbidden(Forbidden):
    """The client's key does not allow so urgent a lane."""

    code = "lane_not_allowed"


class NotFound(RequestFailed):
    """There is nothing of that name."""

    status, code, type = 404, "not_found", "invalid_request_error"


class Conflict(RequestFailed):
    """What is asked does not go with how things stand."""

    status, code, type = 409, "conflict", "invalid_request_error"


class NobodyReads(RequestFailed):
    """Nobody has read the answer for too long."""

    status, code, type = 410, "request_cancelled", "timeout_error"


class RequestGone(RequestFailed):
    """The request is over, and nothing of its answer is kept any more."""

    status, code, type = 410, "request_gone", "invalid_request_error"


class KeyReused(RequestFailed):
    """This Idempotency-Key stands for a request with another body."""

    status, code, type = 422, "idempotency_key_reused", "invalid_request_error"


class BodyTimeout(RequestFailed):
    """The body did not come in time."""

    status, code, type = 408, "body_timeout", "invalid_request_error"


class BodyTooLarge(RequestFailed):
    """The body is longer than the hub takes."""

    status, code, type = 413, "request_too_large", "invalid_request_error"


class ModelNotFound(RequestFailed):
    """No node ever served this model."""

    status, code, type = 404, "model_not_found", "invalid_request_error"


class ApiNotServed(RequestFailed):
    """Nodes serve this model, but none of them this API."""

    status, code, type = 404, "endpoint_not_supported", "invalid_request_error"


class QueueFull(RequestFailed):
    """The model's queue takes no more."""

    status, code, type = 429, "queue_full", "rate_limit_error"


class KeyQueueFull(RequestFailed):
    """As many requests of this client's key wait as may."""

    status, code, type = 429, "key_queue_full", "rate_limit_error"


class TooManyReaders(RequestFailed):
    """As many read this answer, or answers of other hubs, as may."""

    status, code, type = 429, "too_many_readers", "rate_limit_error"


class RateLimited(RequestFailed):
    """This client's key has used up its minute."""

    status, code, type = 429, "rate_limit_exceeded", "rate_limit_error"


class DeadlineExceeded(RequestFailed):
    """The time that the client gave has passed."""

    status, code, type = 504, "deadline_exceeded", "timeout_error"


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


class HandedOn(RequestFailed):
    """This hub is stopping, and another one looks after the request, which can be resumed there."""

    status, code = 503, "handed_on"


class HubLost(RequestFailed):
    """The hub that looked after the request died before its job was published."""

    status, code = 502, "hub_lost"


class JobLost(RequestFailed):
    """Its job left the queue and nobody runs it: a provider refused it, or the broker lost it."""

    status, code = 502, "job_lost"


class ProviderLost(RequestFailed):
    """The node died or gave the job back, and no further attempt is possible."""

    status, code = 502, "provider_lost"


class AnswerTooLarge(RequestFailed):
    """An answer that isn't streamed is longer than the hub holds."""

    status, code = 502, "answer_too_large"


class ClientTooSlow(RequestFailed):
    """The client left so much of its answer unread that the broker holds no more of it."""

    status, code = 502, "client_too_slow"


class AttemptFailed(RequestFailed):
    """The last attempt failed, in the provider's words."""

    def __init__(self, failure: Failure, *, retry_after_s: int | None = None) -> None:
        super().__init__(
            failure.message,
            status=failure.status,
            code=failure.code,
            param=failure.param,
            retry_after_s=retry_after_s,
        )
        self.type = failure.type or self.type
