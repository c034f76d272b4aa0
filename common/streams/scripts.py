"""Lua scripts by name, run by their digest and loaded when the broker does not know them."""

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import NoScriptError

Argument = bytes | str | int | float
"""What redis-py takes as a key or an argument."""


class Script:
    """One file of `common/lua`."""

    def __init__(self, name: str) -> None:
        self._text = files("common.lua").joinpath(f"{name}.lua").read_text()
        self._digest = hashlib.sha1(self._text.encode(), usedforsecurity=False).hexdigest()

    async def run(self, client: Redis, keys: Sequence[str], args: Sequence[Argument]) -> Any:  # noqa: ANN401
        """Run it; redis-py's errors come through."""
        try:
            return await client.evalsha(self._digest, len(keys), *keys, *args)
        except NoScriptError:
            await client.script_load(self._text)
            return await client.evalsha(self._digest, len(keys), *keys, *args)

    def queue(self, pipe: Pipeline, keys: Sequence[str], args: Sequence[Argument]) -> None:
        """Add it to a pipeline. A NoScriptError among the results is the caller's to cure with `run`."""
        pipe.evalsha(self._digest, len(keys), *keys, *args)
