"""A conversation at the keyboard: questions, answers as they come, and a few words to the program itself."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from ghub.chat.api import ChatApi, Fate
from ghub.chat.conversation import Conversation
from ghub.chat.errors import AnswerFailed
from ghub.chat.orders import HELP, Order, orders_that_fit, read_order
from ghub.chat.pieces import Ended, TakenOver, Text, Thought, Used, Waiting
from ghub.chat.terminal import Terminal
from ghub.showing.printable import printable, printable_lines

PROMPT, MORE = "> ", ". "


@dataclass(slots=True)
class Told:
    """What came of an answer so far."""

    request: str = ""
    node: str = ""
    text: str = ""
    reason: str = ""
    tokens: int = 0
    takers: int = 0
    """How often another node went on."""


class Dialogue:
    """Holds the conversation until the person leaves it."""

    def __init__(self, api: ChatApi, conversation: Conversation, terminal: Terminal | None = None) -> None:
        self._api = api
        self._conversation = conversation
        self._terminal = terminal or Terminal()
        self._models: list[str] = []
        """As last listed."""
        self._orders: dict[str, Callable[[str], None]] = {
            "change_model": self._change_model,
            "list_models": self._list_models,
            "change_system": self._change_system,
            "clear": self._clear,
            "help": self._help,
            "unknown": self._unknown,
        }

    def hold(self) -> None:
        """Read and answer until /quit, Ctrl-D, or Ctrl-C at the prompt."""
        terminal = self._terminal
        terminal.use_line_editor(lambda begun: orders_that_fit(begun, self._models))
        terminal.note(f"{printable(self._conversation.model)} at {self._api.url}; /help tells more, Ctrl-D leaves")
        while True:
            try:
                line = self._read()
            except (EOFError, KeyboardInterrupt):
                terminal.note("")
                return
            if not line.strip():
                continue
            order = read_order(line)
            if order is None:
                self._ask(line.removeprefix("/") if line.startswith("//") else line)
            elif order.name == "quit":
                return
            else:
                self._obey(order)

    def _read(self) -> str:
        """One message: a line, and those behind it as long as each ends with a backslash."""
        line = self._terminal.read_line(PROMPT)
        while line.endswith("\\"):
            line = line[:-1] + "\n" + self._terminal.read_line(MORE)
        return line

    def _obey(self, order: Order) -> None:
        try:
            self._orders[order.name](order.rest)
        except AnswerFailed as exc:
            self._terminal.warn(str(exc))
        except KeyboardInterrupt:
            self._terminal.note("stopped")

    def _help(self, _: str) -> None:
        for line in HELP:
            self._terminal.note(line)

    def _unknown(self, word: str) -> None:
        self._terminal.warn(f"there is no {printable(word)}; /help tells what there is")

    def _list_models(self, _: str) -> None:
        self._models = self._api.models()
        loaded = {*self._api.loaded()}
        for name in self._models:
            mark = "*" if name == self._conversation.model else " "
            self._terminal.note(f"{mark} {printable(name)}{'  loaded' if name in loaded else ''}")
        if not self._models:
            self._terminal.note("no model is served now")

    def _change_model(self, name: str) -> None:
        if name:
            self._conversation.model = name
        self._terminal.note(f"asking {printable(self._conversation.model)}")

    def _change_system(self, text: str) -> None:
        self._conversation.system = text
        self._terminal.note("the model is told that first" if text else "the model is told nothing first")

    def _clear(self, _: str) -> None:
        self._conversation.clear()
        self._terminal.note("all that was said is forgotten")

    def _ask(self, text: str) -> None:
        """Ask and show the answer; what is stopped half way is remembered as far as it came."""
        began = time.monotonic()
        told = Told()
        try:
            self._show(text, told)
        except KeyboardInterrupt:
            self._terminal.note("stopped\n")
        except AnswerFailed as exc:
            self._terminal.warn(f"{exc}\n")
        else:
            self._tell_fate(told, time.monotonic() - began)
        if told.text:
            self._conversation.remember(text, told.text)

    def _show(self, text: str, told: Told) -> None:
        terminal = self._terminal
        terminal.show_status(f"waiting for {self._conversation.model} …")
        with self._api.answering(self._conversation.question(text)) as answer:
            told.request, told.node = answer.request, answer.node
            for piece in answer.pieces:
                match piece:
                    case Waiting(word):
                        terminal.show_status(f"{word} …")
                    case TakenOver():
                        told.takers += 1
                    case Thought(word):
                        terminal.say(printable_lines(word), is_dim=True)
                    case Text(word):
                        terminal.say(printable_lines(word))
                        told.text += word
                    case Ended(word):
                        told.reason = word
                    case Used(tokens):
                        told.tokens = tokens

    def _tell_fate(self, told: Told, took_s: float) -> None:
        try:
            fate = self._api.fate(told.request) if told.request else Fate()
        except KeyboardInterrupt:
            fate = Fate()
        words = [] if told.text else ["an empty answer"]
        if told.tokens:
            words.append(f"{told.tokens} token{'s' * (told.tokens != 1)} in {took_s:.1f} s")
        if node := fate.node or told.node:
            words.append(f"at {printable(node)}")
        if told.takers:
            words.append("which went on where another was lost")
        elif fate.attempt > 1:
            words.append(f"attempt {fate.attempt}")
        if told.reason == "length":
            words.append("cut short: the longest answer that was allowed")
        self._terminal.note(f"({', '.join(words)})\n" if words else "")
