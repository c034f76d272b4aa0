"""Follows the replies of the jobs that run: one that nobody waits for any more is stopped."""

import asyncio

import structlog

from common.errors import BrokerError
from common.streams.replies import ReplyStreams, Written
from provider.jobs.runner import Runner
from provider.jobs.running_job import Stop

log = structlog.get_logger()

LOOK_AT_REPLIES_S = 2.0


async def follow_replies(streams: ReplyStreams, runner: Runner) -> None:
    """Stop jobs that nobody waits for, until cancelled.

    A job that writes learns it from the broker's answer. One that says nothing yet would not: its hub died, or was cut
    off and gave it to another node. A reply that is missing may be one that the broker has just forgotten: the writer
    knows whether that is to be waited for.
    """
    while True:
        await asyncio.sleep(LOOK_AT_REPLIES_S)
        looked_at = runner.running
        try:
            fates = await streams.fates([(one.job.reply, one.job.attempt) for one in looked_at])
        except BrokerError as exc:
            log.warning("broker_unavailable", doing="follow_replies", error=str(exc))
            continue
        for running, fate in zip(looked_at, fates, strict=True):
            if fate is Written.FENCED:
                running.stop(Stop.OVER)
            elif fate is Written.GONE and running.reply is not None:
                running.reply.miss()
