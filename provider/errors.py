"""Errors of a provider.

NameTaken            another live provider has this name

EngineError
├── EngineDown        not reachable: the job is given back and the node pauses
├── EngineRefused     it answered with an error status; carries what the client should hear
└── EngineBroke       the answer began and then broke off, stalled, or made no sense
"""

from common.errors import GHubError
from common.wire import Failure


class EngineError(GHubError):
    """The engine did not answer as it should."""


class EngineDown(EngineError):
    """The engine cannot be reached."""


class EngineFailed(EngineError):
    """This attempt failed; `failure` says how, in the words a client may read."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class EngineRefused(EngineFailed):
    """The engine answered with an error status."""


class EngineBroke(EngineFailed):
    """The answer broke off, stalled or made no sense."""


class NameTaken(GHubError):
    """Another live provider has this node's name."""
