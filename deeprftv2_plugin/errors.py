"""The one exception whose text is meant for the person at the keyboard."""


class UserError(ValueError):
    """Wrong input that its message explains: what was found, what was expected, and what to do.

    The command prints the message without a traceback and exits with status 1.
    """
