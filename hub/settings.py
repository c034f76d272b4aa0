"""Settings of a hub: `GHUB_HUB_…`."""

import socket
from enum import StrEnum

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from common.settings import ProcessName, SharedSettings, is_loopback


class Auth(StrEnum):
    """Whether clients must show a key. `required` waits for client keys to exist; until then: loopback only."""

    REQUIRED = "required"
    OFF = "off"


class HubSettings(SharedSettings):
    """Everything that can be set on a hub."""

    model_config = SettingsConfigDict(env_prefix="GHUB_HUB_")

    host: str = "127.0.0.1"
    """Address to listen on; anything but loopback needs `auth=off` for now."""
    port: int = Field(8080, ge=0, le=65535)
    """0 takes any free port."""
    reuse_port: bool = False
    """Several hubs on one machine share the port; the kernel spreads connections over them."""
    name: ProcessName = Field(default_factory=lambda: socket.gethostname().split(".")[0][:40] or "hub")
    """What this hub's id begins with; a random part follows, new at each start."""
    auth: Auth = Auth.REQUIRED
    """`off` says that something in front of the hub authenticates clients."""
    provider_tokens: SecretStr | None = None
    """`secret[,secret …]`, each of at least 16 characters: providers that show one of them may report their health and
    have HMACs checked. Default: none may."""
    direct_keys: SecretStr | None = None
    """`id:secret[,id:secret …]`: who holds one may call providers directly, with `X-Inferoute-HMAC`.
    Default: nobody."""
    direct_window_s: float = Field(300, ge=1, le=86_400)
    """How old such an HMAC may be; all hubs must agree."""

    max_body_bytes: int = Field(64 * 2**20, ge=1024)
    """Largest request body; images come inline, so it is large."""
    max_report_bytes: int = Field(256 * 2**10, ge=1024)
    """Largest health report of a provider; one of 1,000 models with their digests takes about 150 KiB."""
    report_ttl_s: float = Field(86_400, ge=1)
    """How long a provider's latest report stays, be it there or gone."""
    max_queue: int = Field(1000, ge=1)
    """Most jobs of one model that may wait; the next one hears 429."""
    max_open_requests: int = Field(10_000, ge=1)
    """Most requests that one hub process holds open."""
    max_attempts: int = Field(3, ge=1, le=20)
    """How often a request is tried before its failure is the client's."""
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
    reply_ttl_s: float = Field(60, ge=5)
    """How long an open reply outlives its hub: providers then drop the job."""
    reply_linger_s: float = Field(10, ge=0)
    """How long a reply that was read to its end stays, for people to look at."""
    request_ttl_s: float = Field(3600, ge=10)
    """How long a request's hash stays after its last change."""
    shutdown_timeout_s: float = Field(30, ge=0)
    """How long open requests may go on after a stop signal before they are ended with an error."""

    @model_validator(mode="after")
    def _auth_or_loopback(self) -> "HubSettings":
        if self.auth is not Auth.OFF and not is_loopback(self.host):
            raise ValueError(
                f"host {self.host} is open to other machines and there is no authentication of clients yet: "
                "bind to 127.0.0.1, or set GHUB_HUB_AUTH=off where something in front of the hub authenticates"
            )
        return self
