"""Training: an explicit loop of updates that can stop between any two and go on."""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from pocketseq.pipeline.configuration import Config, TrainingConfig
from pocketseq.pipeline.data.batches import (
    Batch,
    LabelledPair,
    Reader,
    training_batches,
)
from pocketseq.pipeline.data.corpora import Pair, training_corpora
from pocketseq.pipeline.errors import Interrupted, TrainingStopped
from pocketseq.pipeline.reports.journal import Journal
from pocketseq.pipeline.runs import Run
from pocketseq.pipeline.training.checkpoints import restore, write_checkpoint
from pocketseq.pipeline.training.cluster import Alone, WorkerLost, Workers, share
from pocketseq.pipeline.training.distillation import choices_of, write_labels
from pocketseq.pipeline.training.evaluator import Evaluator
from pocketseq.pipeline.training.interruption import Stop, Until, Wish, interruption
from pocketseq.pipeline.training.optimization import Loss, distillation_loss
from pocketseq.pipeline.training.preparation import (
    Setup,
    check_conditions,
    check_unchanged,
    load_setup,
)
from pocketseq.pipeline.training.progress import Clock, Progress
from pocketseq.pipeline.training.rewind import Rewind
from pocketseq.pipeline.training.state import Position, TrainingState
from pocketseq.pipeline.training.updater import Updater, new_updater

logger = logging.getLogger(__name__)

# Updates between two looks at the loss, for the progress bar, the curves, and whether
# it is finite.
_REPORT_EVERY = 10

# A checkpoint is written at each evaluation, and when the last one is this old.
_CHECKPOINT_SECONDS = 60

# From a position of this worker to a context of an iterator over batches.
_BatchesFrom = Callable[[Position], AbstractContextManager[Reader]]


@dataclass(frozen=True)
class Summary:
    """How a training run ended: the reason, the best dev metric and its update.

    ``seconds``: how long it took, of wall-clock time.
    """

    update: int
    best: float | None
    best_update: int
    reason: str
    seconds: float
    metric: str
    run: Run
    is_chief: bool

    def line(self) -> str:
        """Returns the summary as one line for people."""
        if self.reason == Wish.INTERRUPTED.reason:
            return (
                f"interrupted at update {self.update}, nothing is lost; go on with: "
                f"{_resume_command(self.run)}"
            )
        return (
            f"{self.run.folder}: best dev {self.metric} {self.best:.2f} at update "
            f"{self.best_update} of {self.update}, {self.seconds / 60:.1f} minutes "
            f"({self.reason})"
        )


def _resume_command(run: Run) -> str:
    return f"train --run {run.folder} --resume"


def train(
    run: Run,
    *,
    minutes: float | None = None,
    cluster: Workers | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    loss: Loss | None = None,
) -> Summary:
    """Trains a run from its newest checkpoint, or from the start.

    Args:
        run: One that :func:`pocketseq.pipeline.training.preparation.start_run` has
            made. Of several workers only the chief needs its folder.
        minutes: Stop after this long; what is done by then is kept.
        cluster: The workers that train together; None: this machine alone.
        on_progress: Called every few updates.
        loss: The function to minimise; None: cross entropy against smoothed targets.

    Raises:
        UserError: The data cannot be used, no checkpoint can be read, one cannot be
            written, or another process trains in the folder.
        TrainingStopped: The loss is not finite any more, or a worker is lost.
    """
    started = time.monotonic()
    deadline = started + 60 * minutes if minutes else math.inf
    cluster = cluster or Alone()
    with contextlib.ExitStack() as lock:
        setup = _open(run, cluster, lock)
        shard = (cluster.index, cluster.size)
        train_corpus, dev_corpus = training_corpora(setup.config, shard)
        references = dev_corpus.references() if cluster.is_chief else {}
        config = setup.config
        if config.distillation.teachers and loss is None:
            loss = distillation_loss(config.training, config.distillation.share)
        updater = new_updater(config, setup.tokenizers, cluster=cluster, loss=loss)
        with interruption() as interrupted:
            # From the first checkpoint on, an interrupted run says how to go on.
            state = restore(run, setup.config, updater, cluster)
            _log_setup(setup, updater, cluster, references)
            # Nobody ends alone: all others would wait for the missing sum.
            ask = interrupted.is_set if cluster.size == 1 else lambda: False

            def pairs() -> Iterable[Pair | LabelledPair]:
                if not config.distillation.teachers:
                    return train_corpus
                return write_labels(run, config, train_corpus, ask)

            update = state.update_number
            journal = Journal(run, setup.config, update) if cluster.is_chief else None
            loop = _Loop(
                run, setup.config, cluster, updater, state,
                Evaluator(run, setup, updater, cluster, references, journal, ask),
                Stop(deadline, interrupted), Clock(update), journal, on_progress,
            )  # fmt: skip
            reason = loop.run(
                lambda position: _batches(Until(ask, pairs()), setup, position)
            )
    state = loop.state
    return Summary(
        state.update_number, state.best, state.best_update, reason,
        time.monotonic() - started, state.metric, run, cluster.is_chief,
    )  # fmt: skip


