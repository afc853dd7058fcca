"""Handlers for Ctrl-C and for the polite request to end."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
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
