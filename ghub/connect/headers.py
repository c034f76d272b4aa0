"""Which headers pass through a front, and which it adds."""

from collections.abc import Iterable

from multidict import CIMultiDict, CIMultiDictProxy
from pydantic import SecretStr

from hub.access.shown_secret import shown_secret
from hub.api.entry_frames import ENTRIES_HEADER

Headers = CIMultiDict[str]
RawHeaders = list[tuple[bytes, bytes]]

_PROXY = frozenset({"proxy-authenticate", "proxy-authorization", "proxy-connection"})
HOP = _PROXY | {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
"""Of one connection, not of what goes over it."""
NOT_SENT_ON = HOP | {"host", "content-length", "expect", ENTRIES_HEADER}
NOT_ANSWERED = HOP | {"date", "server", ENTRIES_HEADER}
"""The server in front writes these itself."""
NO_KEY = ("", "unused")
"""What counts as no key: most SDKs want something in its place."""
VIA = "1.1 ghub-connect"
"""What every request says: a hub on this machine must not take whoever comes through here for its own operator."""


def request_headers(raw: RawHeaders, api_key: SecretStr | None) -> Headers:
    """What a hub is sent of a client's headers, and the front's key if the client shows none."""
    sent = Headers((name.decode("latin-1"), value.decode("latin-1")) for name, value in raw)
    for name in NOT_SENT_ON | _named_by(sent.getall("connection", ())):
        sent.popall(name, None)
    sent.add("via", VIA)
    return with_key(sent, api_key)


def with_key(headers: Headers, api_key: SecretStr | None) -> Headers:
    """The same with the front's key, if there is one and they show none."""
    if api_key is not None and shown_secret(headers) in NO_KEY:
        headers.popall("x-api-key", None)
        headers["authorization"] = f"Bearer {api_key.get_secret_value()}"
    return headers


def answer_headers(headers: CIMultiDictProxy[str], without: Iterable[str] = ()) -> RawHeaders:
    """What a client is told of a hub's headers."""
    dropped = NOT_ANSWERED | _named_by(headers.getall("connection", ())) | frozenset(without)
    return [
        (name.lower().encode("latin-1"), value.encode("latin-1", "replace"))
        for name, value in headers.items()
        if name.lower() not in dropped
    ]


def _named_by(connection: Iterable[str]) -> frozenset[str]:
    """The headers that `Connection` says are of this connection alone."""
    return frozenset(name.strip().lower() for said in connection for name in said.split(","))