def _open(run: Run, cluster: Workers, lock: contextlib.ExitStack) -> Setup:
    """Returns what a run folder says, which is this process' until ``lock`` ends."""

    def prepare() -> dict[str, np.ndarray]:
        lock.enter_context(run.locked())
        if run.checkpoint_paths():
            check_unchanged(run)
        check_conditions(run, cluster.size)
        return {}

    share(cluster, prepare)
    return load_setup(run, cluster)


@contextlib.contextmanager
def _batches(pairs: Until, setup: Setup, position: Position) -> Iterator[Reader]:
    """Yields an iterator over the training batches of a worker, from a position on."""
    problems: list[Exception] = []
    dataset = training_batches(
        pairs, *setup.tokenizers, setup.buckets, setup.config,
        epoch=position.epoch, choices=choices_of(setup.config, setup.tokenizers[1]),
        on_problem=problems.append,
    )  # fmt: skip
    try:
        with Reader(dataset.skip(position.batch)) as reader:
            yield reader
    except tf.errors.OpError as error:
        raise (problems[0] if problems else error) from None


def _log_setup(
    setup: Setup, updater: Updater, cluster: Workers, references: dict[str, list[str]]
) -> None:
    weights = sum(int(np.prod(v.shape)) for v in updater.model.trainable_weights)
    shapes = ", ".join(
        f"{b.rows}x({b.source_length}+{b.target_length})" for b in setup.buckets
    )
    logger.info(
        "%d pairs, %d dev texts, %d weights", setup.pairs, len(references), weights
    )
    logger.info(
        "products in %s; %d workers; a batch in %d parts side by side",
        updater.precision, cluster.size, updater.parts,
    )  # fmt: skip
    logger.info("batches of rows x (source + target tokens): %s", shapes)


