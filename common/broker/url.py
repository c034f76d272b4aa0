"""What a broker's URL says: one server, a service that sentinels look after, or a cluster.

    redis://[user:password@]host[:port][/db][?option=value…]       rediss:// with TLS
    redis+sentinel://[user:password@]host[:port],host[:port]…/service[/db][?option=value…]   rediss+sentinel:// with TLS
    redis+cluster://[user:password@]host[:port],host[:port]…[?option=value…]                 rediss+cluster:// with TLS
    unix://[user:password@]/path/of.sock[?db=0]

A cluster is known by any of its servers, which name the others; several are given so that one may be down.

User and password are those of the servers. Sentinels that ask for some too have theirs as the options
`sentinel_username` and `sentinel_password`; such a user needs `+ping +client|setname +sentinel|master` and
`+sentinel|get-master-addr-by-name`, no more.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

SENTINEL, CLUSTER = "+sentinel", "+cluster"
SCHEMES = (
    *("redis", "rediss", "unix"),
    *(f"{plain}{kind}" for kind in (SENTINEL, CLUSTER) for plain in ("redis", "rediss")),
)
PORT, SENTINEL_PORT = 6379, 26_379
SENTINEL_SECRETS = frozenset({"sentinel_username", "sentinel_password"})
_SECRETS = frozenset({"username", "password"})


@dataclass(frozen=True, slots=True)
class Address:
    """A host and its port; None where the URL names none."""

    host: str
    port: int | None = None

    def __str__(self) -> str:
        literal = f"[{self.host}]" if ":" in self.host else self.host
        return literal if self.port is None else f"{literal}:{self.port}"


@dataclass(frozen=True, slots=True)
class BrokerUrl:
    """A broker's URL in its parts, each still quoted as it was."""

    scheme: str
    who: str
    """`user:password`; empty without."""
    addresses: tuple[Address, ...]
    """The server, the sentinels, or some servers of a cluster; none for a socket file."""
    path: str
    query: str

    @classmethod
    def parse(cls, url: str) -> "BrokerUrl":
        """Take a URL apart.

        Raises:
            ValueError: it is none of a broker; says in one line why, without its secrets.
        """
        scheme, _, rest = url.partition("://")
        scheme = scheme.lower()
        if scheme not in SCHEMES:
            shown = urlsplit(url).scheme or "no"
            known = "redis://, rediss://, unix://, redis+sentinel://, redis+cluster://"
            raise ValueError(f"{shown}:// is not one of {known}")
        if not scheme.endswith((SENTINEL, CLUSTER)):
            parts = urlsplit(url)
            who, host = parts.netloc.rpartition("@")[0], parts.hostname
            addresses = () if scheme == "unix" or host is None else (Address(host, parts.port),)
            return cls(scheme, who, addresses, parts.path, parts.query)
        rest, _, query = rest.partition("?")
        netloc, slash, path = rest.partition("/")
        who, _, hosts = netloc.rpartition("@")
        found = cls(scheme, who, tuple(_address(one) for one in hosts.split(",")), slash + path, query)
        if found.is_cluster:
            if path not in ("", "0"):
                raise ValueError("a cluster has one database only: expected redis+cluster://host:port,host:port")
        elif not found.service or not (found.database == "" or found.database.isdecimal()):
            raise ValueError("expected redis+sentinel://host:port,host:port/service or …/service/db")
        return found

    def __str__(self) -> str:
        netloc = f"{self.who}@" * bool(self.who) + ",".join(map(str, self.addresses))
        return f"{self.scheme}://{netloc}{self.path}{'?' if self.query else ''}{self.query}"

    @property
    def has_sentinels(self) -> bool:
        """Whether the addresses are those of sentinels."""
        return self.scheme.endswith(SENTINEL)

    @property
    def is_cluster(self) -> bool:
        """Whether the addresses are those of servers of a cluster."""
        return self.scheme.endswith(CLUSTER)

    @property
    def has_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.scheme.startswith("rediss")

    @property
    def service(self) -> str:
        """What the sentinels call the broker; empty without sentinels."""
        return unquote(self.path.split("/")[1]) if self.has_sentinels and self.path else ""

    @property
    def database(self) -> str:
        """The database's number behind a service; empty for the usual one."""
        return self.path.partition("/")[2].partition("/")[2] if self.has_sentinels else ""

    @property
    def sentinel_secrets(self) -> dict[str, str]:
        """What the sentinels ask for: any of `username` and `password`."""
        return {
            name.removeprefix("sentinel_"): value
            for name, value in parse_qsl(self.query)
            if name in SENTINEL_SECRETS and value
        }

    @property
    def server_url(self) -> str:
        """As redis-py reads it; the host says nothing where sentinels name it, and is any of a cluster's."""
        if self.is_cluster:
            plain = replace(self, scheme=self.scheme.removesuffix(CLUSTER), addresses=self.addresses[:1], path="")
            return str(plain)
        if not self.has_sentinels:
            return str(self)
        plain = replace(self, scheme=self.scheme.removesuffix(SENTINEL), addresses=(), path=f"/{self.database}")
        return str(plain.without(SENTINEL_SECRETS))

    def moved(self, host_of: Callable[[str], str]) -> "BrokerUrl":
        """With other hosts: `host_of` is asked for each."""
        return replace(self, addresses=tuple(Address(host_of(one.host), one.port) for one in self.addresses))

    def without_who(self) -> "BrokerUrl":
        """Without user and password of the servers, which redis-py takes in a URL's query too."""
        return replace(self, who="").without(_SECRETS)

    def without(self, options: Collection[str]) -> "BrokerUrl":
        """Without these options."""
        kept = [(name, value) for name, value in parse_qsl(self.query, keep_blank_values=True) if name not in options]
        return replace(self, query=urlencode(kept))


def checked(url: str) -> str:
    """The URL itself.

    Raises:
        ValueError: it is none of a broker.
    """
    BrokerUrl.parse(url)
    return url


def _address(text: str) -> Address:
    """Host and port of a sentinel, or of a server of a cluster.

    Raises:
        ValueError: it is none.
    """
    parts = urlsplit(f"//{text}")
    if not parts.hostname or parts.path:
        raise ValueError(f"expected host:port for each server, found {text!r}")
    return Address(parts.hostname, parts.port)  # reading the port is what looks at it
