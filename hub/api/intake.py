"""The one way in for whatever becomes a job: who asks, what the body says, what the headers wish for."""

from typing import Protocol

from fastapi import Request, Response
from pydantic import BaseModel

from common.types import Lane, ModelId
from hub.access.gatekeeper import Gatekeeper
from hub.api.bodies import check_body, read_body
from hub.api.errors import error_response
from hub.api.relay_response import RelayResponse
from hub.api.resumable_intake import ResumableIntake
from hub.api.shape import ApiShape
from hub.api.wishes import read_header, wishes_in
from hub.errors import RequestFailed
from hub.requests.dispatcher import Dispatcher, Submission
from hub.requests.limits import quota_headers
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
        self, gatekeeper: Gatekeeper, dispatcher: Dispatcher, resumable: ResumableIntake, settings: HubSettings
    ) -> None:
        self._gatekeeper = gatekeeper
        self._dispatcher = dispatcher
        self._resumable = resumable
        self._settings = settings

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
        )
        try:
            if said.wishes.is_resumable:
                return await self._resumable.serve(submission, shape, said.idempotency_key)
            opened = await self._dispatcher.submit(submission)
        except RequestFailed as exc:
            return error_response(exc, shape, quota_headers(self._dispatcher.quota(caller.key)))
        return RelayResponse(opened, self._dispatcher, shape, self._settings)


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
