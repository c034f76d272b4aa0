"""`ghub chat`, as it is typed."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ghub.chat.api import ChatApi
from ghub.chat.asking import answer_once
from ghub.chat.choice import choose_model
from ghub.chat.completion import complete_models
from ghub.chat.conversation import Conversation
from ghub.chat.dialogue import Dialogue
from ghub.chat.keys import read_key
from ghub.client.hub import hub_root
from ghub.client.options import HubUrl
from ghub.errors import StartRefused


def chat(
    model: Annotated[
        str | None,
        typer.Argument(
            help="Whom to ask; by default the only model, or one that is loaded.", autocompletion=complete_models
        ),
    ] = None,
    *,
    system: Annotated[str, typer.Option(help="What the model is told before anything else.", metavar="TEXT")] = "",
    max_tokens: Annotated[int | None, typer.Option(help="Longest answer.", min=1)] = None,
    temperature: Annotated[
        float | None, typer.Option(help="0: the likeliest word; more: bolder.", min=0, max=2)
    ] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            help="File with your API key. [env: GHUB_API_KEY, OPENAI_API_KEY, the key itself]", metavar="FILE"
        ),
    ] = None,
    hub_url: HubUrl = None,
) -> None:
    """Talk to a model of the grid. Through a pipe: the whole of standard input is the question."""
    api = ChatApi(hub_root(hub_url), read_key(api_key_file))
    is_dialogue = sys.stdin is not None and sys.stdin.isatty()
    question = "" if is_dialogue else _question()
    try:
        chosen, why = choose_model(api, model)
        if why:
            typer.echo(why, err=True)
        conversation = Conversation(chosen, system, max_tokens, temperature)
        if is_dialogue:
            Dialogue(api, conversation).hold()
        else:
            answer_once(api, conversation, question)
    finally:
        api.close()


def _question() -> str:
    """All of standard input.

    Raises:
        StartRefused: there is none, or it is no text.
    """
    try:
        text = sys.stdin.buffer.read().decode() if sys.stdin is not None else ""
    except UnicodeDecodeError as exc:
        raise StartRefused(f"standard input is not UTF-8: byte {exc.start} is 0x{exc.object[exc.start]:02x}") from exc
    except OSError as exc:
        raise StartRefused(f"standard input: {exc.strerror or exc}") from exc
    if not text.strip():
        raise StartRefused("standard input holds no question")
    return text.removeprefix("\ufeff").rstrip("\n")
