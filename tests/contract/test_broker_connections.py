"""Connections that end in the very moment in which something is said on them."""

import asyncio

import pytest
import uvloop
from redis import exceptions as rx

from common.broker.connections import SteadyConnection
from tests.support.brokers import BrokerProcess


def test_one_whose_socket_is_closed_already_is_lost_as_any_other(valkey: BrokerProcess) -> None:
    """uvloop says RuntimeError to whoever writes then, which would end the whole process."""

    async def story() -> None:
        connection = SteadyConnection(host="127.0.0.1", port=valkey.port, protocol=2, driver_info=None)
        await connection.connect()
        connection._writer.transport.abort()
        await asyncio.sleep(0.01)
        with pytest.raises(rx.ConnectionError):
            await connection.send_command("PING")
        await connection.disconnect()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(story())
