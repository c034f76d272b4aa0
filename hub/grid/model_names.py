"""Names of models: which model a client means, whatever it writes.

In this order: an alias exactly as the operator set it; a model as it is served, with or without `:latest`, in whatever
case; an alias written so loosely; an alias that is a pattern. What is served goes before patterns, so `*=llama3` takes
only what would be unknown.
"""

from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase

from common.types import ModelId
from hub.errors import ModelNotFound

_LATEST = ":latest"
_WILD = frozenset("*?[")


class ModelNames:
    """What a name stands for at this hub. An alias leads to a model, never to another alias."""

    def __init__(self, aliases: Mapping[str, str] | None = None) -> None:
        pairs = [(ModelId(alias), ModelId(model)) for alias, model in (aliases or {}).items()]
        self._exact = {alias: model for alias, model in pairs if _WILD.isdisjoint(alias)}
        self._patterns = [(alias.casefold(), model) for alias, model in pairs if not _WILD.isdisjoint(alias)]

    def find(self, asked: ModelId, served: Collection[ModelId], remembered: Collection[ModelId] = ()) -> ModelId | None:
        """The name under which a model is served, or was once; None if the name asked for leads to none."""
        if asked in self._exact:
            return _find(self._exact[asked], served, remembered)
        found = _find(asked, served, remembered)
        if found is None and (target := self._stands_for(asked)) is not None:
            found = _find(target, served, remembered)
        return found

    def not_found(self, asked: ModelId) -> ModelNotFound:
        """What to tell a client whose name led to no model."""
        target = self._stands_for(asked)
        if target is None:
            return ModelNotFound(f"The model {asked!r} does not exist: no node has served it.", param="model")
        message = f"The model {asked!r} stands for {target!r} here, and no node has served that."
        return ModelNotFound(message, param="model")

    def listed(self, served: Collection[ModelId]) -> dict[ModelId, ModelId]:
        """Every name to show to clients, and the model that it stands for: all that are served, and their aliases."""
        names = {model: model for model in served}
        for alias, target in self._exact.items():
            model = known_as(target, served)
            if model is not None:
                names[alias] = model
            else:
                names.pop(alias, None)  # a model hidden behind its alias cannot be reached under its own name
        return names

    def _stands_for(self, asked: ModelId) -> ModelId | None:
        """The model that a name is an alias of, however loosely written."""
        alias = known_as(asked, self._exact)
        if alias is not None:
            return self._exact[alias]
        folded = asked.casefold()
        return next((model for pattern, model in self._patterns if fnmatchcase(folded, pattern)), None)


def known_as(asked: ModelId, names: Collection[ModelId]) -> ModelId | None:
    """Find a name among others: exactly, else with or without `:latest`, else in whatever case; None if not there."""
    if asked in names:
        return asked
    other = _other_name(asked)
    if other is not None and other in names:
        return other
    wanted = (asked.casefold(), _other_name(ModelId(asked.casefold())))
    folded = [name for name in names if name.casefold() in wanted]
    # the longest agreement first, then an order of any kind: the same name must not lead here and there
    return min(folded, key=lambda name: (wanted.index(name.casefold()), name), default=None)


def _find(asked: ModelId, served: Collection[ModelId], remembered: Collection[ModelId]) -> ModelId | None:
    # what is served goes first: a name that is only remembered may have been given up for the other one
    found = known_as(asked, served)
    return found if found is not None else known_as(asked, remembered)


def _other_name(model: ModelId) -> ModelId | None:
    """The same with or without `:latest`; None for a name with another tag. A colon before a slash begins no tag."""
    if model.endswith(_LATEST):
        return ModelId(model.removesuffix(_LATEST))
    has_tag = ":" in model.rpartition("/")[2]
    return None if has_tag else ModelId(model + _LATEST)
