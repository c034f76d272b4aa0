"""Every kind of broker that the project runs on, by name."""

from collections.abc import Callable, Mapping
from pathlib import Path

import redis

from tests.support.brokers import BrokerProcess
from tests.support.cluster import ClusterBroker
from tests.support.sentinel import SentinelBroker
from tests.support.tls import Authority


class TlsBroker(BrokerProcess):
    """A broker that speaks TLS only, with those who show a certificate of its authority."""

    def __init__(self, kind: str, folder: Path) -> None:
        self._authority = Authority(folder)
        self._server, self._client = self._authority.issue("127.0.0.1"), self._authority.issue("client")
        super().__init__(kind, folder)

    def start(self) -> None:
        """Start it (again, at the same address)."""
        server, client = self._server, self._client
        self._options = (
            *("--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "yes"),
            *("--tls-cert-file", str(server.cert), "--tls-key-file", str(server.key)),
            *("--tls-ca-cert-file", str(self._authority.ca)),
        )
        shown = f"ssl_ca_certs={self._authority.ca}&ssl_certfile={client.cert}&ssl_keyfile={client.key}"
        self.url = f"rediss://127.0.0.1:{self.port}/0?{shown}"
        super().start()

    def client(self) -> redis.Redis:
        """A plain client for looking at keys; close it after use."""
        return redis.Redis.from_url(self.url, decode_responses=True, protocol=2)


BROKER_KINDS: Mapping[str, Callable[[Path], BrokerProcess]] = {
    "valkey": lambda folder: BrokerProcess("valkey", folder),
    "redis": lambda folder: BrokerProcess("redis", folder),
    "sentinel": SentinelBroker,
    "cluster": ClusterBroker,
    "tls": lambda folder: TlsBroker("redis", folder),
}
"""Valkey's wheel is built without TLS; of the others Valkey is taken unless the name says otherwise."""
