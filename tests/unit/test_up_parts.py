"""What `ghub up` decides before it starts anything: addresses, the broker's rules, its secrets, and what it says."""

import ipaddress
from io import StringIO
from pathlib import Path

import pytest
from pydantic import SecretStr
from rich.console import Console

from ghub import ports, probes
from ghub.errors import StartRefused
from ghub.processes.child import Part
from ghub.settings import UpSettings
from ghub.up import broker
from ghub.up.announcer import Announcer
from ghub.up.broker import BrokerChoice, embedded_broker
from ghub.up.data_dir import DataDir, locked_data_dir
from ghub.up.engine_choice import EngineChoice, choose_engine
from ghub.up.stack import Stack


@pytest.fixture
def data_dir(tmp_path: Path) -> DataDir:
    with locked_data_dir(tmp_path / "data") as made:
        return made


class TestAddresses:
    @pytest.mark.parametrize(
        ("host", "hosts"),
        [
            ("127.0.0.1", ("127.0.0.1",)),
            ("127.0.0.2", ("127.0.0.1", "127.0.0.2")),
            ("::1", ("127.0.0.1", "::1")),
            ("0.0.0.0", ("0.0.0.0",)),
            ("::", ("0.0.0.0", "::")),
            ("192.0.2.7", ("127.0.0.1", "192.0.2.7")),
        ],
    )
    def test_a_broker_is_reached_from_this_machine_and_where_the_hubs_are(
        self, host: str, hosts: tuple[str, ...]
    ) -> None:
        assert ports.listening(host) == hosts

    @pytest.mark.parametrize(("host", "near"), [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("192.0.2.7", "192.0.2.7")])
    def test_this_machine_reaches_its_own_server(self, host: str, near: str) -> None:
        assert ports.near(host) == near

    def test_others_are_told_no_address_that_is_their_own(self) -> None:
        assert ports.far("192.0.2.7") == ["192.0.2.7"]
        for host in ("0.0.0.0", "::"):
            found = [ipaddress.ip_address(address) for address in ports.far(host)]
            assert not [address for address in found if address.is_loopback or address.is_unspecified]

    def test_a_port_is_free_only_if_it_is_on_all_addresses(self) -> None:
        with ports._bind("127.0.0.1", 0) as taken:
            port = taken.getsockname()[1]
            assert ports.free_port(port, ("0.0.0.0",)) != port
            assert ports.free_port(port) != port


