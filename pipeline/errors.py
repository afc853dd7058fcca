"""What ends a command with one clear line instead of a traceback."""


class UserError(Exception):
    """A mistake of the user's: what is wrong, where, and what was expected.

    The command line prints it as it is and exits with status 2.
    """


class Interrupted(Exception):
    """Somebody has asked a long piece of work to end, and it has ended in between."""


class TrainingStopped(Exception):
    """A training run cannot go on, by no mistake of the user's: why, and what is kept.

    The command line prints it as it is and exits with status 1.
    """
