"""A group of commands that imports a command only when it is run: what lists them all is to be quick."""

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import typer
from typer.core import TyperGroup
from typer.main import get_group

if TYPE_CHECKING:  # typer's own copy of click has no public name
    from typer._click import Command, Context


class Later(NamedTuple):
    """A command that is not imported yet."""

    where: str
    """`module:name` of its function, or of the typer that has its subcommands."""
    help: str
    """The first sentence of its own help."""


def not_imported() -> None:
    """Stands in lists (help, completion, suggestions) for a command, under its name and help."""


class LazyGroup(TyperGroup):
    """A group that imports what is run, or completed further. Its subclass says where that is."""

    later: ClassVar[Mapping[str, Later]]

    def resolve_command(self, ctx: "Context", args: list[str]) -> "tuple[str | None, Command | None, list[str]]":
        """The command that the words name, as it is, and the rest of them."""
        name, listed, rest = super().resolve_command(ctx, args)
        return name, listed and self.imported(str(name)), rest

    def imported(self, name: str) -> "Command":
        """Import a command. KeyError if there is none of this name."""
        module, _, attribute = self.later[name].where.partition(":")
        found = getattr(import_module(module), attribute)
        holder = typer.Typer(rich_markup_mode=self.rich_markup_mode, pretty_exceptions_enable=False)
        if isinstance(found, typer.Typer):
            holder.add_typer(found, name=name)
        else:
            holder.command(name)(found)
        return get_group(holder).commands[name]
