"""The one way in for whatever becomes a job: who asks, what the body says, what the headers wish for."""

from fastapi import Request, Response

from common.telemetry.port import NO_TRACING, Tracing
from common.types import AskedLane, Lane, ModelId
from hub.access.gatekeeper import Gatekeeper
from hub.api.bodies import check_body, read_body
from hub.api.errors import error_response
from hub.api.fields import JobBody
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

    async def serve(self, request: Request, body_shape: type[JobBody], shape: ApiShape) -> Response:
        """Answer a request by a job for the same path, or say why not.

        Args:
            request: whose body was not read yet.
            body_shape: its checked part.
            shape: of errors and streams.
        """
        tracing, path = self._tracing, request.scope["path"]
        trail = RequestTrail.arrive(tracing, request.scope, request.headers) if tracing.is_on else None
        submission: Submission | None = None
        try:
            with self._dispatcher.arriving():
                submission, idempotency_key = await self._read(request, body_shape, trail)
                return await self._answer(submission, shape, idempotency_key)
        except RequestFailed as exc:
            model = None if submission is None else self._dispatcher.known_model(submission.model)
            self._tally.refused(path, model, exc)
            if trail is not None:
                trail.refused(exc)
            quota = None if submission is None else self._dispatcher.quota(submission.caller.key)
            return error_response(exc, shape, quota_headers(quota))
        except BaseException:  # a cancellation too
            if trail is not None:
                trail.broken()
            raise

    async def _answer(self, submission: Submission, shape: ApiShape, idempotency_key: str | None) -> Response:
        if submission.wishes.is_resumable:
            return await self._resumable.serve(submission, shape, idempotency_key)
        return RelayResponse(await self._dispatcher.submit(submission), self._dispatcher, shape, self._settings)

    async def _read(
        self, request: Request, body_shape: type[JobBody], trail: RequestTrail | None
    ) -> tuple[Submission, str | None]:
        """What is asked for, and its Idempotency-Key."""
        caller = await self._gatekeeper.client(request.headers)  # before the body: strangers send none
        body = await read_body(request, self._settings.max_body_bytes, self._settings.body_timeout_s)
        checked = check_body(body_shape, body)
        said = wishes_in(request.headers)
        submission = Submission(
            endpoint=request.scope["path"],
            model=ModelId(checked.model),
            body=body,
            stream=checked.wants_stream,
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
    if said not in [*AskedLane]:
        raise ValueError(f"expected {' or '.join(f'{lane.value!r}' for lane in AskedLane)}")
    return Lane(said)


def _seconds(said: str) -> float:
    try:
        seconds = float(said)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= MAX_DEADLINE_S:
        raise ValueError(f"expected a number of seconds, more than 0 and at most {MAX_DEADLINE_S}")
    return seconds
