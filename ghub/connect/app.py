"""The ASGI application of a front: what it answers itself, and what it has hubs answer."""

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from common import __version__
from ghub.connect.errors import FrontStopping
from ghub.connect.hubs import Hubs
from ghub.connect.relay import Relay
from ghub.connect.settings import ConnectSettings
from hub.api.errors import error_response
from hub.api.shapes import shape_of

STATUS_PATH = "/connect"
"""Where a front tells how it stands; hubs have no such path."""


class Front:
    """Answers clients."""

    def __init__(self, hubs: Hubs, relay: Relay, settings: ConnectSettings) -> None:
        self._hubs = hubs
        self._relay = relay
        self._settings = settings
        self.is_draining = False
        """Whether new calls are refused."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call."""
        if scope["type"] != "http":
            return
        if scope["path"] == STATUS_PATH:
            await self._standing()(scope, receive, send)
        elif self.is_draining:
            error = FrontStopping("this front is stopping", retry_after_s=self._settings.retry_after_s)
            await error_response(error, shape_of(scope["path"]), {"connection": "close"})(scope, receive, send)
        else:
            await self._relay.serve(scope, receive, send)

    def _standing(self) -> Response:
        hubs = [
            {"url": hub.url, "ready": hub.is_ready, "named": hub.is_named, "open_requests": hub.open_requests}
            for hub in self._hubs.all
        ]
        is_ready = not self.is_draining and any(hub.is_ready for hub in self._hubs.all)
        status = "draining" if self.is_draining else "ok" if is_ready else "no_hub"
        said = {"status": status, "version": __version__, "open_requests": self._relay.open_count, "hubs": hubs}
        return Response(orjson.dumps(said), 200 if is_ready else 503, media_type="application/json")
