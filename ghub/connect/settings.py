"""Settings of `ghub connect`: `GHUB_CONNECT_…`."""

from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode, SettingsConfigDict

from common.settings import ProcessSettings


def checked_url(url: str) -> str:
    """A hub's URL without the slash at its end.

    Raises:
        ValueError: it is none.
    """
    parts = urlsplit(url)  # ValueError: brackets without an address
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"{url!r} is no URL of a hub: expected http://host:port or https://host")
    if parts.username is not None:
        raise ValueError("a hub's URL holds no password: keys go into a header")
    _ = parts.port  # ValueError: it is none
    return url.rstrip("/").removesuffix("/v1")


def _as_list(value: Any) -> Any:  # noqa: ANN401 - what a variable or a caller gives
    """`one,two` as a list."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _each_once(urls: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(checked_url(url) for url in urls))


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_as_list)]
Urls = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_as_list), AfterValidator(_each_once)]


class ConnectSettings(ProcessSettings):
    """Everything that can be set on a front."""

    model_config = SettingsConfigDict(env_prefix="GHUB_CONNECT_", env_ignore_empty=True)

    hubs: Urls = Field((), examples=[["https://hub-1.example.org", "https://hub-2.example.org"]])
    """The hubs to begin with, `url[,url …]`; they stay even if they cannot be reached. Without one, the front does not
    start."""
    host: str = "127.0.0.1"
    """Address to listen on. On anything but loopback whoever reaches it may ask with `api_key`."""
    port: int = Field(11434, ge=0, le=65535)
    """Ollama's port by default, so that its clients need not be told; 0 takes any free one."""
    api_key: SecretStr | None = Field(None, examples=["ghub-a-key-of-yours"])
    """Shown to hubs for clients that show none, and to learn of further hubs."""
    discover: bool = True
    """Whether hubs are asked for further hubs (`GET /api/hubs`). One that is reached by https leads to others that are,
    never to a plain address."""
    trusted_hosts: Names = Field((), examples=[["connect"]])
    """Names under which clients may reach this front, `name[,name …]`, beside any address and `localhost`; `*` for all.
    Others are refused, since a web page can make a name of its own lead here."""
    allowed_origins: Names = Field((), examples=[["https://chat.example.org"]])
    """Web pages that may use this front, `origin[,origin …]`; `*` for all."""

    check_interval_s: float = Field(2, ge=0.1, le=3600)
    """Between two looks at each hub."""
    check_timeout_s: float = Field(2, gt=0, le=60)
    """How long a hub may take to say that it is well."""
    discover_interval_s: float = Field(10, ge=0.1, le=3600)
    """Between two looks for further hubs."""
    connect_timeout_s: float = Field(3, gt=0, le=60)
    """How long a connection to a hub may take."""
    retry_s: float = Field(30, ge=0, le=3600)
    """How long another hub is looked for before an answer has begun."""
    resume_s: float = Field(60, ge=0, le=3600)
    """The same in the middle of an answer; hubs end a request that nobody reads for their `resume_window_s`."""
    stall_s: float = Field(20, ge=1, le=3600)
    """How long a hub may say nothing in the middle of a stream; its comments come every 5 seconds."""
    retry_after_s: int = Field(5, ge=1, le=3600)
    """What Retry-After says where no hub is left."""
    max_body_bytes: int = Field(64 * 2**20, ge=1024)
    """Largest request body; it is held until its answer begins."""
    body_timeout_s: float = Field(300, gt=0)
    """How long a request's body may take to arrive."""
    send_timeout_s: float = Field(60, gt=0)
    """How long a client may read nothing of what is sent before it is cut off."""
    max_connections: int = Field(2000, ge=1)
    """Most connections of clients, idle ones too; who comes after them hears 503."""
    shutdown_timeout_s: float = Field(30, ge=0)
    """How long open answers may go on after a stop signal before they are ended with an error."""
