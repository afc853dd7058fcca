"""What ends a command with one clear line instead of a traceback."""

import contextlib


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


def system_problem(error):
    """Returns an ``OSError`` as one line: the file, if it is known, and the problem.

    Args:
        error: What the system said: a full disk, a name that is too long.
    """
    problem = error.strerror or str(error)
    return problem if error.filename is None else f"{error.filename}: {problem}"


@contextlib.contextmanager
def writing(path):
    """Says of what fails inside which file could not be written.

    Raises:
        UserError: The system refused.
    """
    try:
        yield
    except OSError as error:
        problem = error.strerror or str(error)
        raise UserError(f"{path}: cannot be written: {problem}") from error
