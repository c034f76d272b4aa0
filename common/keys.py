"""Every key of the project. No other module writes a key's name.

| key | type | content |
|---|---|---|
| `ghub:node:<node>` | hash, TTL | a provider, rewritten at each heartbeat |
| `ghub:nodes` | zset, TTL | node -> last heartbeat, ms |
| `ghub:changes` | stream, trimmed, TTL | which nodes' entries have changed, a hint |
| `ghub:hub:<hub>` | hash, TTL | a hub process |
| `ghub:hubs` | zset, TTL | hub -> last heartbeat, ms |
| `ghub:report:<node>` | string, TTL | a provider's latest health report, JSON |
| `ghub:reports` | zset, TTL | node -> when it last reported, ms |
| `ghub:nonce:<key id>:<nonce>` | string, TTL | a direct call's HMAC that was used |
| `ghub:{jobs}:<lane>:<model>` | stream, group `providers` | jobs waiting or running |
| `ghub:{jobs}:near:<node>` | stream, group `providers` | jobs set aside for one node for a moment, or running there |
| `ghub:{jobs}:waiting:<lane>:<model>` | zset, TTL | request -> its entry as a number: places in the queue, a hint |
| `ghub:{jobs}:lanes` | set, TTL | every lane in use |
| `ghub:{served}:<digest>` | string, TTL | which node has served a conversation that begins so |
| `ghub:request:<id>` | hash, TTL | one request, for people and hubs |
| `ghub:{open}:<hub>` | set, TTL | the requests that this hub looks after: other hubs do so when it dies |
| `ghub:idempotency:<sha256>` | hash, TTL | which request a client's Idempotency-Key stands for |
| `ghub:reply:{<hub>}:<id>` | stream, TTL | the answer on its way back |
| `ghub:doorbell:{<hub>}` | stream, trimmed, TTL | which requests of this hub have news |
| `ghub:control:<node>` | stream, trimmed, TTL | orders to a provider |
| `ghub:dead` | stream, trimmed, TTL | jobs refused or failed for good, with the reason |
| `ghub:key:<sha256>` | hash | a client's API key and what it allows; never the key itself |
| `ghub:token:<sha256>` | hash | a provider token |
| `ghub:keys`, `ghub:tokens` | set | every sha256 of these |
| `ghub:credentials` | counter | rises with each change of keys and tokens: hubs read them again |
| `ghub:member:<node>` | hash, TTL | who registered a node, and for which models its broker user is good |
| `ghub:members` | zset, TTL | node -> when it last registered, ms |
| `ghub:revoked` | zset, TTL | node -> when it was cut off, ms |
| `ghub:usage:<key id>:<day>` | hash | requests and tokens per model, one UTC day |
| `ghub:history:<ms>` | hash, TTL | what ended in the minute that began then: sums of all hubs |
| `ghub:limit:{<key id>}:<what>` | hash or zset, TTL | what a client key has used of its limits |

`{...}` is a Cluster hash tag: keys that one script or one read takes together share a slot.
"""

from dataclasses import dataclass

from common.types import HubId, KeyId, Lane, ModelId, NodeId, RequestId

