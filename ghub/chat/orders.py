"""What a line that begins with `/` says to the program itself."""

from collections.abc import Sequence
from typing import NamedTuple

ORDERS = {
    "/model": "change_model",
    "/models": "list_models",
    "/system": "change_system",
    "/clear": "clear",
    "/help": "help",
    "/quit": "quit",
    "/exit": "quit",
}
"""By word, the name of what is done."""
HELP = (
    "/model NAME   ask another model; the conversation goes on",
    "/models       which there are",
    "/system TEXT  what the model is told before anything else; without TEXT nothing",
    "/clear        forget what was said",
    "/quit         leave, as does Ctrl-D",
    "Ctrl-C stops an answer. A line that ends with \\ goes on in the next one.",
    "A line that begins with // is for the model, with one /.",
)


class Order(NamedTuple):
    """One word, and what stands behind it."""

    name: str
    rest: str


def read_order(line: str) -> Order | None:
    """The order that a line gives; None if it is for the model."""
    if not line.startswith("/") or line.startswith("//"):
        return None
    word, _, rest = line.strip().partition(" ")
    if word not in ORDERS:
        return Order("unknown", word)
    return Order(ORDERS[word], rest.strip())


def orders_that_fit(begun: str, models: Sequence[str]) -> list[str]:
    """The lines that one that was begun may become."""
    lines = [*ORDERS, *(f"/model {name}" for name in models)]
    return [line for line in lines if begun.startswith("/") and line.startswith(begun)]