class TestBroker:
    @pytest.fixture(autouse=True)
    def any_binary(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(broker, "_binary", lambda: Path("/usr/bin/true"))

    def test_its_file_knows_the_password_by_its_hash_alone(self, data_dir: DataDir) -> None:
        choice = embedded_broker(UpSettings(), data_dir, "ghub:", anyone_may_look=False)
        password = data_dir.broker_password().get_secret_value()
        written = (data_dir.broker / "valkey.conf").read_text()
        assert password not in written
        assert f"redis://hub:{password}@127.0.0.1:" in choice.url
        for shown in (repr(choice), choice.shown, choice.redis_cli):
            assert password not in shown
        assert "~ghub:*" in written

    def test_anyone_may_look_or_a_password_is_needed(self, data_dir: DataDir) -> None:
        near = embedded_broker(UpSettings(), data_dir, "ghub:", anyone_may_look=True)
        assert "user default reset on nopass -@all" in (data_dir.broker / "valkey.conf").read_text()
        assert near.redis_cli.startswith("redis-cli -p ")
        far = embedded_broker(UpSettings(), data_dir, "ghub:", anyone_may_look=False)
        assert "user default reset\n" in (data_dir.broker / "valkey.conf").read_text()
        assert "broker-password" in far.redis_cli

    @pytest.mark.parametrize(("prefix", "pattern"), [("lab*:", r"~lab\*:*"), ("a[b]?", r"~a\[b\]\?*")])
    def test_a_prefix_widens_no_rule(self, data_dir: DataDir, prefix: str, pattern: str) -> None:
        embedded_broker(UpSettings(), data_dir, prefix, anyone_may_look=False)
        assert f" {pattern} " in (data_dir.broker / "valkey.conf").read_text()

    def test_a_prefix_that_its_file_cannot_hold_is_refused(self, data_dir: DataDir) -> None:
        with pytest.raises(StartRefused, match="GHUB_PREFIX"):
            embedded_broker(UpSettings(), data_dir, 'a"b', anyone_may_look=False)


class TestEngine:
    async def test_the_built_in_engine_has_no_more_slots_than_it_has_memory_for(self) -> None:
        settings = UpSettings(slots=65, ollama_url="http://127.0.0.1:9")  # where nothing listens
        async with probes.http_client() as client:
            with pytest.raises(StartRefused, match="at most 64 slots, not 65"):
                await choose_engine(settings, client)


class TestSecrets:
    def test_each_is_made_once_and_for_its_owner_only(self, data_dir: DataDir) -> None:
        for read, name in (
            (data_dir.signing_key, "signing-key"),
            (data_dir.direct_key, "direct-key"),
            (data_dir.provider_token, "provider-token"),
            (data_dir.admin_token, "admin-token"),
            (data_dir.broker_password, "broker-password"),
        ):
            first = read().get_secret_value()
            assert len(first) >= 32
            assert read().get_secret_value() == first
            assert (data_dir.path / name).stat().st_mode & 0o777 == 0o600

    @pytest.mark.parametrize("held", ["", "short", "with a space in it", "p@ss:word/that-breaks-urls"])
    def test_a_file_that_holds_no_password_is_named(self, data_dir: DataDir, held: str) -> None:
        (data_dir.path / "broker-password").write_text(held)
        with pytest.raises(StartRefused, match="holds no broker password"):
            data_dir.broker_password()


def announced(tmp_path: Path, host: str, *, needs_key: bool) -> str:
    """What is said of a stack that is ready."""
    part = Part(name="broker", argv=("true",), address="0.0.0.0:6399")
    stack = Stack(
        parts=(part,),
        base_url=f"http://{ports.near(host)}:8080",
        settings=UpSettings(host=host),
        engine=EngineChoice("http://127.0.0.1:1", "a test"),
        broker=BrokerChoice("redis://hub:hidden@127.0.0.1:6399/0", "redis://127.0.0.1:6399/0", "redis-cli", part),
        prefix="ghub:",
        admin_token=SecretStr("hidden"),
    )
    console = Console(file=StringIO(), highlight=False)
    Announcer(console).ready(stack, ["tiny:1b"], DataDir(tmp_path), needs_key=needs_key)
    said = console.file.getvalue()  # type: ignore[attr-defined]  # it is the StringIO
    assert isinstance(said, str)
    return said


class TestAnnouncement:
    def test_a_stack_for_this_machine_alone_says_nothing_of_others(self, tmp_path: Path) -> None:
        said = announced(tmp_path, "127.0.0.1", needs_key=False)
        assert said.startswith("ready http://127.0.0.1:8080/v1\n")
        for word in ("ghub key", "ghub token", "Authorization", "machines"):
            assert word not in said

    def test_a_stack_that_is_open_says_to_whom_and_how_others_get_in(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ports, "far", lambda _: ["192.0.2.7"])
        said = announced(tmp_path, "0.0.0.0", needs_key=True)
        assert said.startswith("ready http://127.0.0.1:8080/v1\n")
        assert "without TLS" in said
        assert "http://192.0.2.7:8080/v1  with a key of: " in said
        assert "ghub key create --name me" in said
        assert "ghub token create NAME" in said
        assert "0.0.0.0:6399" in said
        assert '-H "Authorization: Bearer $GHUB_API_KEY"' in said
        assert f"GHUB_DATA_DIR={tmp_path} " in said
        assert "hidden" not in said
