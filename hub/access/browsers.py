"""Keeps web pages out of a hub that asks clients for no key because only its own machine reaches it.

Such a hub trusts whoever reaches it, and a browser on its machine reaches it for any page that asks: a page can send
requests without being asked first (`text/plain` needs no preflight), and read the answers too once its own name is made
to lead to this address. So what comes from a page of another origin is refused, and so is what was sent to a name that
is not known to be this hub's. Programs name no origin, and come by an address or by `localhost`.
"""

import ipaddress

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from hub.access.this_machine import host_in, is_local_name
from hub.api.errors import error_response
from hub.api.shapes import shape_of
from hub.errors import Forbidden, RequestFailed
from hub.settings import HubSettings

ANY = "*"
_LIMITS = (f"x-ratelimit-{what}-{kind}" for what in ("limit", "remaining", "reset") for kind in ("requests", "tokens"))
_GRID = ("x-ghub-node", "x-ghub-attempt", "x-ghub-queue-ms", "x-ghub-error", "idempotent-replayed")
_EXPOSED = ("retry-after", "request-id", "x-request-id", *_GRID, *_LIMITS)
"""Headers of answers that pages may read."""


class ForeignPage(Forbidden):
    """A browser asks for a page that is none of this hub's."""

    code = "foreign_origin"


class UnknownHost(Forbidden):
    """The request was sent to a name that is not known to be this hub's."""

    code = "unknown_host"


class BrowserGuard:
    """An ASGI application in front of a hub's own. Looks at two headers of a request and at nothing of its answer.

    Args:
        app: gets what is not refused.
        trusted_hosts: names under which it may be reached, beside any address and `localhost`; `*` for all.
        allowed_origins: of pages that may ask; `*` for all.
        settings: what the variables of those two begin with.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        trusted_hosts: tuple[str, ...],
        allowed_origins: tuple[str, ...],
        settings: str = "GHUB_HUB_",
    ) -> None:
        self._app = app
        self._settings = settings
        self._hosts = frozenset(host.lower() for host in trusted_hosts)
        self._origins = frozenset(origin.lower() for origin in allowed_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 403."""
        refusal = self._refusal(scope["headers"]) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            await error_response(refusal, shape_of(scope["path"]))(scope, receive, send)

    def _refusal(self, headers: list[tuple[bytes, bytes]]) -> RequestFailed | None:
        hosts = [value.decode("latin-1").lower() for name, value in headers if name == b"host"]
        origins = [value.decode("latin-1").lower() for name, value in headers if name == b"origin"]
        if not all(self._is_ours(host) for host in hosts):
            return UnknownHost(
                "This hub asks for no keys, so it answers only under an address, localhost and the names in "
                f"{self._settings}TRUSTED_HOSTS."
            )
        if not all(self._may_ask(origin, hosts) for origin in origins):
            return ForeignPage(
                "This hub asks for no keys, so pages of other origins may not use it unless "
                f"{self._settings}ALLOWED_ORIGINS names them."
            )
        return None

    def _is_ours(self, host: str) -> bool:
        name = host_in(f"//{host}")
        return ANY in self._hosts or is_local_name(name) or _is_address(name) or name in self._hosts

    def _may_ask(self, origin: str, hosts: list[str]) -> bool:
        if ANY in self._origins or origin in self._origins:
            return True
        scheme, _, rest = origin.partition("://")
        return scheme in ("http", "https") and (rest in hosts or is_local_name(host_in(origin)))


def for_browsers(app: ASGIApp, settings: HubSettings) -> ASGIApp:
    """A hub's application with what browsers call for, and no more of it than the settings do."""
    if settings.allowed_origins:
        app = CORSMiddleware(
            app,
            allow_origins=settings.allowed_origins,
            allow_methods=("GET", "POST", "DELETE"),
            allow_headers=("*",),
            expose_headers=_EXPOSED,
            max_age=600,
        )
    if settings.needs_client_keys or settings.auth is not None:
        # A page that knows a key may use it: browsers add none by themselves. Where it was said that keys are not
        # needed, something in front of the hub lets clients in, under names of its own.
        return app
    return BrowserGuard(app, trusted_hosts=settings.trusted_hosts, allowed_origins=settings.allowed_origins)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
