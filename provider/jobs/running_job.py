"""A job in a slot, and why it may be stopped from outside."""

import asyncio
import time
from enum import StrEnum

from common.streams.jobs import Ticket
from common.wire import Job, ReplyEntry
from provider.replies.reply import Reply
from provider.telemetry.trail import WorkTrail


class Stop(StrEnum):
    """Why a running job is stopped from outside."""

    OVER = "over"
    """Its request ended, or another attempt has it."""
    CANCELLED = "cancelled"
    """A hub ordered it."""
    RELEASED = "released"
    """This provider gives it back."""


class RunningJob:
    """A job in a slot."""

    def __init__(self, job: Job, ticket: Ticket, trail: WorkTrail | None = None) -> None:
        self.job = job
        self.ticket = ticket
        self.claimed_at = time.monotonic()
        self.trail = trail
        """None where nothing is traced."""
        self.stop_reason: Stop | None = None
        self.release_reason = ""
        self.reply: Reply | None = None
        """Since its task began."""
        self.task: asyncio.Task[None] | None = None
        self._has_begun = False

    def begin(self) -> bool:
        """Its task takes its first step; False if it was stopped before."""
        self._has_begun = True
        return self.stop_reason is None

    def stop(self, why: Stop, release_reason: str = "") -> None:
        """Stop it, once; its engine connection closes with it.

        A task that is cancelled before its first step never runs, not even its `finally`: one that has not begun looks
        at the reason itself.
        """
        if self.stop_reason is None:
            self.stop_reason = why
            self.release_reason = release_reason
            if self.task is not None and self._has_begun:
                self.task.cancel()

    def progress(self, now_ms: int) -> dict[str, str | int]:
        """How far it is, for the registry; times in Unix ms on the clock that says it is `now_ms`."""
        now, reply = time.monotonic(), self.reply
        told: dict[str, str | int] = {
            "id": self.job.id,
            "model": self.job.model,
            "lane": self.ticket.lane.lane.value,
            "attempt": self.job.attempt,
            "claimed_at": now_ms - int((now - self.claimed_at) * 1000),
        }
        if self.ticket.lane.near is not None:
            told["near"] = 1
        if reply is not None and reply.first_data_at:
            told["first_data_at"] = now_ms - int((now - reply.first_data_at) * 1000)
            told["tokens"] = reply.events
        return told

    def last_words(self) -> ReplyEntry:
        """What its reply is to hear once it was stopped."""
        return ReplyEntry(release=self.release_reason) if self.stop_reason is Stop.RELEASED else ReplyEntry()
