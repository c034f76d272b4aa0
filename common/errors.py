"""Errors that hub and provider share.

GHubError
├── SettingsError          a setting cannot work; one line for the person who set it
├── BrokerError
│   ├── BrokerUnavailable  not reachable, or no answer in time: try again
│   └── BrokerRefused      it answered no: out of memory, read only, a command it lacks
│       ├── BrokerDenied   not to this user: unknown, a wrong password, or not among its rights
│       └── LaneMissing    there is no such lane: flushed, restarted empty, or never made
├── ClientGone             nobody is there to hear anything
├── BodyTooLong            a request's body is longer than allowed; the rest is not read
├── WireError              bytes from the broker that are no job or entry of ours
├── SignatureError         a job that nobody with our key signed
├── DirectRefused          a direct call's HMAC is not accepted; with the code that clients hear
└── RulesError             no rules of a broker user allow these models and nothing else
"""

from common.types import DirectRefusal


class GHubError(Exception):
    """Base of everything this project raises on purpose."""


class SettingsError(GHubError):
    """A setting cannot work."""


class BrokerError(GHubError):
    """The broker could not do what was asked."""


class BrokerUnavailable(BrokerError):
    """The broker is not reachable or did not answer in time."""


class BrokerRefused(BrokerError):
    """The broker answered, and said no."""


class BrokerDenied(BrokerRefused):
    """The broker does not know this user and password, or the user may not do what was asked."""


class LaneMissing(BrokerRefused):
    """A lane or its group is not there, so nothing can be claimed from it."""


class WireError(GHubError):
    """A stream holds something that is no job or entry of ours."""


class SignatureError(GHubError):
    """A job's signature is missing, of an unknown key, or wrong."""


class DirectRefused(GHubError):
    """A direct call's HMAC is not accepted."""

    def __init__(self, code: DirectRefusal, message: str) -> None:
        super().__init__(message)
        self.code = code


class RulesError(GHubError):
    """No rules can be written that allow these models and nothing else."""


class ClientGone(GHubError):
    """The client closed its connection, or reads no more."""


class BodyTooLong(GHubError):
    """A request's body is longer than allowed."""
