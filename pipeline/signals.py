"""Ctrl-C and the polite request to end: handlers, and folders that end with them."""

import contextlib
import secrets
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType


@contextlib.contextmanager
def handled_by(
    handler: Callable[[int, FrameType | None], None] | signal.Handlers,
) -> Iterator[None]:
    """Lets a handler have SIGINT and SIGTERM while the context lasts.

    One that the process was told to ignore, such as a job in a script, stays ignored.
    Outside the main thread, which signals do not reach, nothing changes.

    Args:
        handler: As for :func:`signal.signal`.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: signal.signal(number, handler)
        for number in (signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


@contextlib.contextmanager
def temporary_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Makes a folder that is gone at the end, whenever a signal brings that about.

    ``tempfile.TemporaryDirectory`` leaves it behind if one comes just when the folder
    has been made.

    Args:
        parent: Where to make it.
        prefix: Of its name.

    Yields:
        The folder, which nobody else may read.

    Raises:
        OSError: It cannot be made.
    """
    folder = parent / f"{prefix}{secrets.token_hex(8)}"
    try:
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
