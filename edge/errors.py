"""The one error that a person is meant to read."""


class UserError(Exception):
    """Something outside the program is wrong: says what, where, and what to do about it.

    `edge.startup.run` prints the message alone and exits with 1; any other exception is a fault of ours.
    """
