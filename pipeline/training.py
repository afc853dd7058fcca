"""Training: an explicit loop of updates that can stop at any of them and go on.

The loop runs under any ``tf.distribute`` strategy (Keras ``fit`` does not): each
replica computes the loss of its part of a batch, divided by the token count of the
whole batch, and the sum of the gradients makes the update.
"""

import json
import logging
import time
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from pocketseq.pipeline.batches import (
    choose_buckets,
    fits,
    measure_lengths,
    training_batches,
)
from pocketseq.pipeline.corpora import Corpus
from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.evaluation import evaluate
from pocketseq.pipeline.model import build_model
from pocketseq.pipeline.normalization import Normalization
from pocketseq.pipeline.runs import read_arrays, write_arrays, write_atomically
from pocketseq.pipeline.tokenizers import TOKENIZERS
from pocketseq.pipeline.translator import ModelTranslator

logger = logging.getLogger(__name__)

# Updates between two looks at the loss for the progress bar.
_REPORT_EVERY = 10


@dataclass(frozen=True)
class Progress:
    """Where a training stands, for a progress bar."""

    update: int
    updates: int
    loss: float
    tokens_per_second: float
    dev: dict


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
                f"train --run {run.folder} --resume"
            )
        return (
            f"{run.folder}: best dev {self.metric} {self.best:.2f} at update "
            f"{self.best_update} of {self.update}, {self.seconds / 60:.1f} minutes "
            f"({self.reason})"
        )


def training_corpora(config):
    """Returns the training and the dev :class:`Corpus` of a configuration."""
    data = config.data
    skip = {"skip_bad_lines": data.skip_bad_lines}
    train = (data.train, data.train_target or None)
    if data.dev:
        dev = Corpus(data.dev, data.dev_target or None, **skip)
        return Corpus(*train, **skip), dev
    return (
        Corpus(*train, **skip, part=("train", data.dev_share)),
        Corpus(*train, **skip, part=("dev", data.dev_share)),
    )


def start_run(run, config):
    """Makes a run folder: configuration, and tokenizers learned from the corpus.

    Raises:
        UserError: No training data is named, or it has broken lines.
    """
    if not config.data.train:
        raise UserError("data.train is empty: expected a corpus (--train FILE)")
    train, dev = training_corpora(config)
    train.check()
    dev.check()
    tokenizers = {
        side: _learn((getattr(pair, side) for pair in train), getattr(config, side))
        for side in ("source", "target")
    }
    if not any(fits(pair, *tokenizers.values()) for pair in train):
        measure_lengths(train, *tokenizers.values())  # says what is wrong
    run.folder.mkdir(parents=True, exist_ok=True)
    for side, tokenizer in tokenizers.items():
        write_atomically(run.tokenizer_path(side), tokenizer.to_json().encode())
    # Last, because the configuration is what makes a folder a run.
    write_atomically(run.config_path, config.to_toml().encode())


def _learn(texts, side):
    normalization = Normalization(side.fold_case, side.decompose)
    return TOKENIZERS[side.tokenizer].learn(
        texts,
        normalization,
        max_code_points=side.max_code_points,
        minimum_count=side.minimum_count,
        vocabulary_size=side.vocabulary_size,
    )


def train(run, *, minutes=None, strategy=None, on_progress=lambda progress: None):
    """Trains a run from its newest checkpoint, or from the start.

    Args:
        run: A :class:`Run` that :func:`start_run` has made.
        minutes: Stop after this long; what is done by then is kept.
        strategy: A ``tf.distribute`` strategy; None: this machine's CPU or GPU.
        on_progress: Called now and then with a :class:`Progress`.

    Returns:
        :class:`Summary`.

    Raises:
        UserError: The data cannot be used, or the last checkpoint cannot be read.
    """
    started = time.monotonic()
    config = run.config()
    train_corpus, dev_corpus = training_corpora(config)
    references = dev_corpus.references()
    tokenizers = run.load_tokenizers()
    statistics = measure_lengths(train_corpus, *tokenizers)
    buckets = choose_buckets(
        statistics,
        batch_tokens=config.training.batch_tokens,
        most=config.training.buckets,
    )
    trainer = Trainer(run, config, tokenizers, strategy or tf.distribute.get_strategy())
    trainer.restore()
    _log_setup(trainer, statistics, buckets, references)

    def batches(epoch):
        source, target = tokenizers
        return training_batches(
            train_corpus, source, target, buckets, config, epoch=epoch
        )

    deadline = started + 60 * minutes if minutes else float("inf")
    reason = trainer.run_until(deadline, batches, references, on_progress)
    return Summary(
        trainer.update_number,
        trainer.best,
        trainer.best_update,
        reason,
        time.monotonic() - started,
        config.metric,
    )


