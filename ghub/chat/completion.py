"""Models that a shell completes for whoever talks to them: those that his key may use."""

from ghub.chat.api import ChatApi
from ghub.chat.keys import read_key
from ghub.client.completion import LIMIT_S, fitting
from ghub.client.hub import hub_root


def complete_models(incomplete: str) -> list[str]:
    """Models that begin like this, as a client sees them."""
    return fitting(incomplete, lambda: ChatApi(hub_root(None), read_key(None), timeout_s=LIMIT_S).models())
