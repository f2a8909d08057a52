"""Errors that a user can act on; the command prints the text as one sentence and exits with 2."""


class EnvlockError(Exception):
    """Base of every error that envlock raises on purpose: bad input, an unreadable file, a missing tool.

    The text names the file and place and, where there is one, the way out.
    """
