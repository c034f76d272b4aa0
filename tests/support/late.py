"""Libraries that few tests use and that take seconds to import: whoever uses one first imports it.

Every process that runs tests imports all of them, and most never use these.
"""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import anthropic
    import ollama
    import openai
    import schemathesis

__all__ = ["anthropic", "ollama", "openai", "schemathesis"]


def __getattr__(name: str) -> ModuleType:
    if name not in __all__:
        raise AttributeError(name)
    return import_module(name)
