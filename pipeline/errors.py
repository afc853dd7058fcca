"""Exceptions that end a command with one clear line instead of a traceback."""

import contextlib
import os
from collections.abc import Iterator


class UserError(Exception):
    """A mistake of the user's; says what is wrong, where, and what was expected.

    The command line prints the message as it is and exits with status 2.
    """


class Interrupted(Exception):
    """A long piece of work ended early, because it was asked to."""


class TrainingStopped(Exception):
    """A training run cannot go on, and no mistake of the user's is the reason.

    Says why, and what is kept. The command line prints the message as it is and exits
    with status 1.
    """


def system_problem(error: OSError) -> str:
    """Returns an error of the operating system as one line.

    Args:
        error: For example of a full disk, or of a file name that is too long.

    Returns:
        The file, if it is known, and the problem.
    """
    problem = error.strerror or str(error)
    return problem if error.filename is None else f"{error.filename}: {problem}"


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns an ``OSError`` inside the context into an error that names the file.

    Raises:
        UserError: The file cannot be written.
    """
    try:
        yield
    except OSError as error:
        problem = error.strerror or str(error)
        raise UserError(f"{path}: cannot be written: {problem}") from error
