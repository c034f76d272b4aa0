"""The line on which all tasks of a process speak to the broker."""

import asyncio
import time

import pytest
from redis import exceptions as rx

from common.broker.broker import Broker, connect
from common.broker.line import ConnectedAnewError, OwnLine
from tests.contract.line import line_to
from tests.contract.story import eventually, on_real_brokers, raw
from tests.support.brokers import BrokerProcess


def own(broker: Broker) -> OwnLine:
    line = broker.line
    assert isinstance(line, OwnLine)
    return line


class TestAnswers:
    async def test_each_command_has_its_answer_in_the_shapes_of_resp2(self, broker: Broker) -> None:
        answers = await broker.line.ask(
            [
                ("SET", "k", b"\x00\r\n\xff"),
                ("GET", "k"),
                ("GET", "none"),
                ("XADD", "s", "1-1", "a", 1),
                ("XADD", "s", "1-2", "b", 2.5),
                ("XREAD", "STREAMS", "s", "0"),
                ("HSET", "h", "x", "y"),
                ("HGETALL", "h"),
            ]
        )
        assert answers == [
            True if answers[0] is True else b"OK",
            b"\x00\r\n\xff",
            None,
            b"1-1",
            b"1-2",
            [[b"s", [[b"1-1", [b"a", b"1"]], [b"1-2", [b"b", b"2.5"]]]]],
            1,
            [b"x", b"y"],
        ]

    async def test_a_refusal_is_an_answer_and_leaves_the_others_alone(self, broker: Broker) -> None:
        first, refused, last = await broker.line.ask([("SET", "k", "v"), ("XLEN", "k"), ("GET", "k")])
        assert isinstance(refused, rx.ResponseError)
        assert "WRONGTYPE" in str(refused)
        assert (bool(first), last) == (True, b"v")
        with pytest.raises(rx.ResponseError, match="WRONGTYPE"):
            await broker.line.say("XLEN", "k")

    async def test_what_many_say_at_once_is_said_in_their_order_and_answered_to_each(self, broker: Broker) -> None:
        async def count(n: int) -> tuple[int, list[int]]:
            return n, await broker.line.ask([("RPUSH", "list", f"{n}-{part}") for part in range(3)])

        told = await asyncio.gather(*(count(n) for n in range(50)))
        if isinstance(broker.line, OwnLine):  # fakeredis' connections overtake each other
            assert [answers for _, answers in told] == [[3 * n + 1, 3 * n + 2, 3 * n + 3] for n in range(50)]
        assert sorted(one for _, answers in told for one in answers) == [*range(1, 151)]

    @on_real_brokers
    async def test_a_large_answer_comes_whole(self, broker: Broker) -> None:
        await broker.line.say("SET", "k", b"x" * 5_000_000)
        assert len(await broker.line.say("GET", "k")) == 5_000_000

    @on_real_brokers
    async def test_it_has_one_connection_under_its_process_name(self, broker: Broker) -> None:
        await asyncio.gather(*(broker.line.say("PING") for _ in range(20)))
        names = [one["name"] for one in await raw(broker).client_list()]
        assert names.count("contract") == 2, "one of the line, one that asks here"


