"""One question through a pipe: the answer stands on standard output, and nothing else does."""

import sys

import typer

from ghub.chat.api import ChatApi
from ghub.chat.conversation import Conversation
from ghub.chat.pieces import Ended, TakenOver, Text
from ghub.showing.printable import printable, printable_lines


def answer_once(api: ChatApi, conversation: Conversation, question: str) -> None:
    """Ask, and print the answer as it comes; what is of interest beside it goes to standard error.

    Raises:
        AnswerFailed: there is none, or not all of it; what came of it is printed.
    """
    is_seen = sys.stdout.isatty()
    said = last = ""
    with api.answering(conversation.question(question)) as answer:
        try:
            for piece in answer.pieces:
                match piece:
                    case Text(text):
                        last = printable_lines(text) if is_seen else text
                        said = said or last
                        sys.stdout.write(last)
                        sys.stdout.flush()
                    case TakenOver(node):
                        typer.echo(f"(a node was lost; {printable(node)} goes on)", err=True)
                    case Ended("length"):
                        typer.echo("(cut short: the longest answer that was allowed)", err=True)
        finally:
            if said and not last.endswith("\n"):
                sys.stdout.write("\n")
                sys.stdout.flush()
    if not said:
        typer.echo("(an empty answer)", err=True)
