"""`ghub pause` and `ghub resume`: the owner's word to the provider on this machine."""

from collections.abc import Sequence

import httpx2

from ghub import ports
from ghub.client.answers import json_object, refusal
from ghub.errors import CommandError
from provider.settings import ProviderSettings

TIMEOUT_S = 5.0
CONTROL_HEADER = {"X-GHub-Control": "1"}
"""Without a token, the provider takes orders only with this: no web page can send it."""


class ProviderUnmoved(CommandError):
    """The provider does not answer, or does not obey."""


def say(word: str, settings: ProviderSettings, url: str | None = None) -> Sequence[str]:
    """Tell the provider to `pause` or to `resume`.

    Args:
        word: one of these two.
        settings: those that the provider was started with: where it listens, and its control token if it has one.
        url: its own HTTP's root; None: as the settings say.

    Returns:
        The reasons for which it now takes no work; empty if it does.

    Raises:
        ProviderUnmoved: in one line, why not.
    """
    server = settings.server
    root = (url or ports.near_url(server.host, server.port)).rstrip("/")
    headers = dict(CONTROL_HEADER)
    if server.control_token is not None:
        headers["Authorization"] = f"Bearer {server.control_token.get_secret_value()}"
    try:
        answer = httpx2.post(f"{root}/{word}", headers=headers, timeout=TIMEOUT_S, trust_env=False)
    except (httpx2.HTTPError, httpx2.InvalidURL) as exc:
        raise ProviderUnmoved(f"no provider answers at {root}: {str(exc) or type(exc).__name__}") from exc
    told = json_object(answer) or {}
    if answer.status_code == 200 and isinstance(reasons := told.get("reasons"), list):
        return [str(reason) for reason in reasons]
    if (error := refusal(answer)) is not None:
        raise ProviderUnmoved(f"the provider at {root} refuses: {error.message}")
    raise ProviderUnmoved(f"what answers at {root} is no provider (status {answer.status_code})")
