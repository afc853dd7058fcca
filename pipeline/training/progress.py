"""Progress of a training run: where it stands, and how fast it goes."""

import time
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Progress:
    """Where a training run stands, for a progress bar.

    Args:
        update: Updates done.
        updates: All of them.
        loss: In nats per target token, mean since the last evaluation.
        tokens_per_second: Real source and target tokens, since the last evaluation.
        dev: What the last evaluation has measured; empty before the first.
        metric: The name of the main dev metric.
    """

    update: int
    updates: int
    loss: float
    tokens_per_second: float
    dev: dict[str, Any]
    metric: str


class Clock:
    """Counts real tokens against the time spent on updates.

    Args:
        update: The number of updates already done.
    """

    def __init__(self, update: int) -> None:
        self._begun = time.monotonic()
        self._first_update = update
        self.saved()
        self.restart()

    def restart(self) -> None:
        """Starts counting anew, after an evaluation."""
        self._tokens: Any = 0.0
        self._started = time.monotonic()

    def count(self, tokens: Any) -> None:
        """Counts the tokens of an update.

        Args:
            tokens: A number, or a float scalar tensor, which is not waited for.
        """
        self._tokens += tokens

    def tokens_per_second(self) -> float:
        """Returns the speed since the last restart."""
        return float(self._tokens) / max(time.monotonic() - self._started, 1e-9)

    def seconds_left(self, update: int, updates: int) -> float:
        """Returns how long the rest takes at the speed so far, evaluations included."""
        done = update - self._first_update
        return (time.monotonic() - self._begun) * (updates - update) / max(done, 1)

    def saved(self) -> None:
        """Takes note that a checkpoint was written."""
        self._saved = time.monotonic()

    def seconds_since_save(self) -> float:
        """Returns how old the newest checkpoint is."""
        return time.monotonic() - self._saved
