"""Training: an explicit loop of updates that can stop at any of them and go on.

An update is three functions: the gradients of this worker's batch, their sum over all
workers, and what the sum changes. Only the second knows of other machines, and only the
third changes anything, so that a training can be left between any two updates.
"""

import contextlib
import json
import logging
import signal
import threading
import time
from collections import deque
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from pocketseq.pipeline.data.batches import Batch, Reader, training_batches
from pocketseq.pipeline.errors import Interrupted, TrainingStopped, UserError
from pocketseq.pipeline.evaluation import evaluate, is_perfect, main_rank, rank
from pocketseq.pipeline.machine import batch_parts, native_precision
from pocketseq.pipeline.model import build_model
from pocketseq.pipeline.reports.journal import Journal
from pocketseq.pipeline.runs import (
    DamagedFile,
    assign_arrays,
    read_arrays,
    write_arrays,
)
from pocketseq.pipeline.training.cluster import Alone, WorkerLost, share
from pocketseq.pipeline.training.optimization import learning_rate, smoothed_loss
from pocketseq.pipeline.training.preparation import (
    check_conditions,
    check_unchanged,
    load_setup,
    training_corpora,
)
from pocketseq.pipeline.translator import ModelTranslator

logger = logging.getLogger(__name__)

# Updates between two looks at the loss, for the progress bar and the curves.
_REPORT_EVERY = 10

# A checkpoint is written at each evaluation, and when the last one is this old.
_CHECKPOINT_SECONDS = 60

# Evaluations after which a metric that has never moved is worth a warning.
_STUCK_EVALUATIONS = 3

# What a worker may ask the others for when they consult each other.
_NOTHING, _TIME_IS_UP, _INTERRUPTED = 0, 1, 2


@dataclass(frozen=True)
class Progress:
    """Where a training run stands, for a progress bar."""

    update: int
    updates: int
    loss: float
    tokens_per_second: float
    dev: dict
    metric: str


@dataclass(frozen=True)
class Summary:
    """How a training ended: ``reason``, and the best dev metric and its update."""

    update: int
    best: float | None
    best_update: int
    reason: str
    seconds: float
    metric: str

    def line(self, run):
        """Returns the summary as one line for people."""
        if self.reason == "interrupted":
            return (
                f"interrupted at update {self.update}, nothing is lost; go on with: "
                f"{_resume_command(run)}"
            )
        return (
            f"{run.folder}: best dev {self.metric} {self.best:.2f} at update "
            f"{self.best_update} of {self.update}, {self.seconds / 60:.1f} minutes "
            f"({self.reason})"
        )


def _resume_command(run):
    return f"train --run {run.folder} --resume"


def train(run, *, minutes=None, cluster=None, on_progress=lambda progress: None):
    """Trains a run from its newest checkpoint, or from the start.

    Args:
        run: A :class:`pocketseq.pipeline.runs.Run` that
            :func:`pocketseq.pipeline.training.preparation.start_run` has made. Of
            several workers only the chief needs its folder.
        minutes: Stop after this long; what is done by then is kept.
        cluster: See :mod:`pocketseq.pipeline.training.cluster`; None: this machine
            alone.
        on_progress: Called now and then with a :class:`Progress`.

    Returns:
        :class:`Summary`.

    Raises:
        UserError: The data cannot be used, no checkpoint can be read, one cannot be
            written, or another process trains in the folder.
        TrainingStopped: The loss is not finite any more, or a worker is lost.
    """
    with contextlib.ExitStack() as lock:
        return _train(run, minutes, cluster or Alone(), on_progress, lock)


