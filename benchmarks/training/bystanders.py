"""Other programs on the machine: how much of it they take, and waiting for them."""

import math
import os
import time
from pathlib import Path
from typing import Self

from common import say
from training.work import Measurement
from training.workers import Worker

# What is measured while other programs take this share of all cores is measured again.
_DISTURBANCE_LIMIT = 0.05
_ATTEMPTS = 3

# How long to wait for other programs before that, in looks of two seconds.
_LOOKS = 60

_STATISTICS = Path("/proc/stat")


def measured_alone(worker: Worker, seconds: float) -> tuple[Measurement, float]:
    """Measures a contender; again while other programs disturb, a few times at most.

    Returns:
        The least disturbed :class:`Measurement`, and the share of all cores that other
        programs took meanwhile, from 0 to 1; NaN where unknown.
    """
    attempts: list[tuple[float, Measurement]] = []
    while len(attempts) < _ATTEMPTS:
        with Bystanders() as others:
            measurement = worker.ask("measure", seconds)
        share = others.share(worker.processor_seconds)
        say(
            f"{worker.name}: {measurement.tokens_per_second:.0f} tokens/s, "
            f"others took {share:.0%} of the machine"
        )
        attempts.append((share, measurement))
        if not share >= _DISTURBANCE_LIMIT:
            break
        wait_for_others()
    share, measurement = min(attempts)
    return measurement, share


def wait_for_others() -> None:
    """Waits until other programs take little of the machine, but not for ever."""
    for _ in range(_LOOKS):
        with Bystanders() as others:
            time.sleep(2)
        if not others.share(0.0) >= _DISTURBANCE_LIMIT:
            return


class Bystanders:
    """The other programs while this context is entered."""

    def __enter__(self) -> Self:
        self._started, self._busy = time.perf_counter(), busy_seconds()
        return self

    def __exit__(self, *_: object) -> None:
        self._seconds = time.perf_counter() - self._started
        self._busy = busy_seconds() - self._busy

    def share(self, own_seconds: float) -> float:
        """Returns the share of all cores that others took; NaN where unknown.

        Args:
            own_seconds: The processor time that was ours.
        """
        return (self._busy - own_seconds) / self._seconds / (os.cpu_count() or 1)


def busy_seconds() -> float:
    """Returns how long all cores together have worked so far; NaN where unknown."""
    if not _STATISTICS.is_file():
        return math.nan
    return busy_ticks(_STATISTICS.read_text()) / os.sysconf("SC_CLK_TCK")


def busy_ticks(statistics: str) -> int:
    """Returns how long all cores have worked, from Linux's ``/proc/stat``.

    Time that a hypervisor has taken away counts as work.
    """
    all_cores = statistics.partition("\n")[0].split()
    # user, nice, system, idle, iowait, irq, softirq, steal; what follows is in them.
    ticks = list(map(int, all_cores[1:9]))
    return sum(ticks) - ticks[3] - ticks[4]
