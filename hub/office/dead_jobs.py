"""What an operator does with dead letters: look, retry, drop."""

import asyncio
from typing import Any

import structlog

from common.errors import BrokerError, ClientGone
from common.streams.dead import DeadLetter, DeadLetters, is_entry
from common.types import RequestId
from hub.asking import asking_broker
from hub.errors import Conflict, NotFound, RequestFailed
from hub.requests.admission import Submission
from hub.requests.burial import DeadJobs
from hub.requests.dispatcher import Dispatcher
from hub.requests.request import OpenRequest
from hub.settings import HubSettings

log = structlog.get_logger()

BATCH = 10
"""So many letters are read and their seals checked at once: bodies are long, and others' tokens must not wait."""


class DeadDesk:
    """Dead letters, and the retries that this hub reads to their end. Raises BrokerAway from every method."""

    def __init__(
        self, letters: DeadLetters, dead_jobs: DeadJobs, dispatcher: Dispatcher, settings: HubSettings
    ) -> None:
        self._letters = letters
        self._dead_jobs = dead_jobs
        self._dispatcher = dispatcher
        self._retry_after_s = settings.retry_after_s
        self._retries: set[asyncio.Task[None]] = set()
        self._retried_as: dict[str, RequestId | None] = {}
        """Letters whose job runs again at this hub; None: it is being published."""

    async def newest(self, limit: int) -> list[dict[str, Any]]:
        """The last letters, the newest first; never a body."""
        shown: list[dict[str, Any]] = []
        last: str | None = None
        while len(shown) < limit:
            with asking_broker("dead letters", self._retry_after_s):
                letters = await self._letters.newest(min(BATCH, limit - len(shown)), before=last)
            if not letters:
                break
            shown += [self._shown(letter) for letter in letters]
            last = letters[-1].entry
        return shown

    async def retry(self, entry: str) -> dict[str, Any]:
        """Publish a letter's job as a new request without a client; the letter goes when that has an end of its own.

        So no hub that dies in between takes the job with it: the letter is still there, and can be retried again. At
        worst a job is run twice: where two hubs are asked at once, or the hub dies before it drops the letter. The
        answer is read and not kept; what became of the request is told by its own entry, and if it fails for good
        again, by a new letter.

        Raises:
            NotFound: there is no such letter.
            Conflict: no hub of this grid wrote it with a body, or this hub retries it already.
            RequestFailed: a new request for that model is not admitted now.
        """
        letter = await self._read(entry)
        job = self._dead_jobs.sealed_job(letter)
        if job is None:
            raise Conflict(
                f"The dead job {entry} cannot be retried: it was refused by a provider, or kept without its body.",
                code="not_retryable",
            )
        if entry in self._retried_as:
            raise Conflict(f"The dead job {entry} is being retried already.", code="being_retried")
        self._retried_as[entry] = None
        submission = Submission(endpoint=job.endpoint, model=job.model, body=job.body, stream=job.stream)
        try:
            opened = await self._dispatcher.submit(submission)
        except BaseException:  # a cancellation too
            del self._retried_as[entry]
            raise
        self._retried_as[entry] = opened.id
        task = asyncio.create_task(self._read_to_end(opened, entry), name=f"retry-{opened.id}")
        self._retries.add(task)
        task.add_done_callback(self._retries.discard)
        log.info("dead_job_retried", entry=entry, was=job.id, request=opened.id)
        return {"id": entry, "retried": True, "request": opened.id}

    async def drop(self, entry: str) -> dict[str, Any]:
        """Delete a letter; NotFound without it."""
        await self._read(entry)
        with asking_broker("drop", self._retry_after_s):
            await self._letters.drop(entry)
        return {"id": entry, "dropped": True}

    async def drop_all(self) -> dict[str, Any]:
        """Delete all letters; how many there were."""
        with asking_broker("drop", self._retry_after_s):
            dropped = await self._letters.drop_all()
        log.info("dead_jobs_dropped", dropped=dropped)
        return {"dropped": dropped}

    async def _read(self, entry: str) -> DeadLetter:
        letter = None
        if is_entry(entry):
            with asking_broker("dead letter", self._retry_after_s):
                letter = await self._letters.read(entry)
        if letter is None:
            raise NotFound(f"There is no dead job {entry!r}.", code="dead_job_not_found")
        return letter

    async def _read_to_end(self, request: OpenRequest, entry: str) -> None:
        """Be the client of a retry, as far as a request needs one; a hub that stops ends it as it ends any other."""
        try:
            while not request.is_finished:
                await request.advance()
                request.take()
        except RequestFailed as exc:
            request.failed_with = exc
        except ClientGone:
            log.info("client_gone", request=request.id)
        finally:
            self._dispatcher.close(request)
            del self._retried_as[entry]
        try:
            if request.is_finished or await self._is_buried(request):
                await self._letters.drop(entry)
        except BrokerError as exc:
            log.warning("broker_unavailable", doing="drop", entry=entry, error=str(exc))

    async def _is_buried(self, request: OpenRequest) -> bool:
        """Whether a letter of its own tells how a retry failed; else the old one must stay."""
        return any(letter.text(b"id") == request.id for letter in await self._letters.newest(BATCH))

    def _shown(self, letter: DeadLetter) -> dict[str, Any]:
        fields = {"request": b"id", "model": b"model", "endpoint": b"endpoint", "code": b"code", "reason": b"reason"}
        attempt = letter.text(b"attempt") or ""
        return {
            "id": letter.entry,
            "at": letter.at_ms,
            **{name: letter.text(field) for name, field in fields.items()},
            "attempt": int(attempt) if attempt.isascii() and attempt.isdigit() and len(attempt) < 11 else None,
            "body_bytes": len(letter.fields.get(b"body", b"")),
            "is_retryable": self._dead_jobs.sealed_job(letter) is not None,
            "retried_as": self._retried_as.get(letter.entry),
        }
