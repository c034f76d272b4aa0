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

    async def load(self, client: Redis) -> None:
        """Have the broker know it; redis-py's errors come through."""
        await client.script_load(self._text)

    async def run(self, client: Redis, keys: Sequence[str], args: Sequence[Argument]) -> Any:  # noqa: ANN401
        """Run it; redis-py's errors come through."""
        try:
            return await client.evalsha(self._digest, len(keys), *keys, *args)
        except NoScriptError:
            await self.load(client)
            return await client.evalsha(self._digest, len(keys), *keys, *args)

    def queue(self, pipe: Pipeline, keys: Sequence[str], args: Sequence[Argument]) -> None:
        """Add it to a pipeline. A NoScriptError among the results is the caller's to cure with `run`."""
        pipe.evalsha(self._digest, len(keys), *keys, *args)


PROVIDER_SCRIPTS = ("claim_jobs", "settle_job")
"""Those that providers run. Registered ones may not load scripts, since an endless one would stop the broker."""


async def load_provider_scripts(client: Redis) -> None:
    """Have the broker know every script that providers run; redis-py's errors come through."""
    for name in PROVIDER_SCRIPTS:
        await Script(name).load(client)
