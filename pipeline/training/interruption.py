"""Ends of a training run that somebody asks for, between two updates."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from types import FrameType
from typing import Generic, TypeVar

from pocketseq.pipeline.errors import Interrupted
from pocketseq.pipeline.signals import handled_by


@contextlib.contextmanager
def interruption() -> Iterator[threading.Event]:
    """Turns Ctrl-C, and the polite request to end, into a flag.

    So an update is always finished. The second Ctrl-C is an exception again.

    Yields:
        An event that is set then.
    """
    interrupted = threading.Event()

    def ask(number: int, _: FrameType | None) -> None:
        if interrupted.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        interrupted.set()

    with handled_by(ask):
        yield interrupted


_Item = TypeVar("_Item")


class Until(Generic[_Item]):
    """Pairs, up to where somebody asks for an end.

    While a large corpus is shuffled no batch comes for a while, and no update.

    Args:
        is_asked: Whether somebody has.
        pairs: Read anew each time it is iterated.

    Raises:
        Interrupted: While iterating.
    """

    def __init__(self, is_asked: Callable[[], bool], pairs: Iterable[_Item]) -> None:
        self._is_asked = is_asked
        self._pairs = pairs

    def __iter__(self) -> Iterator[_Item]:
        for pair in self._pairs:
            if self._is_asked():
                raise Interrupted
            yield pair


class Wish(IntEnum):
    """What a worker may ask the others for; the largest of several is followed."""

    NOTHING = 0
    TIME_IS_UP = 1
    INTERRUPTED = 2

    @property
    def reason(self) -> str:
        """The reason why training ends then; "": it does not."""
        return ("", "time is up", "interrupted")[self]


@dataclass(frozen=True)
class Stop:
    """Ends of a training run that come from outside.

    ``deadline``: a time of ``time.monotonic()``; ``interrupted``: set when somebody
    asks to stop.
    """

    deadline: float
    interrupted: threading.Event

    def wish(self) -> Wish:
        """Returns what this worker asks the others for now."""
        if self.interrupted.is_set():
            return Wish.INTERRUPTED
        is_late = time.monotonic() >= self.deadline
        return Wish.TIME_IS_UP if is_late else Wish.NOTHING
