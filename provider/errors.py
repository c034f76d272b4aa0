"""Errors of a provider.

NameTaken              another live provider has this name
GridMoved              the hub names another grid than the one this provider works for

EngineError
├── EngineDown         not reachable: the job is given back and the node pauses
│   └── EngineLate     it took the call but did not answer in time: perhaps only busy
├── EngineFull         no memory for the model now: the job is given back, the node goes on
└── EngineFailed       this attempt failed; carries what the client should hear
    ├── EngineRefused  it answered with an error status
    │   └── ModelGone  it no longer has the model that it listed
    └── EngineBroke    the answer began and then broke off, stalled, or made no sense

CallRefused            a direct caller gets no answer of the engine: a status, a code, a sentence

HubError
├── HubUnreachable     no answer, or a server in trouble
├── HubRefused         it does not take this from us
│   └── RegistrationRefused  it does not let this provider in; carries the code
└── HmacRefused        a direct caller may not have this call; carries the code
"""

from common.errors import GHubError
from common.wire import Failure

DISCONNECTED = "engine_disconnected"
"""Code of a failure in which the engine closed the connection."""


class EngineError(GHubError):
    """The engine did not answer as it should."""


class EngineDown(EngineError):
    """The engine cannot be reached."""


class EngineLate(EngineDown):
    """The engine took the call but gave no answer in time."""


class EngineFull(EngineError):
    """The engine has no memory for the model now, and nothing of the answer was said."""


class EngineFailed(EngineError):
    """This attempt failed; `failure` says how, in the words a client may read."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class EngineRefused(EngineFailed):
    """The engine answered with an error status."""


class ModelGone(EngineRefused):
    """The engine no longer has the model: another node may."""


class EngineBroke(EngineFailed):
    """The answer broke off, stalled or made no sense."""


class NameTaken(GHubError):
    """Another live provider has this node's name."""


class GridMoved(GHubError):
    """The hub names another broker, prefix or heartbeat than when this process began."""


class HubError(GHubError):
    """The hub did not do what it was asked over HTTP."""


class HubUnreachable(HubError):
    """No answer, or one of a server in trouble."""


class HubRefused(HubError):
    """The hub does not take this from us: a wrong token, or a hub of another kind."""


class RegistrationRefused(HubRefused):
    """The hub does not let this provider in; `code` is its word for why. `retry_after_s` is set where that passes."""

    def __init__(self, message: str, *, status: int, code: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s

    @property
    def is_revocation(self) -> bool:
        """Whether this token is good no more, or no more for this node."""
        return self.status == 401 or self.code == "node_taken"


class HmacRefused(HubError):
    """A direct caller may not have this call; `code` is the hub's word for why."""

    def __init__(self, code: str) -> None:
        super().__init__(f"the HMAC is refused: {code}")
        self.code = code


class CallRefused(GHubError):
    """A direct call that gets no answer of the engine. `retry_after_s` is set where trying again makes sense."""

    def __init__(self, status: int, code: str, message: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s
