"""The error that means: the person who typed the command made a mistake."""


class UserError(Exception):
    """A mistake of the user's: what is wrong, where, and what was expected.

    The command line prints it as it is and exits with status 2.
    """
