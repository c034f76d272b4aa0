"""The way in for requests that can be resumed, alone or under an Idempotency-Key."""

from fastapi import Response

from hub.api.follow_response import FollowResponse
from hub.api.shape import ApiShape
from hub.api.wishes import REPLAYED_HEADER
from hub.requests.admission import Submission
from hub.resume.followings import Followings
from hub.resume.guards import Guards
from hub.resume.idempotency import Idempotency
from hub.settings import HubSettings


class ResumableIntake:
    """Has a request looked after, and its client read along with it."""

    def __init__(self, guards: Guards, followings: Followings, idempotency: Idempotency, settings: HubSettings) -> None:
        self._guards = guards
        self._followings = followings
        self._idempotency = idempotency
        self._settings = settings

    async def serve(self, submission: Submission, shape: ApiShape, idempotency_key: str | None) -> Response:
        """Answer a submission, by a new request or by one that was made under the same key.

        Raises:
            RequestFailed: it is not admitted, or the key stands for something else.
        """
        if idempotency_key is None:
            guard = await self._guards.open(submission)
            return FollowResponse(self._followings.read_guarded(guard), shape, self._settings)
        answer = await self._idempotency.ask(submission, idempotency_key)
        if answer.is_replay and submission.trail is not None:
            submission.trail.replayed(answer.request)
        headers = {"x-request-id": answer.request, **({REPLAYED_HEADER: "true"} if answer.is_replay else {})}
        return FollowResponse(answer.reading, shape, self._settings, headers=headers)
