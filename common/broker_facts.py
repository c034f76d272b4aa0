"""What a broker is, for people who look whether it will do."""

from dataclasses import dataclass

from common.broker import Broker, broker_errors
from common.errors import BrokerRefused


@dataclass(frozen=True, slots=True)
class BrokerFacts:
    """A broker that answers; what it doesn't tell is empty: managed ones and scoped users tell little."""

    product: str
    """`Redis` or `Valkey`."""
    version: str = ""
    eviction: str = ""
    """Its `maxmemory-policy`."""


async def read_facts(broker: Broker) -> BrokerFacts:
    """Ask a broker for its version and for what it does when its memory is full.

    Raises:
        BrokerError: it does not answer, or refuses even a ping.
    """
    with broker_errors():
        await broker.commands.ping()
    server = await _info(broker, "server")
    memory = await _info(broker, "memory")
    product = "Valkey" if "valkey_version" in server else "Redis"
    return BrokerFacts(product, server.get(f"{product.lower()}_version", ""), memory.get("maxmemory_policy", ""))


async def _info(broker: Broker, section: str) -> dict[str, str]:
    """A section of INFO; empty if this user may not see it."""
    try:
        with broker_errors():
            return {str(name): str(value) for name, value in (await broker.commands.info(section)).items()}
    except BrokerRefused:
        return {}
