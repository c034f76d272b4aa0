"""Settings of a hub: `GHUB_HUB_…`."""

import socket
from enum import StrEnum
from typing import Annotated

import orjson
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode, SettingsConfigDict

from common.addresses import is_loopback, is_wildcard
from common.broker.url import checked
from common.registration import AclMode
from common.settings import ProcessName, SharedSettings


class Auth(StrEnum):
    """Whether clients must show a key."""

    REQUIRED = "required"
    OFF = "off"


def _as_pairs(value: object) -> object:
    """`alias=model,alias=model` or a JSON object as a mapping."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("{"):
        return orjson.loads(value)
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    if not all(equals and name.strip() and model.strip() for name, equals, model in pairs):
        raise ValueError("expected alias=model[,alias=model …]")
    return {name.strip(): model.strip() for name, _, model in pairs}


def _as_names(value: object) -> object:
    """`name,name` or a JSON list as a list."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return orjson.loads(value)
    return [part.strip() for part in value.split(",") if part.strip()]


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_as_names)]
Aliases = Annotated[dict[str, str], NoDecode, BeforeValidator(_as_pairs)]
AdminToken = Annotated[SecretStr, Field(min_length=16)]


class HubSettings(SharedSettings):
    """Everything that can be set on a hub."""

    # An empty variable is as good as none: container files pass many on that nobody has set.
    model_config = SettingsConfigDict(env_prefix="GHUB_HUB_", env_ignore_empty=True)

    host: str = "127.0.0.1"
    """Address to listen on. On anything but loopback clients must show a key."""
    port: int = Field(8080, ge=0, le=65535)
    """0 takes any free port."""
    reuse_port: bool = False
    """Several hubs on one machine share the port; the kernel spreads connections over them."""
    name: ProcessName = Field(default_factory=lambda: socket.gethostname().split(".")[0][:40] or "hub")
    """What this hub's id begins with; a random part follows, new at each start."""
    auth: Auth | None = Field(None, examples=["required"])
    """`required`: clients must show a key; `off`: they need not, as where something in front of the hub authenticates
    them. Default: `required`, but `off` on loopback."""
    admin_token: AdminToken | None = Field(None, examples=["a-long-random-text"])
    """Who shows it may see and change everything: `/api/…`, keys and tokens. Default: nobody may."""
    admin_loopback: bool | None = Field(None, examples=[False])
    """Whether who asks from this hub's own machine needs no admin token: to be turned off where others have accounts
    there, or where a proxy there hands on what comes from elsewhere without saying so. Default: on, but off where
    `auth` is set."""
    trusted_hosts: Names = Field((), examples=[["ai.example.org"]])
    """Where clients need no key: names under which they may reach this hub, `name[,name …]`, beside any address and
    `localhost`; `*` for all. Others are refused, since a web page can make a name of its own lead here."""
    allowed_origins: Names = Field((), examples=[["https://chat.example.org"]])
    """Web pages whose scripts may use this hub from a browser, `origin[,origin …]`; `*` for all. They are answered with
    the CORS headers that browsers ask for."""
    aliases: Aliases = Field({}, examples=[{"gpt-4o": "llama3.3:70b"}])
    """Other names of models, `alias=model[,alias=model …]` or JSON: clients that insist on a name get this model. A
    pattern (`claude-*=model`) stands for every such name that no model has."""
    provider_tokens: SecretStr | None = None
    """`secret[,secret …]`, each of at least 16 characters: tokens of providers beside those of `ghub token create`."""
    acl: AclMode = AclMode.ON
    """What providers that register get of the broker. `on`: a user of their own, made by the hub; `print`: the hub
    tells the rules, the broker's operator makes the user; `off`: all share `provider_redis_url`."""
    provider_redis_url: Annotated[str, AfterValidator(checked)] | None = Field(
        None, examples=["rediss://broker.example.org:6379"]
    )
    """Where providers reach the broker. Default: where the hub does, and if that is loopback, the host under which they
    reach the hub. What sentinels ask for, they are told only where it stands here."""
    public_url: str | None = Field(None, pattern=r"^https?://[^\s/]+(/[^\s]*)?$", examples=["https://hub.example.org"])
    """Where others reach this hub: for the line that a new provider is started with (default: as the request for that
    line came in), and for clients that look for further hubs (default: `host` and `port`, if `host` is an address that
    others can reach). Hubs behind one balancer name that."""
    registration_renew_s: float = Field(60, ge=1, le=3600)
    """How often providers register again: how soon they learn of new signing keys."""
    direct_keys: SecretStr | None = None
    """`id:secret[,id:secret …]`: who holds one may call providers directly, with `X-Inferoute-HMAC`.
    Default: nobody."""
    direct_window_s: float = Field(300, ge=1, le=86_400)
    """How old such an HMAC may be; all hubs must agree."""

    max_body_bytes: int = Field(64 * 2**20, ge=1024)
    """Largest request body; images come inline, so it is large."""
    body_timeout_s: float = Field(300, gt=0)
    """How long a request's body may take to arrive."""
    max_report_bytes: int = Field(256 * 2**10, ge=1024)
    """Largest health report of a provider; one of 1,000 models with their digests takes about 150 KiB."""
    report_ttl_s: float = Field(86_400, ge=1)
    """How long a provider's latest report stays, be it there or gone."""
    max_queue: int = Field(1000, ge=1)
    """Most jobs of one model that may wait; the next one hears 429."""
    max_queue_per_key: int = Field(500, ge=1)
    """Most requests of one client key that may wait for their turn; the next one hears 429."""
    lane_share: int = Field(16, ge=1)
    """Most jobs of one client key that may wait in one lane of a model; its further ones let others go first."""
    lane_share_s: float = Field(0.1, ge=0, le=10)
    """Or twice as many as providers claimed there within this time: no share holds up a lane that has free slots."""
    limit_lease_s: float = Field(15, ge=3)
    """How long what a request holds of its key's limits outlives a hub that died."""
    max_connections: int = Field(20_000, ge=1)
    """Most connections that one hub process holds open, idle ones too; who comes after them hears 503."""
    affinity_wait_ms: int = Field(200, ge=0, le=5000)
    """How long a job waits at most for the node that has served its conversation, or has its model loaded, before any
    node may take it. It waits only where that node was free when last heard of; 0 sets nothing aside for anybody."""
    affinity_min_bytes: int = Field(2048, ge=1)
    """Conversations that have less than this in common with a former request go to any node."""
    affinity_ttl_s: float = Field(300, ge=1, le=86_400)
    """How long it is remembered who served a conversation."""
    answer_tokens: int = Field(1024, ge=0)
    """How many tokens of a key's minute are set aside for an answer without a limit, until they are known."""
    max_open_requests: int = Field(10_000, ge=1)
    """Most requests that one hub process holds open."""
    max_attempts: int = Field(3, ge=1, le=20)
    """How often a request is tried before its failure is the client's."""
    keep_dead_bodies: bool = True
    """Whether a job that failed on every attempt is kept with what the client sent, so that it can be retried.
    Turned off, nobody who may look into the broker finds prompts there for longer than a request lasts."""
    max_releases: int = Field(20, ge=1)
    """How often providers may give one request back before that counts as failure."""
    broker_grace_s: float = Field(30, ge=1)
    """How long open requests wait for a broker that is away; as long as providers keep their answers for it."""
    max_answer_bytes: int = Field(256 * 2**20, ge=1024)
    """Longest answer that isn't streamed: it is held until it is whole."""
    model_wait_s: float = Field(10, ge=0)
    """How long a request waits for a node of a model that is known but has none, before 503."""
    queue_timeout_s: float = Field(600, gt=0)
    """How long a request may wait for a free slot, before 503."""
    retry_after_s: int = Field(5, ge=1)
    """What Retry-After says on 429 and 503."""
    first_comment_s: float = Field(2, ge=0.1)
    """When a waiting stream hears its first comment; until then its status line is held."""
    comment_interval_s: float = Field(5, ge=0.5)
    """Between the comments of a stream that has nothing else to say: proxies cut silent ones."""
    send_timeout_s: float = Field(60, gt=0)
    """How long a client may read nothing of what is sent before it is cut off."""
    client_buffer_bytes: int = Field(2**20, ge=1024)
    """How much of an answer is held for a slow client before its reply is no longer read."""
    max_reply_bytes: int = Field(64 * 2**20, ge=1024)
    """How much of an answer the broker may hold for a client that is behind, before the request ends with an error."""
    reply_ttl_s: float = Field(60, ge=5)
    """How long an open reply outlives its hub: providers then drop the job."""
    reply_linger_s: float = Field(10, ge=0)
    """How long a reply that was read to its end stays, for people to look at."""
    resume_window_s: float = Field(60, ge=1, le=3600)
    """How long a request that can be resumed goes on without anybody who reads it."""
    answer_keep_s: float = Field(600, ge=10, le=86_400)
    """How long the answer of such a request can be read after its end, `request_ttl_s` at most."""
    request_ttl_s: float = Field(3600, ge=10)
    """How long a request's hash stays after its last change."""
    max_watchers: int = Field(50, ge=1)
    """Most dashboards that one hub process keeps up to date."""
    shutdown_delay_s: float = Field(0, ge=0, le=600)
    """How long a hub takes requests after a stop signal, while `/health/ready` says that it stops: more than a load
    balancer in front, or Kubernetes, needs to send them elsewhere."""
    shutdown_timeout_s: float = Field(30, ge=0)
    """How long open requests may go on after that before they are ended with an error."""

    @property
    def lets_local_admin_in(self) -> bool:
        """Whether a caller on this machine is an operator."""
        return self.auth is None if self.admin_loopback is None else self.admin_loopback

    @property
    def url_for_clients(self) -> str:
        """Where clients on other machines reach this hub; empty if that cannot be told."""
        if self.public_url is not None:
            return self.public_url.rstrip("/")
        if is_loopback(self.host) or is_wildcard(self.host):
            return ""
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"

    @property
    def needs_client_keys(self) -> bool:
        """Whether clients must show a key."""
        return not is_loopback(self.host) if self.auth is None else self.auth is Auth.REQUIRED
