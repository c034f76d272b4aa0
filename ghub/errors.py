"""Errors of the command line; each is one line for the person at the keyboard.

GHubError (common)
└── CommandError      exit_code
    ├── StartRefused  2: something must be changed before anything can be started
    └── StackFailed   1: it was started, and a part could not be kept up
"""

from common.errors import GHubError

EXIT_FAILED = 1
"""Exit code after a part of the stack could not be brought up."""

EXIT_REFUSED = 2
"""Exit code after a wrong option, setting or surrounding: nothing was started."""


class CommandError(GHubError):
    """A command ends early. The text is shown as it is, without a traceback."""

    exit_code = EXIT_FAILED


class StartRefused(CommandError):
    """Nothing was started, because something outside must change first."""

    exit_code = EXIT_REFUSED


class StackFailed(CommandError):
    """A part of the stack does not come up; what was started has been ended again."""