def _log_setup(trainer, statistics, buckets, references):
    weights = sum(int(np.prod(v.shape)) for v in trainer.model.trainable_weights)
    shapes = ", ".join(
        f"{b.rows}x({b.source_length}+{b.target_length})" for b in buckets
    )
    logger.info(
        "%d pairs, %d dev texts, %d weights", statistics.pairs, len(references), weights
    )
    logger.info("batches of rows x (source + target tokens): %s", shapes)


class Trainer:
    """One model in training: its weights, their average, the optimizer, the counters.

    Args:
        run: :class:`Run`, where checkpoints, metrics and the best weights go.
        config: :class:`pocketseq.pipeline.configuration.Config`.
        tokenizers: The source and the target tokenizer.
        strategy: A ``tf.distribute`` strategy.
    """

    def __init__(self, run, config, tokenizers, strategy):
        self.run = run
        self.config = config
        self.strategy = strategy
        keras.utils.set_random_seed(config.training.seed)
        with strategy.scope():
            self.model = build_model(config.model, *map(len, tokenizers))
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
        self.epoch = 0
        self.batch_in_epoch = 0
        self.best: float | None = None
        self.best_update = 0
        self.worse_evaluations = 0
        self.evaluated_update = 0
        self.dev: dict = {}
        self._loss_sum = tf.zeros([])
        self._loss_tokens = tf.zeros([])
        self._steps = {}

    # One update.

    def update(self, batch):
        """Trains on one batch; returns its number of real tokens, a tensor."""
        step = self._step_for(batch)
        loss_sum, target_tokens, tokens = step(batch, tf.constant(self.update_number))
        self.update_number += 1
        self._loss_sum += loss_sum
        self._loss_tokens += target_tokens
        return tokens

    def _step_for(self, batch):
        """Returns the update compiled for the batch's shape, with any number of rows.

        One graph a bucket: with lengths known, the LSTMs are unrolled.
        """
        first = self.strategy.experimental_local_results(batch)[0]
        key = (first.source_ids.shape[1], first.target_ids.shape[1])
        if key not in self._steps:
            signature = None
            if self.strategy.num_replicas_in_sync == 1:
                rows = [
                    tf.TensorSpec([None, *part.shape[1:]], part.dtype) for part in first
                ]
                signature = [type(first)(*rows), tf.TensorSpec([], tf.int32)]
            self._steps[key] = tf.function(
                self._update, input_signature=signature, autograph=False,
                reduce_retracing=True,
            )  # fmt: skip
        return self._steps[key]

    def _update(self, batch, update_number):
        results = self.strategy.run(self._replica_update, (batch, update_number))
        # Early in training the average follows closely, else it would stay near the
        # random weights of the start for a thousand updates.
        count = tf.cast(update_number, tf.float32)
        decay = tf.minimum(
            self.config.training.average_decay, (1 + count) / (10 + count)
        )
        for average, weight in zip(
            self.averages, self.model.trainable_weights, strict=True
        ):
            average.assign_add((1 - decay) * (weight.value - average))
        return [
            self.strategy.reduce(tf.distribute.ReduceOp.SUM, result, axis=None)
            for result in results
        ]

    def _replica_update(self, batch, update_number):
        replica = tf.distribute.get_replica_context()
        seed = tf.stack([self.config.training.seed, update_number])
        seed = tf.random.fold_in(seed, replica.replica_id_in_sync_group)
        target_tokens = tf.cast(tf.reduce_sum(batch.target_length), tf.float32)
        all_tokens = replica.all_reduce(tf.distribute.ReduceOp.SUM, target_tokens)
        with tf.GradientTape() as tape:
            logits, _ = self.model(
                batch.source_ids, batch.source_length, batch.decoder_inputs, seed
            )
            loss_sum = smoothed_loss(
                logits,
                batch.target_ids,
                batch.target_length,
                self.config.training.label_smoothing,
            )
            loss = loss_sum / all_tokens
        weights = self.model.trainable_weights
        # Embedding gradients come as slices: made dense, they enter the norm rightly.
        gradients = [tf.convert_to_tensor(g) for g in tape.gradient(loss, weights)]
        # Summed before they are clipped, so that any number of replicas does the same.
        gradients = replica.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        gradients, _ = tf.clip_by_global_norm(gradients, self.config.training.clip_norm)
        # Keras sums once more, over replicas that all hold this sum already.
        gradients = [g / replica.num_replicas_in_sync for g in gradients]
        self.optimizer.apply(gradients, weights)
        source_tokens = tf.cast(tf.reduce_sum(batch.source_length), tf.float32)
        return loss_sum, target_tokens, source_tokens + target_tokens

    # The loop.

    def run_until(self, deadline, batches, references, on_progress):
        """Trains until all updates are done, the dev metric stalls, or the deadline.

        Args:
            deadline: A time of ``time.monotonic()``.
            batches: ``epoch -> Dataset`` of that epoch and all that follow, as
                :func:`pocketseq.pipeline.batches.training_batches` makes it.
            references: ``{source: [targets]}`` of the dev set.
            on_progress: Called with a :class:`Progress`.

        Returns:
            Why training ended.
        """
        clock = _Clock()
        try:
            if self._evaluation_is_due():  # interrupted in the middle of one
                self._evaluate_and_save(references, clock)
            dataset = batches(self.epoch).skip(self.batch_in_epoch)
            distributed = iter(self.strategy.experimental_distribute_dataset(dataset))
            while not (reason := self._reason_to_stop(deadline)):
                epoch, batch = next(distributed)
                self._enter_epoch(epoch)
                clock.tokens += self.update(batch)
                self.batch_in_epoch += 1
                if self.update_number % _REPORT_EVERY == 0:
                    on_progress(self._progress(clock))
                if self._evaluation_is_due():
                    self._evaluate_and_save(references, clock)
        except KeyboardInterrupt:
            self.save()
            return "interrupted"
        if self.evaluated_update != self.update_number or self.best is None:
            self._evaluate_and_save(references, clock)
        return reason

    def _enter_epoch(self, epoch):
        """Starts counting anew with the first batch of another epoch."""
        number = int(self.strategy.experimental_local_results(epoch)[0][0])
        if number != self.epoch:
            self.epoch, self.batch_in_epoch = number, 0

    def _evaluation_is_due(self):
        on_time = self.update_number % self.config.training.evaluate_every == 0
        return on_time and self.evaluated_update != self.update_number

    def _reason_to_stop(self, deadline):
        settings = self.config.training
        if self.update_number >= settings.updates:
            return "all updates done"
        if self.worse_evaluations >= settings.patience:
            return (
                f"no better dev {self.config.metric} in {settings.patience} evaluations"
            )
        if time.monotonic() >= deadline:
            return "time is up"
        return ""

    def _progress(self, clock):
        return Progress(
            self.update_number,
            self.config.training.updates,
            self._mean_loss(),
            clock.tokens_per_second(),
            self.dev,
        )

    def _mean_loss(self):
        return float(self._loss_sum) / max(float(self._loss_tokens), 1.0)

    def _evaluate_and_save(self, references, clock):
        """Measures the averaged weights, keeps them if they are the best so far."""
        speed = clock.tokens_per_second()
        loss = self._mean_loss()
        self.dev = self._evaluate(references)
        metric = self.config.metric
        value = self.dev[metric]
        better = self.best is None or (
            value < self.best if metric == "wer" else value > self.best
        )
        if better:
            self.best, self.best_update = value, self.update_number
            self.worse_evaluations = 0
            with self._averaged_weights():
                weights = {v.path: v.numpy() for v in self.model.weights}
            write_arrays(self.run.best_path, weights)
        else:
            self.worse_evaluations += 1
        self.run.append_metrics(
            update=self.update_number,
            epoch=self.epoch,
            loss=round(loss, 5),
            **{f"dev_{name}": round(self.dev[name], 3) for name in _shown(self.dev)},
            tokens_per_second=round(speed),
            learning_rate=float(self.optimizer.learning_rate.numpy()),
        )
        logger.info(
            "update %d, epoch %d: loss %.4f, %s, %d tokens/s%s",
            self.update_number,
            self.epoch,
            loss,
            ", ".join(f"dev {name} {self.dev[name]:.2f}" for name in _shown(self.dev)),
            speed,
            " (best so far)" if better else "",
        )
        self._loss_sum = self._loss_tokens = tf.zeros([])
        self.evaluated_update = self.update_number
        self.save()
        clock.restart()

    def _evaluate(self, references):
        with self._averaged_weights():
            found = self.translator.translate(list(references))
        return evaluate(
            list(references.values()),
            [best.text for (best,) in found],
            kind=self.config.target.tokenizer,
        )

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
        return {**weights, **averages, **optimizer}

    _COUNTERS = (
        "update_number", "epoch", "batch_in_epoch", "best", "best_update",
        "worse_evaluations", "evaluated_update", "dev",
    )  # fmt: skip

    def save(self):
        """Writes a checkpoint from which :meth:`restore` goes on exactly."""
        counters = {name: getattr(self, name) for name in self._COUNTERS}
        arrays = {name: v.numpy() for name, v in self._variables().items()}
        arrays["loss"] = np.array([self._loss_sum, self._loss_tokens])
        arrays["counters"] = np.array(json.dumps(counters))
        self.run.save_checkpoint(self.update_number, arrays)

    def restore(self):
        """Goes back to the newest checkpoint, if there is one."""
        paths = self.run.checkpoint_paths()
        if not paths:
            self.run.cut_metrics(0)
            return
        arrays = read_arrays(paths[0])
        for name, variable in self._variables().items():
            variable.assign(arrays[name])
        self._loss_sum, self._loss_tokens = tf.unstack(tf.constant(arrays["loss"]))
        for name, value in json.loads(str(arrays["counters"])).items():
            setattr(self, name, value)
        self.run.cut_metrics(self.update_number)
        logger.info("resumed at update %d", self.update_number)


