"""The line over every kind of connection: TLS, a socket of the machine, a user with a password; on both event loops.

The loop of hubs and providers is uvloop's; that of tests, and of others that use these modules, is asyncio's.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from common.broker.broker import Broker, connect
from common.streams.replies import Doorbell, ReplyStreams
from tests.contract.story import HUB, publish
from tests.support.broker_kinds import TlsBroker
from tests.support.brokers import BrokerProcess

BIG = b"x" * 3_000_000
LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


async def works(broker: Broker) -> None:
    """Large values go both ways, many speak at once, and a doorbell rings."""
    assert await broker.line.say("SET", "k", BIG)
    answers = await asyncio.gather(*(broker.line.say("GET", "k") for _ in range(4)))
    assert [len(one) for one in answers] == [len(BIG)] * 4
    bell = Doorbell(broker, HUB)
    await bell.keep(60_000)
    await bell.wait(100)
    waits = asyncio.create_task(bell.wait(5000))
    await publish(broker, "r1")
    await broker.line.say("XADD", broker.keys.doorbell(HUB), "*", "ids", "r1")
    assert await waits == {"r1"}
    assert ReplyStreams(broker).renewals == 1
    await broker.aclose()


@pytest.mark.parametrize("loop", LOOPS.values(), ids=[*LOOPS])
class TestKinds:
    def test_tls(self, tmp_path: Path, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        server = TlsBroker("redis", tmp_path)
        try:
            broker = connect(server.url, prefix="ghub:", client_name="contract")
            with asyncio.Runner(loop_factory=loop) as runner:
                runner.run(works(broker))
        finally:
            server.kill()

    def test_a_socket_of_the_machine(self, tmp_path: Path, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        server = BrokerProcess("valkey", tmp_path, "--unixsocket", str(tmp_path / "s"))
        try:
            broker = connect(f"unix://{tmp_path}/s?db=1", prefix="ghub:", client_name="contract")
            with asyncio.Runner(loop_factory=loop) as runner:
                runner.run(works(broker))
            with server.client() as client:
                assert client.info("keyspace").keys() == {"db1"}
        finally:
            server.kill()

    def test_a_url_that_asks_for_the_other_protocol(
        self, tmp_path: Path, loop: Callable[[], asyncio.AbstractEventLoop]
    ) -> None:
        """Its answers have other shapes: it is not spoken."""
        server = BrokerProcess("valkey", tmp_path)
        try:
            broker = connect(f"{server.url}?protocol=3", prefix="ghub:", client_name="contract")
            with asyncio.Runner(loop_factory=loop) as runner:
                runner.run(works(broker))
        finally:
            server.kill()

    def test_a_user_whose_password_changes(self, tmp_path: Path, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        server = BrokerProcess("valkey", tmp_path)
        password = ["one"]
        try:
            with server.client() as client:
                client.acl_setuser("u", enabled=True, passwords=["+one"], keys=["*"], commands=["+@all"], reset=True)
            broker = connect(server.url, prefix="ghub:", client_name="contract", credentials=lambda: ("u", password[0]))

            async def outlive_a_change() -> None:
                assert await broker.line.say("ACL", "WHOAMI") == b"u"
                with server.client() as client:
                    client.acl_setuser("u", enabled=True, passwords=["+two", "-one"])
                    client.client_kill_filter(user="u")
                password[0] = "two"
                await asyncio.sleep(0.1)
                assert await broker.line.say("ACL", "WHOAMI") == b"u"
                await broker.aclose()

            with asyncio.Runner(loop_factory=loop) as runner:
                runner.run(outlive_a_change())
        finally:
            server.kill()