GROUP = "providers"
"""The one consumer group of every lane."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Key names under one prefix, so that several grids can share a broker."""

    prefix: str = "ghub:"

    def node(self, node: NodeId) -> str:
        """Hash of one provider."""
        return f"{self.prefix}node:{node}"

    @property
    def nodes(self) -> str:
        """Zset of all providers by last heartbeat."""
        return f"{self.prefix}nodes"

    @property
    def changes(self) -> str:
        """Stream of the nodes whose entries have changed."""
        return f"{self.prefix}changes"

    def hub(self, hub: HubId) -> str:
        """Hash of one hub process."""
        return f"{self.prefix}hub:{hub}"

    @property
    def hubs(self) -> str:
        """Zset of all hub processes by last heartbeat."""
        return f"{self.prefix}hubs"

    def report(self, node: NodeId) -> str:
        """Latest health report of one provider."""
        return f"{self.prefix}report:{node}"

    @property
    def reports(self) -> str:
        """Zset of all nodes that reported, by when they last did."""
        return f"{self.prefix}reports"

    def nonce(self, key_id: str, nonce: str) -> str:
        """Mark of a nonce that was used with a direct key."""
        return f"{self.prefix}nonce:{key_id}:{nonce}"

    def lane(self, lane: Lane, model: ModelId, near: NodeId | None = None) -> str:
        """Stream of the jobs of one model in one lane; of those set aside for a node, that node's for all models."""
        return f"{self.prefix}{{jobs}}:{lane}:{model}" if near is None else f"{self.prefix}{{jobs}}:near:{near}"

    def waiting(self, lane: Lane, model: ModelId, _near: NodeId | None = None) -> str:
        """Zset that orders the requests still waiting in a lane; with those that are set aside for a node."""
        return f"{self.prefix}{{jobs}}:waiting:{lane}:{model}"

    @property
    def lanes(self) -> str:
        """Set of every lane in use, as `<lane>:<model>`."""
        return f"{self.prefix}{{jobs}}:lanes"

    def served(self, digest: str) -> str:
        """The node that served a conversation, by a keyed digest of how that begins."""
        return f"{self.prefix}{{served}}:{digest}"

    def request(self, request: RequestId) -> str:
        """Hash of one request."""
        return f"{self.prefix}request:{request}"

    def open_requests(self, hub: HubId) -> str:
        """Set of the requests that a hub looks after; those of all hubs share a slot, so that one can take over."""
        return f"{self.prefix}{{open}}:{hub}"

    def idempotency(self, digest: str) -> str:
        """Hash of one Idempotency-Key, by the sha256 of it and of who uses it in hex."""
        return f"{self.prefix}idempotency:{digest}"

    def reply(self, hub: HubId, request: RequestId) -> str:
        """Stream that carries one answer back to its hub."""
        return f"{self.prefix}reply:{{{hub}}}:{request}"

    def doorbell(self, hub: HubId) -> str:
        """Stream that tells a hub which of its replies have news."""
        return f"{self.prefix}doorbell:{{{hub}}}"

    def doorbell_of(self, reply: str) -> str:
        """Doorbell of the hub that a reply key belongs to; ValueError as `hub_of`."""
        return self.doorbell(self.hub_of(reply))

    def hub_of(self, reply: str) -> HubId:
        """The hub whose name a reply key carries: the one that published the request.

        Raises:
            ValueError: `reply` is no reply key under this prefix.
        """
        head = f"{self.prefix}reply:{{"
        hub, closing, request = reply.removeprefix(head).partition("}:")
        if not reply.startswith(head) or not (hub and closing and request):
            raise ValueError(f"no reply key: {reply[:120]!r}")
        return HubId(hub)

    def control(self, node: NodeId) -> str:
        """Stream of orders to one provider."""
        return f"{self.prefix}control:{node}"

    @property
    def dead(self) -> str:
        """Stream of the jobs that were refused or failed for good."""
        return f"{self.prefix}dead"

    def key(self, digest: str) -> str:
        """Hash of one client API key, by the sha256 of its secret in hex."""
        return f"{self.prefix}key:{digest}"

    def token(self, digest: str) -> str:
        """Hash of one provider token, by the sha256 of its secret in hex."""
        return f"{self.prefix}token:{digest}"

    @property
    def keys(self) -> str:
        """Set of the sha256 of every client API key."""
        return f"{self.prefix}keys"

    @property
    def tokens(self) -> str:
        """Set of the sha256 of every provider token."""
        return f"{self.prefix}tokens"

    @property
    def credentials(self) -> str:
        """Counter that rises with each change of keys and tokens."""
        return f"{self.prefix}credentials"

    def member(self, node: NodeId) -> str:
        """Hash of one registered node."""
        return f"{self.prefix}member:{node}"

    @property
    def members(self) -> str:
        """Zset of all registered nodes, by when they last registered."""
        return f"{self.prefix}members"

    @property
    def revoked(self) -> str:
        """Zset of the nodes that were cut off, by when."""
        return f"{self.prefix}revoked"

    def usage(self, key: KeyId, day: str) -> str:
        """Hash of what a client key used on one day (`YYYY-MM-DD`, UTC)."""
        return f"{self.prefix}usage:{key}:{day}"

    def history(self, began_at: int) -> str:
        """Hash of one minute, by its beginning in Unix ms."""
        return f"{self.prefix}history:{began_at}"

    def limit(self, key: KeyId, what: str) -> str:
        """One of the books on a client key's limits; all of a key share a Cluster slot."""
        return f"{self.prefix}limit:{{{key}}}:{what}"