def learning_rate(settings):
    """Returns the schedule: a linear warm-up, then half a cosine, by updates.

    References: Loshchilov and Hutter 2017, "SGDR", eq. 5, without restarts.
    """
    warmup = min(settings.warmup_updates, settings.updates - 1)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        warmup_target=settings.learning_rate,
        warmup_steps=warmup,
        decay_steps=settings.updates - warmup,
        alpha=settings.final_learning_rate_share,
    )


def smoothed_loss(logits, target_ids, target_length, smoothing):
    """Returns the summed cross entropy against smoothed targets, a scalar.

    ``(1 - smoothing) * -log p(target) + smoothing * mean over tokens of -log p``,
    summed over the real target tokens.

    Args:
        logits: ``(batch, target_length, vocabulary_size)``.
        target_ids: int32 ``(batch, target_length)``.
        target_length: int32 ``(batch,)``.
        smoothing: From 0 up to but without 1.

    References: Szegedy et al. 2016, "Rethinking the Inception architecture", section 7.
    """
    logits = tf.cast(logits, tf.float32)
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(target_ids, logits)
    if smoothing:
        uniform = tf.reduce_logsumexp(logits, axis=-1) - tf.reduce_mean(logits, axis=-1)
        loss = (1 - smoothing) * loss + smoothing * uniform
    mask = tf.sequence_mask(target_length, tf.shape(target_ids)[1], loss.dtype)
    return tf.reduce_sum(loss * mask)


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

    def __init__(self):
        self.restart()

    def restart(self):
        self.tokens = tf.zeros([])
        self._started = time.monotonic()

    def tokens_per_second(self):
        return float(self.tokens) / max(time.monotonic() - self._started, 1e-9)


def _shown(metrics):
    """The names of what is reported of an evaluation."""
    shown = ("wer", "per", "bleu", "chrf", "cer", "exact")
    return [name for name in shown if name in metrics]
