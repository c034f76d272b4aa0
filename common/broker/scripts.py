"""Lua scripts by name, run by their digest and loaded when the broker does not know them."""

import hashlib
import re
from collections.abc import Sequence
from importlib.resources import files

from redis.exceptions import NoScriptError, ResponseError

from common.broker.line import Answer, Argument, Command, Line

_USES = re.compile(r"^-- Uses: (\w+)\.lua$", re.MULTILINE)


class Script:
    """One file of `common/lua`, behind those that it says it uses."""

    def __init__(self, name: str) -> None:
        own = _read(name)
        self.text = "".join(map(_read, _USES.findall(own))) + own
        """What SCRIPT LOAD takes."""
        self._digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def command(self, keys: Sequence[Argument], args: Sequence[Argument]) -> Command:
        """What runs it, for those who say several things at once: `mend` then reads its answer."""
        return ("EVALSHA", self._digest, len(keys), *keys, *args)

    async def run(self, line: Line, keys: Sequence[Argument], args: Sequence[Argument]) -> Answer:
        """Run it; redis-py's errors come through."""
        command = self.command(keys, args)
        (answer,) = await line.ask((command,))
        return await self.mend(line, command, answer)

    async def mend(self, line: Line, command: Command, answer: Answer) -> Answer:
        """The answer to its command; where the broker did not know it, run now. redis-py's errors are raised."""
        if isinstance(answer, NoScriptError):
            _, answer = await line.ask((("SCRIPT", "LOAD", self.text), command))
        if isinstance(answer, ResponseError):
            raise answer
        return answer


def _read(name: str) -> str:
    return files("common.lua").joinpath(f"{name}.lua").read_text()


PROVIDER_SCRIPTS = ("claim_jobs", "settle_job")
"""Those that providers run. Registered ones may not load scripts, since an endless one would stop the broker."""


def provider_scripts() -> list[str]:
    """The text of every script that providers run."""
    return [Script(name).text for name in PROVIDER_SCRIPTS]
