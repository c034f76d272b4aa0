"""Buries jobs that failed on every attempt, so that the operator can look at them and retry them.

Providers may write dead letters too (of jobs that they refuse), and a letter that is retried becomes a job with this
grid's signature. So a hub seals its own: with the admin token, which no provider knows, over every field of the job.
"""

import structlog

from common.errors import BrokerError, GHubError
from common.signing import SigningKeys
from common.streams.dead import DeadLetter, DeadLetters
from common.wire import Job
from hub.errors import RequestFailed
from hub.settings import HubSettings

log = structlog.get_logger()

MAX_BODY_BYTES = 256 * 2**10
"""Longer bodies are not kept: a thousand letters must leave the broker room to work."""


class DeadJobs:
    """Writes this grid's letters, and tells them from those that anybody else wrote."""

    def __init__(self, letters: DeadLetters, settings: HubSettings) -> None:
        self._letters = letters
        self._keeps_bodies = settings.keep_dead_bodies
        token = settings.admin_token
        self._seal = SigningKeys((("operator", token.get_secret_value().encode()),) if token else ())

    async def bury(self, job: Job, error: RequestFailed) -> None:
        """Write a letter. Never raises: whoever waits for the job hears its error anyway."""
        fields = {**job.signed(self._seal).to_fields(), b"code": error.code.encode(), b"reason": error.message.encode()}
        if not (self._seal and self._keeps_bodies and len(job.body) <= MAX_BODY_BYTES):
            del fields[b"body"], fields[b"sig"]
        try:
            await self._letters.add(fields)
        except BrokerError as exc:
            log.warning("bury_failed", request=job.id, error=str(exc))

    def sealed_job(self, letter: DeadLetter) -> Job | None:
        """The job in a letter that a hub of this grid wrote with its body; None for any other."""
        if not self._seal:
            return None
        try:
            job = Job.from_fields(letter.fields)
            job.verify(self._seal)
        except GHubError:
            return None
        return job
