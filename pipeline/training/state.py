"""The state of a training run, as a value: a checkpoint is this and the variables.

Each step of training is a method that returns the next state; nothing changes in place.
So a state can be kept, to go back to it, and be compared.
"""

import dataclasses
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from pocketseq.pipeline.evaluation import METRICS

logger = logging.getLogger(__name__)

#: Evaluations after which a metric that has never moved is worth a warning.
STUCK_EVALUATIONS = 3

# The arrays of a checkpoint that are not variables.
_POSITIONS, _COUNTERS = "positions", "counters"


class Position(NamedTuple):
    """Where a worker stands in its part of the corpus: an epoch, and a batch in it."""

    epoch: int = 0
    batch: int = 0


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """Where a training run stands.

    The names of the fields are those of the counters in a checkpoint.

    Args:
        positions: The next batch of each worker. Those of other workers are as old as
            the last exchange with them.
        update_number: Updates done.
        best, best_update: The main dev metric of the best evaluation, and after how
            many updates that was; None: not evaluated yet.
        best_rank: The rank to beat; see :meth:`Metric.rank`.
        worse_evaluations: Evaluations since the best one.
        evaluations: All of them.
        metric_has_moved: Whether any evaluation differed from the best one before it.
        evaluated_update: The update of the newest evaluation, -1 where there is none.
        dev: Its result, as :func:`pocketseq.pipeline.evaluation.evaluate` returns it.
        metric: The name of the main dev metric.
    """

    positions: tuple[Position, ...]
    update_number: int = 0
    best: float | None = None
    best_rank: tuple[float, float] | None = None
    best_update: int = 0
    worse_evaluations: int = 0
    evaluations: int = 0
    metric_has_moved: bool = False
    evaluated_update: int = -1
    dev: dict[str, Any] = field(default_factory=dict)
    metric: str

    @classmethod
    def of_start(cls, metric: str, workers: int) -> "TrainingState":
        """Returns the state before the first update."""
        return cls(positions=(Position(),) * workers, metric=metric)

    # Steps of training.

    def updated(self, worker: int, epoch: int) -> "TrainingState":
        """Returns the state after an update on a worker's next batch.

        Args:
            worker: The index of the worker whose position is known.
            epoch: The epoch of the batch: that of the position, or a later one.
        """
        position = self.positions[worker]
        batch = position.batch if epoch == position.epoch else 0
        positions = list(self.positions)
        positions[worker] = Position(epoch, batch + 1)
        return dataclasses.replace(
            self, update_number=self.update_number + 1, positions=tuple(positions)
        )

    def at(self, positions: np.ndarray) -> "TrainingState":
        """Returns the state with the positions of all workers, int ``(workers, 2)``."""
        return dataclasses.replace(self, positions=_as_positions(positions))

    def is_improved_by(self, dev: dict[str, Any]) -> bool:
        """Whether an evaluation is better than the best so far."""
        return self.best_rank is None or METRICS[self.metric].rank(dev) > self.best_rank

    def evaluated(self, dev: dict[str, Any]) -> "TrainingState":
        """Returns the state after an evaluation.

        Args:
            dev: As :func:`pocketseq.pipeline.evaluation.evaluate` returns it.
        """
        rank = METRICS[self.metric].rank(dev)
        moved = self.best_rank is not None and rank[0] != self.best_rank[0]
        state = dataclasses.replace(
            self,
            dev=dev,
            evaluations=self.evaluations + 1,
            evaluated_update=self.update_number,
            metric_has_moved=self.metric_has_moved or moved,
            worse_evaluations=self.worse_evaluations + 1,
        )
        if not self.is_improved_by(dev):
            return state
        return dataclasses.replace(
            state,
            best=dev[self.metric],
            best_rank=rank,
            best_update=self.update_number,
            worse_evaluations=0,
        )

    def without_best(self) -> "TrainingState":
        """Returns the state with a best evaluation still to come, whatever it is."""
        return dataclasses.replace(self, best=None, best_rank=None)

    @property
    def is_evaluated(self) -> bool:
        """Whether the weights of now have been evaluated."""
        return self.evaluated_update == self.update_number

    @property
    def metric_is_stuck(self) -> bool:
        """Whether the main dev metric has never moved: then it chooses nothing."""
        return (
            self.evaluations >= STUCK_EVALUATIONS
            and not self.metric_has_moved
            and self.best is not None
            and not METRICS[self.metric].is_perfect(self.best)
        )

    # To and from a checkpoint.

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Returns the state as arrays of a checkpoint."""
        counters = dataclasses.asdict(self)
        positions = counters.pop(_POSITIONS)
        return {
            _POSITIONS: np.array(positions, np.int64),
            _COUNTERS: np.array(json.dumps(counters)),
        }

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, np.ndarray], target_kind: str
    ) -> "TrainingState":
        """Returns the state that a checkpoint holds.

        Args:
            arrays: All or some arrays of the checkpoint, what :meth:`to_arrays` has
                made among them.
            target_kind: The target tokenizer, which decided in checkpoints from before
                metrics had names.
        """
        saved = json.loads(str(arrays[_COUNTERS]))
        metric = saved.pop("metric", "wer" if target_kind == "word" else "bleu")
        best, rank = saved.get("best"), saved.pop("best_rank", None)
        if best is not None and rank is None:
            # Without the tie-breaker, which older checkpoints lack, a tie is no gain.
            rank = METRICS[metric].goodness(best), float("inf")
        return cls(
            positions=_as_positions(arrays[_POSITIONS]),
            best_rank=None if rank is None else tuple(rank),
            metric=metric,
            **saved,
        )

    @staticmethod
    def is_in(arrays: Mapping[str, np.ndarray]) -> bool:
        """Whether arrays are those of a checkpoint, and not weights alone."""
        return _COUNTERS in arrays

    def judged_by(self, metric: str) -> "TrainingState":
        """Returns the state where ``metric`` chooses the best weights from here on."""
        if metric == self.metric:
            return self
        logger.warning(
            "the best weights so far were chosen by dev %s; from here on %s chooses, "
            "and the next evaluation is its first",
            self.metric, metric,
        )  # fmt: skip
        return dataclasses.replace(
            self.without_best(), metric=metric, worse_evaluations=0
        )

    def for_workers(self, count: int) -> "TrainingState":
        """Returns the state where ``count`` workers share the corpus from here on."""
        if count == len(self.positions):
            return self
        logger.warning(
            "%d workers instead of %d: the epoch begins anew",
            count, len(self.positions),
        )  # fmt: skip
        epoch = max(position.epoch for position in self.positions)
        return dataclasses.replace(self, positions=(Position(epoch),) * count)


def _as_positions(rows: np.ndarray) -> tuple[Position, ...]:
    return tuple(Position(*map(int, row)) for row in rows)
