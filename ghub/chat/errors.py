"""What can go wrong in a conversation; each is one line."""

from ghub.errors import CommandError


class AnswerFailed(CommandError):
    """There is no answer, or not all of it."""
