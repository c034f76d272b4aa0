"""The one way in for whatever becomes a job: who asks, what the body says, what the headers wish for."""

from typing import Protocol

from fastapi import Request, Response
from pydantic import BaseModel

from common.telemetry.port import NO_TRACING, Tracing
from common.types import Lane, ModelId
from hub.access.gatekeeper import Gatekeeper
from hub.api.bodies import check_body, read_body
from hub.api.errors import error_response
from hub.api.relay_response import RelayResponse
from hub.api.resumable_intake import ResumableIntake
from hub.api.shape import ApiShape
from hub.api.wishes import read_header, wishes_in
from hub.errors import RequestFailed
from hub.figures.tally import Tally
from hub.requests.admission import Submission
from hub.requests.dispatcher import Dispatcher
from hub.requests.limits import quota_headers
from hub.requests.trail import RequestTrail
from hub.settings import HubSettings

LANE_HEADER = "x-ghub-lane"
DEADLINE_HEADER = "x-ghub-deadline-s"
MAX_DEADLINE_S = 7 * 86_400


class JobBody(Protocol):
    """What every body that becomes a job has."""

    model: str
    stream: bool | None


class Intake:
    """Turns HTTP requests into submissions, and submissions into answers, the same for every API."""

    def __init__(
        self,
        gatekeeper: Gatekeeper,
        dispatcher: Dispatcher,
        resumable: ResumableIntake,
        tally: Tally,
        settings: HubSettings,
        tracing: Tracing = NO_TRACING,
    ) -> None:
        self._gatekeeper = gatekeeper
        self._dispatcher = dispatcher
        self._resumable = resumable
        self._tally = tally
        self._settings = settings
        self._tracing = tracing

    async def serve(
        self, request: Request, body_shape: type[BaseModel], shape: ApiShape, *, streams_by_default: bool = False
    ) -> Response:
        """Answer a request by a job for the same path.

        Args:
            request: whose body was not read yet.
            body_shape: its checked part; a `JobBody`.
            shape: of errors and streams.
            streams_by_default: whether a body that says nothing of `stream` wants one.

        Raises:
            RequestFailed: who asks, or what, is not known well enough to admit it or not.
        """
        tracing = self._tracing
        trail = RequestTrail.arrive(tracing, request.scope, request.headers) if tracing.is_on else None
        try:
            with self._dispatcher.arriving():
                submission, idempotency_key = await self._read(
                    request, body_shape, trail, streams_by_default=streams_by_default
                )
                return await self._answer(submission, shape, idempotency_key)
        except RequestFailed as exc:
            self._tally.refused(request.scope["path"], None, exc)
            if trail is not None:
                trail.refused(exc)
            raise
        except BaseException:
            if trail is not None:
                trail.broken()
            raise

    async def _answer(self, submission: Submission, shape: ApiShape, idempotency_key: str | None) -> Response:
        try:
            if submission.wishes.is_resumable:
                return await self._resumable.serve(submission, shape, idempotency_key)
            opened = await self._dispatcher.submit(submission)
        except RequestFailed as exc:
            self._tally.refused(submission.endpoint, self._dispatcher.known_model(submission.model), exc)
            if submission.trail is not None:
                submission.trail.refused(exc)
            return error_response(exc, shape, quota_headers(self._dispatcher.quota(submission.caller.key)))
        return RelayResponse(opened, self._dispatcher, shape, self._settings)

    async def _read(
        self, request: Request, body_shape: type[BaseModel], trail: RequestTrail | None, *, streams_by_default: bool
    ) -> tuple[Submission, str | None]:
        """What is asked for, and its Idempotency-Key."""
        caller = await self._gatekeeper.client(request.headers)  # before the body: strangers send none
        body = await read_body(request, self._settings.max_body_bytes, self._settings.body_timeout_s)
        checked: JobBody = check_body(body_shape, body)  # type: ignore[assignment]
        said = wishes_in(request.headers)
        submission = Submission(
            endpoint=request.scope["path"],
            model=ModelId(checked.model),
            body=body,
            stream=streams_by_default if checked.stream is None else checked.stream,
            caller=caller,
            lane=read_header(request.headers, LANE_HEADER, _lane),
            deadline_s=read_header(request.headers, DEADLINE_HEADER, _seconds),
            trace=request.headers.get("traceparent", "")[:256],
            wishes=said.wishes,
            trail=trail,
        )
        if trail is not None:
            trail.asks(submission.endpoint, submission.model, stream=submission.stream)
        return submission, said.idempotency_key


def _lane(said: str) -> Lane:
    if said not in (Lane.INTERACTIVE, Lane.BATCH):
        raise ValueError("expected 'interactive' or 'batch'")
    return Lane(said)


def _seconds(said: str) -> float:
    try:
        seconds = float(said)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= MAX_DEADLINE_S:
        raise ValueError(f"expected a number of seconds, more than 0 and at most {MAX_DEADLINE_S}")
    return seconds