def _train(run, minutes, cluster, on_progress, lock):
    started = time.monotonic()

    def prepare():
        lock.enter_context(run.locked())
        if run.checkpoint_paths():
            check_unchanged(run)
        check_conditions(run, cluster.size)
        return {}

    share(cluster, prepare)
    setup = load_setup(run, cluster)
    config = setup.config
    shard = (cluster.index, cluster.size)
    train_corpus, dev_corpus = training_corpora(config, shard)
    references = dev_corpus.references() if cluster.is_chief else {}
    source, target = setup.tokenizers
    trainer = Trainer(run, config, (source, target), cluster)
    deadline = started + 60 * minutes if minutes else float("inf")
    with _interruption() as interrupted:
        # From the first checkpoint on, an interrupted training says how to go on.
        trainer.restore()
        _log_setup(trainer, setup, references)
        # Together with others nobody ends alone: all would wait for the missing sum.
        ask = interrupted.is_set if cluster.size == 1 else lambda: False
        problems: list[Exception] = []

        @contextlib.contextmanager
        def batches(epoch, skipped):
            dataset = training_batches(
                _Until(ask, train_corpus), source, target, setup.buckets, config,
                epoch=epoch, on_problem=problems.append,
            )  # fmt: skip
            try:
                with Reader(dataset.skip(skipped)) as reader:
                    yield reader
            except tf.errors.OpError as error:
                raise (problems[0] if problems else error) from None

        reason = trainer.run_until(
            deadline, interrupted, batches, references, on_progress
        )
    return Summary(
        trainer.update_number,
        trainer.best,
        trainer.best_update,
        reason,
        time.monotonic() - started,
        config.metric,
    )


class _Until:
    """Pairs, up to where somebody asks for an end.

    While a large corpus is shuffled no batch comes for a while, and no update.
    """

    def __init__(self, is_asked, pairs):
        self._is_asked = is_asked
        self._pairs = pairs

    def __iter__(self):
        for pair in self._pairs:
            if self._is_asked():
                raise Interrupted
            yield pair


def _log_setup(trainer, setup, references):
    weights = sum(int(np.prod(v.shape)) for v in trainer.model.trainable_weights)
    shapes = ", ".join(
        f"{b.rows}x({b.source_length}+{b.target_length})" for b in setup.buckets
    )
    logger.info(
        "%d pairs, %d dev texts, %d weights", setup.pairs, len(references), weights
    )
    logger.info(
        "products in %s; %d workers; a batch in %d parts side by side",
        trainer.precision, trainer.cluster.size, trainer.parts,
    )  # fmt: skip
    logger.info("batches of rows x (source + target tokens): %s", shapes)