class TestLosses:
    async def test_a_cut_ends_all_that_wait_and_the_next_word_has_a_new_connection(
        self, own_server: BrokerProcess
    ) -> None:
        async with line_to(own_server.port) as wire:
            broker = connect(wire.url, prefix="ghub:", client_name="contract")
            line = own(broker)
            assert (line.renewals, await line.say("PING"), line.renewals) == (0, b"PONG", 1)
            wire.hold()
            waiting = [asyncio.create_task(line.say("INCR", "n")) for _ in range(3)]
            await asyncio.sleep(0.05)
            wire.cut()
            wire.release()
            outcomes = await asyncio.gather(*waiting, return_exceptions=True)
            assert {type(one) for one in outcomes} == {rx.ConnectionError}
            assert await line.say("PING") == b"PONG"
            assert (line.renewals, broker.reconnections.count) == (2, 1)
            await broker.aclose()

    async def test_nothing_is_said_over_another_connection_than_was_meant(self, own_server: BrokerProcess) -> None:
        async with line_to(own_server.port) as wire:
            broker = connect(wire.url, prefix="ghub:", client_name="contract")
            line = own(broker)
            with pytest.raises(ConnectedAnewError):
                await line.ask([("INCR", "n")], since=0)
            assert await line.ask([("INCR", "n")], since=1) == [1]
            wire.cut()
            await asyncio.sleep(0.05)
            with pytest.raises(ConnectedAnewError):
                await line.ask([("INCR", "n")], since=1)
            assert await line.say("GET", "n") == b"1"
            await broker.aclose()

    async def test_one_whose_broker_hangs_is_given_up_in_time(self, own_server: BrokerProcess) -> None:
        async with line_to(own_server.port) as wire:
            broker = connect(wire.url, prefix="ghub:", client_name="contract")
            line = OwnLine(broker.commands.connection_pool, 0.3)
            for _ in range(2):
                assert await line.say("PING") == b"PONG"
                await asyncio.sleep(0.2)
            wire.hold()
            began = time.monotonic()
            outcomes = await asyncio.gather(*(line.say("PING") for _ in range(3)), return_exceptions=True)
            assert {type(one) for one in outcomes} == {rx.TimeoutError}
            assert 0.2 < time.monotonic() - began < 3
            wire.release()
            assert await line.say("PING") == b"PONG"
            assert line.renewals == 2
            await line.aclose()
            await broker.aclose()

    async def test_all_who_wait_for_a_broker_that_is_away_hear_so_at_once(self, own_server: BrokerProcess) -> None:
        broker = connect(own_server.url, prefix="ghub:", client_name="contract")
        own_server.kill()
        outcomes = await asyncio.gather(*(broker.line.say("PING") for _ in range(20)), return_exceptions=True)
        assert {type(one) for one in outcomes} == {rx.ConnectionError}
        own_server.start()
        assert await broker.line.say("PING") == b"PONG"
        await broker.aclose()

    async def test_a_server_that_is_no_master_any_more_is_left(self, own_server: BrokerProcess) -> None:
        broker = connect(own_server.url, prefix="ghub:", client_name="contract")
        line = own(broker)
        await line.say("PING")
        with own_server.client() as client:
            client.replicaof("127.0.0.1", 1)
            with pytest.raises(rx.ConnectionError, match="read only replica"):
                await line.say("SET", "k", "v")
            client.replicaof("no", "one")
        assert await line.say("SET", "k", "v") == b"OK"
        assert line.renewals == 2
        await broker.aclose()

    async def test_who_leaves_before_the_answer_takes_nobody_else_s(self, own_server: BrokerProcess) -> None:
        async with line_to(own_server.port) as wire:
            broker = connect(wire.url, prefix="ghub:", client_name="contract")
            line = own(broker)
            await line.say("SET", "a", "1")
            wire.hold()
            leaves = asyncio.create_task(line.say("GET", "a"))
            stays = asyncio.create_task(line.say("GET", "b"))
            await asyncio.sleep(0.05)
            leaves.cancel()
            wire.release()
            assert await stays is None
            assert line.renewals == 1
            await broker.aclose()

    async def test_a_blocking_read_that_is_called_off_ends_its_connection(self, own_server: BrokerProcess) -> None:
        broker = connect(own_server.url, prefix="ghub:", client_name="contract")
        line = broker.blocking_line()
        task = asyncio.create_task(line.say("XREAD", "BLOCK", 60_000, "STREAMS", "s", "$"))
        with own_server.client() as client:

            async def blocks() -> bool:
                return bool(client.info("clients")["blocked_clients"])

            async def is_free() -> bool:
                return not await blocks()

            await eventually(blocks, "it blocks")
            task.cancel()
            await eventually(is_free, "the server has let it go")
        assert await line.say("PING") == b"PONG"
        await broker.aclose()

    async def test_one_that_is_not_let_in_is_told_so(self, own_server: BrokerProcess) -> None:
        with own_server.client() as client:
            client.acl_setuser("weak", enabled=True, passwords=["+pw"], categories=["+@connection"])
        url = own_server.url.replace("redis://", "redis://weak:pw@")
        broker = connect(url, prefix="ghub:", client_name="contract")
        with pytest.raises(rx.NoPermissionError):
            await broker.line.say("GET", "k")
        await broker.aclose()
        broker = connect(url.replace("pw@", "wrong@"), prefix="ghub:", client_name="contract")
        with pytest.raises(rx.AuthenticationError):
            await broker.line.say("GET", "k")
        await broker.aclose()

    async def test_a_line_that_was_closed_ends_those_who_wait(self, own_server: BrokerProcess) -> None:
        async with line_to(own_server.port) as wire:
            broker = connect(wire.url, prefix="ghub:", client_name="contract")
            await broker.line.say("PING")
            wire.hold()
            waits = asyncio.create_task(broker.line.say("PING"))
            await asyncio.sleep(0.02)
            await broker.aclose()
            with pytest.raises(rx.ConnectionError):
                await waits
