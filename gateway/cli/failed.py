"""What every group of commands may raise, known without loading the group."""


class CommandFailed(Exception):
    """A command cannot do what it was asked; the message says why, and what to do about it."""