class _Loop:
    """Updates, evaluations and checkpoints, one after the other.

    All workers run it alike: they decide by what all of them know. ``state`` says where
    training stands; every update and evaluation replaces it.
    """

    def __init__(
        self, run: Run, config: Config, cluster: Workers, updater: Updater,
        state: TrainingState, evaluator: Evaluator, stop: Stop, clock: Clock,
        journal: Journal | None, on_progress: Callable[[Progress], None],
    ) -> None:  # fmt: skip
        self.state = state
        self._run = run
        self._settings = config.training
        self._starts_trained = bool(config.base)
        self._cluster = cluster
        self._updater = updater
        self._evaluator = evaluator
        self._stop = stop
        self._clock = clock
        self._journal = journal
        self._on_progress = on_progress
        self._rewind = Rewind(_REPORT_EVERY)

    def run(self, batches_from: _BatchesFrom) -> str:
        """Trains until all updates are done, the dev metric stalls, or it must stop.

        Returns:
            Why training ended.

        Raises:
            TrainingStopped, UserError: See :func:`train`.
        """
        try:
            reason = self._updates_and_evaluations(batches_from)
        except Interrupted:  # while evaluating or waiting: nothing has changed
            self._save()
            reason = Wish.INTERRUPTED.reason
        except WorkerLost as error:
            # Nobody to ask any more; the others' positions are a few updates old.
            self._write_checkpoint()
            raise TrainingStopped(
                _worker_lost(self._run, self._cluster, self.state)
            ) from error
        if reason != Wish.INTERRUPTED.reason:
            self._evaluator.warn_of_stuck_metric(self.state)
        if self._journal:
            self._journal.close()
        return reason

    def _updates_and_evaluations(self, batches_from: _BatchesFrom) -> str:
        if self._evaluation_is_due():  # of a model to fine-tune, or broken off in it
            self._evaluate()
        with batches_from(self.state.positions[self._cluster.index]) as batches:
            while not (reason := self._reason_to_stop()):
                self._update(*next(batches))
                if self._evaluation_is_due():
                    self._evaluate()
        if reason == Wish.INTERRUPTED.reason:
            self._save()
        elif not self.state.is_evaluated or self.state.best is None:
            self._evaluate()
        return reason

    def _reason_to_stop(self) -> str:
        """Returns why training ends here, "" where it does not."""
        patience = self._settings.patience
        if self.state.update_number >= self._settings.updates:
            return "all updates done"
        if self.state.worse_evaluations >= patience:
            return f"no better dev {self.state.metric} in {patience} evaluations"
        return self._consult().reason

    def _consult(self) -> Wish:
        """Finds out what any worker wants, and where all stand; saves if it is time."""
        if self._cluster.size > 1 and self.state.update_number % _REPORT_EVERY:
            return Wish.NOTHING
        is_old = self._clock.seconds_since_save() >= _CHECKPOINT_SECONDS
        asked = self._gather(self._stop.wish(), is_old and self._cluster.is_chief)
        if asked[:, 1].any():
            self._stop_unless_finite()
            self._write_checkpoint()
            self._clock.saved()
        return Wish(asked[:, 0].max())

    def _update(self, epoch: tf.Tensor, batch: Batch) -> None:
        self._rewind.note(self.state)
        self._clock.count(self._updater.update(batch, self.state.update_number))
        self.state = self.state.updated(self._cluster.index, int(epoch[0]))
        if self.state.update_number % _REPORT_EVERY == 0:
            self._stop_unless_finite()
            progress = Progress(
                self.state.update_number, self._settings.updates,
                self._updater.mean_loss(), self._clock.tokens_per_second(),
                self.state.dev, self.state.metric,
            )  # fmt: skip
            self._on_progress(progress)
            if self._journal:
                self._journal.curve(progress)

    def _evaluation_is_due(self) -> bool:
        if self.state.is_evaluated:
            return False
        if self.state.update_number == 0:
            return self._starts_trained
        return self.state.update_number % self._settings.evaluate_every == 0

    def _evaluate(self) -> None:
        self._stop_unless_finite()
        self.state = self._evaluator.evaluate(self.state, self._clock)
        self._save()
        self._clock.restart()

    def _stop_unless_finite(self) -> None:
        """Goes back to the state from before a loss that is not finite, and saves it.

        Raises:
            TrainingStopped: Then.
        """
        broken_at = self._updater.broken_at
        if broken_at is not None:
            # Batches since then have changed nothing; they are not passed over.
            self.state = self._rewind.before(broken_at)
            self._write_checkpoint()
            raise TrainingStopped(_not_finite(self._run, self._settings, self.state))

    def _save(self) -> None:
        """Writes a checkpoint on the chief, whom all workers tell where they stand."""
        self._stop_unless_finite()
        self._gather()
        self._write_checkpoint()

    def _gather(self, *numbers: int) -> np.ndarray:
        """Returns everyone's numbers, and takes note of everyone's position."""
        position = self.state.positions[self._cluster.index]
        rows = self._cluster.gather([*numbers, *position])
        self.state = self.state.at(rows[:, len(numbers) :])
        return rows[:, : len(numbers)]

    def _write_checkpoint(self) -> None:
        if self._cluster.is_chief:
            write_checkpoint(self._run, self._updater, self.state)


def _worker_lost(run: Run, cluster: Workers, state: TrainingState) -> str:
    """Returns what to say when a worker is lost."""
    saved = (
        "what was done is saved"
        if cluster.is_chief
        else f"{run.folder} on the chief has its last checkpoint"
    )
    return (
        f"another worker was lost at update {state.update_number}; {saved}; go on "
        f"with, on all workers: {_resume_command(run)}"
    )


def _not_finite(run: Run, settings: TrainingConfig, state: TrainingState) -> str:
    """Returns what to say when the loss of the update after a state is not finite."""
    setting = f"--set training.learning_rate={settings.learning_rate / 3:.1g}"
    advice = (
        f"the weights from before it are kept; a lower learning rate may help: train "
        f"--from {run.folder} {setting}"
        if state.best is not None
        else f"before its first evaluation, so there is nothing to go on from; a lower "
        f"learning rate may help: the same command with {setting} and another --run"
    )
    return (
        f"{run.folder}: the loss is not finite at update {state.update_number + 1}; "
        f"{advice}"
    )