@contextlib.contextmanager
def _interruption():
    """Turns Ctrl-C, and the polite request to end, into a flag.

    So an update is always finished. The second Ctrl-C is an exception again.

    Yields:
        A ``threading.Event`` that is set then.
    """
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted  # signals do not come here
        return

    def ask(number, _):
        if interrupted.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        interrupted.set()

    before = {
        number: signal.signal(number, ask)
        for number in (signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(number) is not signal.SIG_IGN  # as of a job in a script
    }
    try:
        yield interrupted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Trainer:
    """One model in training: its weights, their average, the optimizer, the counters.

    Args:
        run: :class:`Run`, where checkpoints, metrics and the best weights go.
        config: :class:`pocketseq.pipeline.configuration.Config`.
        tokenizers: The source and the target tokenizer.
        cluster: See :mod:`pocketseq.pipeline.training.cluster`; None: this machine
            alone.
    """

    def __init__(self, run, config, tokenizers, cluster=None):
        self.run = run
        self.config = config
        self.cluster = cluster or Alone()
        self.parts = config.training.parts or batch_parts()
        self.precision = config.training.precision
        if self.precision == "auto":
            self.precision = native_precision()
        keras.utils.set_random_seed(config.training.seed)
        self.model = build_model(
            config.model, *map(len, tokenizers), product_dtype=self.precision
        )
        self.optimizer = keras.optimizers.Adam(
            learning_rate(config.training),
            name="adam",  # frozen: it is part of the names in checkpoints
        )
        self.optimizer.build(self.model.trainable_weights)
        self.averages = [
            tf.Variable(weight.value, trainable=False)
            for weight in self.model.trainable_weights
        ]
        source, target = tokenizers
        self.translator = ModelTranslator(self.model, source, target, config)
        self.update_number = 0
        # The (epoch, batch in it) of each worker.
        self.positions = np.zeros((self.cluster.size, 2), int)
        # Where the last few updates left this worker.
        self._trail: deque[tuple[int, int]] = deque()
        self.best: float | None = None
        self.best_rank: tuple[float, float] | None = None
        self.best_update = 0
        self.evaluations = 0
        self.metric_has_moved = False
        self.worse_evaluations = 0
        self.evaluated_update = -1
        self.dev: dict = {}
        # Of the loss and of the target tokens, since the last evaluation.
        self._sums = tf.Variable(tf.zeros([2]), trainable=False)
        # The first update whose gradient was no number; nothing changes from it on.
        self._broken_at = tf.Variable(-1, trainable=False)
        self._gradient_functions = {}
        self._apply = tf.function(self._change, autograph=False)
        self._journal: Journal | None = None

    @property
    def position(self):
        """The epoch, and the batch in it, where this worker stands: int ``(2,)``."""
        return self.positions[self.cluster.index]

    # One update.

    def update(self, batch):
        """Trains on one batch; returns its number of real tokens, a tensor.

        Raises:
            WorkerLost: Before anything has changed.
        """
        gradients = self._gradients_for(batch)(batch, tf.constant(self.update_number))
        *gradients, sums = self.cluster.sum(gradients)
        self._apply(gradients, sums, tf.constant(self.update_number))
        self._trail = self._trail or deque([tuple(self.position)], _REPORT_EVERY + 1)
        self.update_number += 1
        self.position[1] += 1
        self._trail.append(tuple(self.position))
        return sums[2]

    def _gradients_for(self, batch):
        """Returns the gradients compiled for the batch's lengths, any number of rows.

        One graph a bucket: with lengths known, the LSTMs are unrolled.
        """
        key = (batch.source_ids.shape[1], batch.target_ids.shape[1])
        if key not in self._gradient_functions:
            of_part = tf.function(
                self._part_gradients,
                input_signature=[
                    Batch(
                        tf.TensorSpec([None, key[0]], tf.int32),
                        tf.TensorSpec([None], tf.int32),
                        tf.TensorSpec([None, key[1]], tf.int32),
                        tf.TensorSpec([None], tf.int32),
                    ),
                    tf.TensorSpec([2], tf.int32),
                ],
                autograph=False,
            )
            self._gradient_functions[key] = tf.function(
                lambda batch, update: self._gradients(of_part, batch, update),
                autograph=False,
                reduce_retracing=True,
            )
        return self._gradient_functions[key]

    def _gradients(self, of_part, batch, update_number):
        """Returns the gradients of the summed loss, and the sums that go with them.

        The sums, float ``(3,)``: the loss, the target tokens, all tokens.
        """
        seed = tf.stack([self.config.training.seed, update_number])
        seed = tf.random.fold_in(seed, self.cluster.index)
        found = [
            of_part(part, tf.random.fold_in(seed, number))
            for number, part in enumerate(batch.parts(self.parts))
        ]
        return [tf.add_n(parts) for parts in zip(*found, strict=True)]

    def _part_gradients(self, batch, seed):
        weights = self.model.trainable_weights
        with tf.GradientTape() as tape:
            logits, _ = self.model(
                batch.source_ids, batch.source_length, batch.decoder_inputs, seed
            )
            loss = smoothed_loss(
                logits,
                batch.target_ids,
                batch.target_length,
                self.config.training.label_smoothing,
            )
        gradients = tape.gradient(loss, weights)
        source_tokens, target_tokens = (
            tf.cast(tf.reduce_sum(length), tf.float32)
            for length in (batch.source_length, batch.target_length)
        )
        # Embedding gradients come as slices: made dense, they enter the norm rightly.
        gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
        sums = tf.stack([loss, target_tokens, source_tokens + target_tokens])
        return [*gradients, sums]

    def _change(self, gradients, sums, update_number):
        """Takes the step that the summed gradients ask for, if they are numbers."""
        loss, target_tokens, _ = tf.unstack(sums)
        norm = tf.linalg.global_norm(gradients) / target_tokens
        good = tf.math.is_finite(loss) & tf.math.is_finite(norm) & (self._broken_at < 0)
        clip = self.config.training.clip_norm
        factor = clip / (tf.maximum(norm, clip) * target_tokens)

        def change():
            weights = self.model.trainable_weights
            self.optimizer.apply([factor * g for g in gradients], weights)
            # Early in training the average follows closely, else it would stay near
            # the random weights of the start for a thousand updates.
            count = tf.cast(update_number, tf.float32)
            decay = tf.minimum(
                self.config.training.average_decay, (1 + count) / (10 + count)
            )
            for average, weight in zip(self.averages, weights, strict=True):
                average.assign_add((1 - decay) * (weight.value - average))
            self._sums.assign_add(sums[:2])
            return tf.constant(True)

        def keep():
            self._broken_at.assign(
                tf.where(self._broken_at < 0, update_number, self._broken_at)
            )
            return tf.constant(False)

        tf.cond(good, change, keep)

    # The loop.

    def run_until(self, deadline, interrupted, batches, references, on_progress):
        """Trains until all updates are done, the dev metric stalls, or it must stop.

        Args:
            deadline: A time of ``time.monotonic()``.
            interrupted: A ``threading.Event``, set when somebody asks to stop.
            batches: ``(epoch, batches to skip) -> context`` of an iterator over what
                :func:`pocketseq.pipeline.data.batches.training_batches` makes.
            references: ``{source: [targets]}`` of the dev set, for the chief.
            on_progress: Called with a :class:`Progress`.

        Returns:
            Why training ended.

        Raises:
            TrainingStopped, UserError: See :func:`train`.
        """
        if self.cluster.is_chief:
            self._journal = Journal(self.run, self.config, self.update_number)
        clock = _Clock(self.update_number)
        try:
            reason = self._loop(
                deadline, interrupted, batches, references, on_progress, clock
            )
        except Interrupted:  # while evaluating or waiting: nothing has changed
            self.save()
            reason = "interrupted"
        except WorkerLost as error:
            # Nobody to ask any more; the others' positions are a few updates old.
            self._write_checkpoint()
            saved = (
                "what was done is saved"
                if self.cluster.is_chief
                else f"{self.run.folder} on the chief has its last checkpoint"
            )
            raise TrainingStopped(
                f"another worker was lost at update {self.update_number}; {saved}; go "
                f"on with, on all workers: {_resume_command(self.run)}"
            ) from error
        if reason != "interrupted":
            self._warn_of_stuck_metric()
        if self._journal:
            self._journal.close()
        return reason

    def _loop(self, deadline, interrupted, batches, references, on_progress, clock):
        if self._evaluation_is_due():  # of a model to fine-tune, or broken off in it
            self._evaluate_and_save(references, clock, interrupted)
        with batches(*map(int, self.position)) as stream:
            reason = self._updates(
                deadline, interrupted, stream, references, on_progress, clock
            )
        if reason != "interrupted" and self.evaluated_update != self.update_number:
            self._check_numbers()
            self._evaluate_and_save(references, clock, interrupted)
        return reason

    def _updates(self, deadline, interrupted, stream, references, on_progress, clock):
        while not (reason := self._reason_to_stop()):
            if self._is_time_to_consult():
                wish = self._consult(deadline, interrupted, clock)
                if wish == _INTERRUPTED:
                    self.save()
                    return "interrupted"
                if wish == _TIME_IS_UP:
                    return "time is up"
            epoch, batch = next(stream)
            self._enter_epoch(int(epoch[0]))
            clock.tokens += self.update(batch)
            if self.update_number % _REPORT_EVERY == 0:
                self._report(clock, on_progress)
            if self._evaluation_is_due():
                self._check_numbers()
                self._evaluate_and_save(references, clock, interrupted)
        return reason

    def _enter_epoch(self, epoch):
        """Starts counting anew with the first batch of another epoch."""
        if epoch != self.position[0]:
            self.position[:] = epoch, 0

    def _evaluation_is_due(self):
        if self.evaluated_update == self.update_number:
            return False
        if self.update_number == 0:
            return bool(self.config.base)
        return self.update_number % self.config.training.evaluate_every == 0

    def _reason_to_stop(self):
        settings = self.config.training
        if self.update_number >= settings.updates:
            return "all updates done"
        if self.worse_evaluations >= settings.patience:
            return (
                f"no better dev {self.config.metric} in {settings.patience} evaluations"
            )
        return ""

    def _is_time_to_consult(self):
        return self.cluster.size == 1 or self.update_number % _REPORT_EVERY == 0

    def _consult(self, deadline, interrupted, clock):
        """Finds out what any worker wants, and where all stand; saves if it is time."""
        wish = _TIME_IS_UP if time.monotonic() >= deadline else _NOTHING
        wish = _INTERRUPTED if interrupted.is_set() else wish
        is_old = clock.seconds_since_save() >= _CHECKPOINT_SECONDS
        asked = self._gather([wish, is_old and self.cluster.is_chief])
        if asked[:, 1].any():
            self._check_numbers()
            self._write_checkpoint()
            clock.saved()
        return asked[:, 0].max()

    def _gather(self, numbers):
        """Returns everyone's numbers, and takes note of everyone's position."""
        rows = self.cluster.gather([*numbers, *self.position])
        self.positions = np.array(rows[:, -2:])
        return rows[:, :-2]

    def _check_numbers(self):
        """Stops the training if the loss is no number any more.

        Raises:
            TrainingStopped: After saving the weights from before.
        """
        broken_at = int(self._broken_at)
        if broken_at < 0:
            return
        # Batches since then have changed nothing; they are not passed over.
        self.position[:] = self._trail[broken_at - self.update_number - 1]
        self.update_number = broken_at
        self._write_checkpoint()
        rate = (
            f"--set training.learning_rate={self.config.training.learning_rate / 3:.1g}"
        )
        advice = (
            f"the weights from before it are kept; a lower learning rate may help: "
            f"train --from {self.run.folder} {rate}"
            if self.best is not None
            else f"before its first evaluation, so there is nothing to go on from; a "
            f"lower learning rate may help: the same command with {rate} and another "
            f"--run"
        )
        raise TrainingStopped(
            f"{self.run.folder}: the loss is not finite at update {broken_at + 1}; "
            f"{advice}"
        )

    def _report(self, clock, on_progress):
        self._check_numbers()
        progress = Progress(
            self.update_number,
            self.config.training.updates,
            self._mean_loss(),
            clock.tokens_per_second(),
            self.dev,
            self.config.metric,
        )
        on_progress(progress)
        if self._journal:
            self._journal.curve(progress)

    def _mean_loss(self):
        loss, tokens = self._sums.numpy()
        return float(loss) / max(float(tokens), 1.0)

    def _evaluate_and_save(self, references, clock, interrupted):
        """Measures the averaged weights, keeps them if they are the best so far.

        Raises:
            Interrupted: On the way, before anything has changed.
        """
        speed, loss = clock.tokens_per_second(), self._mean_loss()
        best_translations = self._evaluate(references, interrupted)
        better = self._is_best_so_far()
        if self._journal:
            if better:
                with self._averaged_weights():
                    weights = {v.path: v.numpy() for v in self.model.weights}
                write_arrays(self.run.best_path, weights)
            self._journal.evaluation(
                update=self.update_number,
                epoch=int(self.position[0]),
                loss=loss,
                dev=self.dev,
                tokens_per_second=speed,
                learning_rate=float(self.optimizer.learning_rate.numpy()),
                better=better,
                seconds_left=clock.seconds_left(
                    self.update_number, self.config.training.updates
                ),
                pictured=best_translations,
            )
        self._sums.assign(tf.zeros([2]))
        self.evaluated_update = self.update_number
        self.save()
        clock.restart()

    def _is_best_so_far(self):
        """Takes note of an evaluation; returns whether its weights are to be kept."""
        metric, now = self.config.metric, rank(self.dev, self.config.metric)
        self.evaluations += 1
        if self.best_rank is not None:
            self.metric_has_moved |= now[0] != self.best_rank[0]
        better = self.best_rank is None or now > self.best_rank
        if better:
            self.best, self.best_rank = self.dev[metric], now
            self.best_update, self.worse_evaluations = self.update_number, 0
        else:
            self.worse_evaluations += 1
        if self.evaluations == _STUCK_EVALUATIONS:
            self._warn_of_stuck_metric()
        return better

    def _warn_of_stuck_metric(self):
        """Says so if the dev metric never changes: then it chooses nothing."""
        metric = self.config.metric
        stuck = self.evaluations >= _STUCK_EVALUATIONS and not self.metric_has_moved
        if stuck and self.cluster.is_chief and not is_perfect(self.best, metric):
            logger.warning(
                "dev %s has been %.2f at each of %d evaluations: it cannot tell better "
                "weights from worse; another metric may "
                "(--set training.metric=...), or the data are not what the tokenizers "
                "expect",
                metric, self.best, self.evaluations,
            )  # fmt: skip

    def _evaluate(self, references, interrupted):
        """Sets ``dev`` on all workers; returns the chief's first few translations."""

        def go_on():
            if interrupted.is_set() and self.cluster.size == 1:
                raise Interrupted

        first, measured = [], b""
        if self.cluster.is_chief:
            with self._averaged_weights():
                found = self.translator.translate(list(references), before_batch=go_on)
            measured = json.dumps(
                evaluate(
                    list(references.values()),
                    [best.text for (best,) in found],
                    kind=self.translator.target_kind,
                    normalization=self.translator.target_normalization,
                )
            ).encode()
            first = [
                self.translator.token_alignment(best)
                for (best,) in found[: Journal.pictures]
            ]
        self.dev = json.loads(self.cluster.broadcast(measured))
        return first

    def _averaged_weights(self):
        return _Swapped(self.model.trainable_weights, self.averages)

    # Checkpoints.

    def _variables(self):
        """Everything that an update changes, by name."""
        weights = {f"weights/{v.path}": v for v in self.model.weights}
        averages = {
            f"averages/{weight.path}": average
            for weight, average in zip(
                self.model.trainable_weights, self.averages, strict=True
            )
        }
        optimizer = {f"optimizer/{v.path}": v for v in self.optimizer.variables}
        return {**weights, **averages, **optimizer, "loss": self._sums}

    _COUNTERS = (
        "update_number", "best", "best_rank", "best_update", "worse_evaluations",
        "evaluations", "metric_has_moved", "evaluated_update", "dev",
    )  # fmt: skip

    def save(self):
        """Writes a checkpoint from which :meth:`restore` goes on exactly.

        To be called on all workers: each tells the chief where it stands.
        """
        self._gather([])
        self._write_checkpoint()

    def _write_checkpoint(self):
        if not self.cluster.is_chief:
            return
        counters = {name: getattr(self, name) for name in self._COUNTERS}
        counters["metric"] = self.config.metric
        arrays = {name: v.numpy() for name, v in self._variables().items()}
        arrays["positions"] = self.positions
        arrays["counters"] = np.array(json.dumps(counters))
        self.run.save_checkpoint(self.update_number, arrays)

    def restore(self):
        """Goes back to the newest whole checkpoint, or to the weights to start from."""

        def read():
            checkpoint = self.run.load_checkpoint()
            if checkpoint is None:
                self._refuse_to_start_over()
                if self.run.initial_path.is_file():
                    return read_arrays(self.run.initial_path)
            return checkpoint or {}

        arrays = share(self.cluster, read)
        if "counters" in arrays:
            self._go_back_to(arrays)
            logger.info("resumed at update %d", self.update_number)
        elif arrays:
            weights = {weight.path: weight for weight in self.model.weights}
            assign_arrays(weights, arrays, self.run.initial_path)
            for average, weight in zip(
                self.averages, self.model.trainable_weights, strict=True
            ):
                average.assign(weight.value)
            logger.info("started from the weights of %s", self.config.base)
        elif self.cluster.size > 1:  # the same seed, but let nobody differ by a bit
            names = self._variables()
            for name, value in share(
                self.cluster, lambda: {n: v.numpy() for n, v in names.items()}
            ).items():
                names[name].assign(value)
        if "counters" not in arrays:
            # So a run without a checkpoint is one that has lost them.
            self._write_checkpoint()

    def _refuse_to_start_over(self):
        """Keeps what a run has reached from being overwritten by its own beginning.

        Raises:
            UserError: There is no checkpoint, but what comes of training.
        """
        kept = [p for p in (self.run.best_path, self.run.metrics_path) if p.is_file()]
        if kept:
            names = " and ".join(path.name for path in kept)
            raise UserError(
                f"{self.run.folder}: no checkpoint to go on from, but {names} from an "
                f"earlier training run, which starting over would overwrite; expected "
                f"its checkpoints folder, or another --run (--from {self.run.folder} "
                f"starts that from the best weights here)"
            )

    def _go_back_to(self, arrays):
        for name, variable in self._variables().items():
            variable.assign(arrays[name])
        self._restore_counters(json.loads(str(arrays["counters"])))
        positions = arrays["positions"]
        if len(positions) == self.cluster.size:
            self.positions = np.array(positions)
        else:
            logger.warning(
                "%d workers instead of %d: the epoch begins anew",
                self.cluster.size, len(positions),
            )  # fmt: skip
            self.positions[:, 0] = positions[:, 0].max()
        if self.cluster.is_chief:
            self.run.cut_metrics(self.evaluated_update)
        self._drop_damaged_best()

    def _restore_counters(self, counters):
        # Checkpoints from before metrics had names: WER for words, else BLEU.
        by_kind = "wer" if self.config.target.tokenizer == "word" else "bleu"
        metric = counters.pop("metric", by_kind)
        for name, value in counters.items():
            setattr(self, name, value)
        if metric != self.config.metric:
            logger.warning(
                "the best weights so far were chosen by dev %s; from here on %s "
                "chooses, and the next evaluation is its first",
                metric, self.config.metric,
            )  # fmt: skip
            self.best = self.best_rank = None
            self.worse_evaluations = 0
        elif self.best is not None:
            # Without the tie-breaker, which older checkpoints lack, a tie is no gain.
            found = counters.get(
                "best_rank", (main_rank(self.best, metric), float("inf"))
            )
            self.best_rank = tuple(found)

    def _drop_damaged_best(self):
        """Lets the next evaluation write ``best.npz`` anew if it cannot be read."""
        if not (self.cluster.is_chief and self.run.best_path.is_file()):
            return
        try:
            read_arrays(self.run.best_path)
        except DamagedFile as error:
            logger.warning("%s; the next evaluation writes it anew", error)
            self.best = self.best_rank = None
            self.evaluated_update = -1


class _Swapped:
    """Inside the context, variables have other values; afterwards, their own again."""

    def __init__(self, variables, values):
        self.variables = variables
        self.values = values

    def __enter__(self):
        self.own = [variable.numpy() for variable in self.variables]
        for variable, value in zip(self.variables, self.values, strict=True):
            variable.assign(value.numpy())

    def __exit__(self, *_):
        for variable, value in zip(self.variables, self.own, strict=True):
            variable.assign(value)


class _Clock:
    """Counts real tokens against the time spent on updates."""

    def __init__(self, update):
        self._begun = time.monotonic()
        self._first_update = update
        self.saved()
        self.restart()

    def restart(self):
        self.tokens = tf.zeros([])
        self._started = time.monotonic()

    def tokens_per_second(self):
        return float(self.tokens) / max(time.monotonic() - self._started, 1e-9)

    def seconds_left(self, update, updates):
        """Returns how long the rest takes at the speed so far, evaluations included."""
        done = update - self._first_update
        return (time.monotonic() - self._begun) * (updates - update) / max(done, 1)

    def saved(self):
        self._saved = time.monotonic()

    def seconds_since_save(self):
        return time.monotonic() - self._saved
