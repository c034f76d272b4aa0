"""Which model is asked where none was named."""

from ghub.chat.api import ChatApi
from ghub.chat.errors import AnswerFailed
from ghub.showing.printable import printable


def choose_model(api: ChatApi, wanted: str | None) -> tuple[str, str]:
    """The model, and why it is this one; nothing where it was named.

    Raises:
        AnswerFailed: there is none, or the hub does not answer.
    """
    if wanted is not None:
        return wanted, ""
    models = api.models()
    if not models:
        raise AnswerFailed(f"the hub at {api.url} serves no model (`ghub nodes` tells why)")
    if len(models) == 1:
        return models[0], f"asking {printable(models[0])}, the only model"
    loaded = [name for name in api.loaded() if name in models]
    if loaded:
        return loaded[0], f"asking {printable(loaded[0])}, which is loaded; there are {len(models)}, see `ghub models`"
    return models[0], f"asking {printable(models[0])}, the first of {len(models)}, see `ghub models`"
