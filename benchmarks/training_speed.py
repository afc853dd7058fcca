"""Measures how fast a model is trained, and what part of the machine that takes.

Real source and target tokens a second, end token counted and padding not, of whole
updates: forward, backward, clipping, Adam. Compared in the same run with the same
network of stock Keras layers and, where it is installed, in PyTorch. Both must first
give the same loss and the same length of the gradient from the same weights. Prints
one JSON object:

    python benchmarks/training_speed.py --corpus cmudict
    python benchmarks/training_speed.py --train en.gz --train-target de.gz

Each contender has a process of its own, which waits while the others are measured:
TensorFlow and PyTorch would fight over threads in one. So each is imported only where
it is used, inside functions.
"""

import importlib.util
import json
import logging
import math
import multiprocessing
import os
import platform
import shutil
import tempfile
import time
from importlib import metadata
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# PyTorch would start a process a core to compile in, and they would outlive a worker.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")

import click
import numpy as np

from pocketseq.pipeline.configuration import load_recipe, override, with_files
from pocketseq.pipeline.machine import keep_freed_memory, prepare_for_training
from pocketseq.pipeline.text.special import PAD, START

_PRECISIONS = ("float32", "bfloat16")

# Untimed updates before a measurement: threads wake, the pipeline finds its pace.
_SETTLING_SECONDS = 0.5

# How long each setting of PyTorch is tried before the best one is measured.
_TRIAL_SECONDS = 3.0

# torch.compile must be done with all batch shapes by then.
_COMPILE_LIMIT_SECONDS = 60.0

# Batches that PyTorch and stock Keras take in turn: one epoch, if it is not longer.
_KEPT_BATCHES = 2000

# By how much losses and gradients may differ, relatively. Products in bfloat16 have 8
# bits of precision.
_TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-2}

# The network is compared with weights this far from their start, where no bias is 0.
_NOISE = 0.05

_PRODUCT_SIZE = 2048
_PRODUCT_BURSTS = 5

# A process that waits and yet takes this share of a core disturbs the others.
_IDLE_LIMIT = 0.05

# What is measured while other programs take this share of all cores is measured again.
_DISTURBANCE_LIMIT = 0.05
_ATTEMPTS = 3

# How long to wait for other programs before that, in looks of two seconds.
_LOOKS = 60


@click.command()
@click.option("--corpus", default="cmudict", type=click.Choice(["cmudict"]))
@click.option("--train", help="Train on FILE, with the recipe translation.")
@click.option("--train-target", help="The target side of the lines of --train.")
@click.option("--set", "settings", multiple=True, help="section.key=value")
@click.option("--seconds", default=10.0, show_default=True)
@click.option("--rounds", default=3, show_default=True)
def main(corpus, train, train_target, settings, seconds, rounds):
    """Measure updates of a network, with and without input feeding."""
    recipe = "translation" if train else "pronunciation"
    config = with_files(load_recipe(recipe), train, train_target, "", "", False)
    config = override(config, settings)
    check_comparable(config.model)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(Path(folder) / "inductor")
        run = Path(folder) / "run"
        corpus_worker = Worker("corpus", Preparation, run, config)
        examples = corpus_worker.ask("examples")
        corpus_worker.close()
        networks = [Network(config, run, examples, feeding) for feeding in (0, 1)]
        limit = Worker("limit", ProductLimit)
        measure(networks, limit, seconds, rounds)
        click.echo(json.dumps(report(config, examples, networks)))


def check_comparable(model):
    """Says which networks the comparisons cannot build."""
    needed = {
        "encoder_layers": 1,
        "decoder_layers": 1,
        "bidirectional": True,
        "attention": "cosine",
        "learned_scale": True,
        "tied_output": True,
    }
    for key, value in needed.items():
        if getattr(model, key) != value:
            raise click.UsageError(
                f"model.{key} = {getattr(model, key)!r}: the comparisons are built "
                f"for {value!r} only"
            )


def say(line):
    """Writes a line about the progress."""
    click.echo(line, err=True)


# What is counted.


class Work(NamedTuple):
    """What went through the network: ``pairs`` is what the attention compares."""

    source: int
    target: int
    pairs: int

    @property
    def tokens(self):
        return self.source + self.target

    def flops(self, config, vocabulary_size):
        """Returns the operations of the matrix products of one update.

        A product of ``(m, k)`` and ``(k, n)`` takes ``2 m n k`` forward, and twice
        that backward. With ``E`` the embedding size, ``U`` the units (``H = U / 2`` a
        direction), ``V`` the target vocabulary, and ``F = U`` with input feeding, else
        0, the forward products have, in multiplications::

            a source token:  2 * (E * 4H + H * 4H)         gates, both directions
            a target token:  (E + F) * 4U + U * 4U         gates
                             + 2U * E + E * V              readout, output
            a token pair:    U + U                         scores, context

        That is the network as it is written: what an implementation saves or repeats
        does not change the number.
        """
        embedding, units = config.embedding_size, config.units
        half, fed = units // 2, units if config.input_feeding else 0
        multiplications = (
            self.source * 2 * (embedding + half) * 4 * half
            + self.target * (embedding + fed + units) * 4 * units
            + self.target * (2 * units * embedding + embedding * vocabulary_size)
            + self.pairs * 2 * units
        )
        return 3 * 2 * multiplications


class PaddedBatch(NamedTuple):
    """A batch as NumPy arrays; see :class:`pocketseq.pipeline.data.batches.Batch`."""

    source_ids: np.ndarray
    source_length: np.ndarray
    target_ids: np.ndarray
    target_length: np.ndarray

    @property
    def shape(self):
        """The padded source and target length."""
        return self.source_ids.shape[1], self.target_ids.shape[1]

    @property
    def decoder_inputs(self):
        """The start token, then the target without its last token."""
        start = np.full_like(self.target_ids[:, :1], START)
        return np.concatenate([start, self.target_ids[:, :-1]], axis=1)

    def real_work(self):
        """The work on real tokens."""
        return real_work(self.source_length, self.target_length)

    def padded_work(self):
        """The work on all tokens, padding included."""
        return padded_work(len(self.source_ids), *self.shape)


def real_work(source_length, target_length):
    """Returns the work on texts of these lengths."""
    source, target = source_length.astype(int), target_length.astype(int)
    return Work(int(source.sum()), int(target.sum()), int((source * target).sum()))


def padded_work(rows, source_length, target_length):
    """Returns the work on a padded batch."""
    tokens = rows * source_length, rows * target_length
    return Work(*tokens, rows * source_length * target_length)


def total(works):
    """Adds up some work."""
    return Work(*np.sum(list(works), axis=0).tolist())


class Measurement(NamedTuple):
    """Some updates: how long they took, and on what."""

    seconds: float
    updates: int
    real: Work
    padded: Work

    @property
    def tokens_per_second(self):
        return self.real.tokens / self.seconds


def timed_updates(update, batches, seconds):
    """Updates for some seconds, after a time that is not counted.

    Args:
        update: Called with a batch; returns when it is done.
        batches: An iterator of batches with the fields of :class:`PaddedBatch`.
        seconds: How long.
    """
    settled = time.perf_counter() + _SETTLING_SECONDS
    while time.perf_counter() < settled:
        update(next(batches))
    done = []
    started = time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        batch = next(batches)
        update(batch)
        # The lengths alone, so that memory does not grow.
        shape = batch.source_ids.shape[1], batch.target_ids.shape[1]
        done.append((batch.source_length, batch.target_length, shape))
    return Measurement(
        elapsed,
        len(done),
        total(real_work(np.array(n), np.array(m)) for n, m, _ in done),
        total(padded_work(len(n), *shape) for n, _, shape in done),
    )


def first_of_each_shape(batches):
    """Returns one batch of each padded shape, as large as any of that shape."""
    found: dict[tuple[int, int], PaddedBatch] = {}
    for batch in batches:
        largest = found.setdefault(batch.shape, batch)
        if len(batch.source_ids) > len(largest.source_ids):
            found[batch.shape] = batch
    return list(found.values())


def compile_seconds(update, batches):
    """Returns how much longer the first updates take than the second ones."""
    passes = []
    for _ in range(2):
        started = time.perf_counter()
        for batch in batches:
            update(batch)
        passes.append(time.perf_counter() - started)
    return max(0.0, passes[0] - passes[1])


# Processes.


class Worker:
    """An object in a process of its own, with its thread pools, asked through a pipe.

    Args:
        name: What it is called in messages.
        kind: The class of the object.
        arguments: What it is made of.
    """

    def __init__(self, name, kind, *arguments):
        self.name = name
        self.idle_share = 0.0
        self.processor_seconds = 0.0
        # A forked process would share the state of the threads, but not the threads.
        context = multiprocessing.get_context("spawn")
        self._connection, other_end = context.Pipe()
        self._process = context.Process(target=serve, args=(other_end,), daemon=True)
        self._process.start()
        other_end.close()  # else nobody would notice that the process has ended
        self._send(kind, arguments)

    def ask(self, method, *arguments, limit=None):
        """Calls a method and returns what it returns.

        Raises:
            TimeoutError: It took longer than ``limit`` seconds; the worker is gone.
            SystemExit: The process has ended with an error, which it has printed.
        """
        self._send(method, arguments)
        if not self._connection.poll(limit):
            self.close()
            raise TimeoutError(f"{self.name}: {method} took over {limit:g} s")
        try:
            answer, self.processor_seconds, idle_share = self._connection.recv()
        except (EOFError, ConnectionError) as error:
            raise SystemExit(f"{self.name}: {method} failed") from error
        self.idle_share = max(self.idle_share, idle_share)
        return answer

    def _send(self, name, arguments):
        try:
            self._connection.send((name, arguments))
        except ConnectionError as error:
            raise SystemExit(f"{self.name}: failed before {name}") from error

    def close(self):
        """Ends the process."""
        self._connection.close()
        self._process.terminate()
        self._process.join()


def serve(connection):
    """Makes the object that a pipe asks for, then answers calls until it is closed.

    Each answer comes with the processor time that it took, and with the share of one
    core that the process took while it waited.
    """
    os.dup2(2, 1)  # standard output is for the report alone
    logging.disable(logging.WARNING)
    kind, arguments = connection.recv()
    served = kind(*arguments)
    waiting_since, busy = time.perf_counter(), time.process_time()
    while True:
        try:
            method, arguments = connection.recv()
        except EOFError:
            return
        waited = time.perf_counter() - waiting_since
        took = time.process_time() - busy
        # Shortly after an answer, what was under way (batches made ahead) ends.
        idle_share = took / waited if waited > 5 else 0.0
        busy = time.process_time()
        answer = getattr(served, method)(*arguments)
        connection.send((answer, time.process_time() - busy, idle_share))
        waiting_since, busy = time.perf_counter(), time.process_time()


class Preparation:
    """Makes the run folder that all trainers share, and the batches of an epoch."""

    def __init__(self, folder, config):
        from pocketseq.pipeline.runs import Run
        from pocketseq.pipeline.training.preparation import start_run

        start_run(Run(folder), config)
        self.config, self.folder = config, folder

    def examples(self):
        """Returns :class:`Examples`."""
        tokenizers, batches = pipeline(self.folder, self.config)
        kept: list[PaddedBatch] = []
        shapes = set()
        for epoch, batch in batches:
            if int(epoch[0]) > 0:
                break
            arrays = PaddedBatch(*(np.array(part) for part in batch[:4]))
            if len(kept) < _KEPT_BATCHES or arrays.shape not in shapes:
                kept.append(arrays)
            shapes.add(arrays.shape)
        return Examples(kept, tuple(map(len, tokenizers)))


class Examples(NamedTuple):
    """The batches of an epoch, and the sizes of the two vocabularies."""

    batches: list[PaddedBatch]
    vocabulary_sizes: tuple[int, int]


def pipeline(folder, config):
    """Returns the tokenizers of a run, and its training batches without end."""
    from pocketseq.pipeline.data.batches import training_batches
    from pocketseq.pipeline.data.lengths import choose_buckets, measure_lengths
    from pocketseq.pipeline.runs import Run
    from pocketseq.pipeline.training.preparation import training_corpora

    pairs, _ = training_corpora(config)
    tokenizers = Run(folder).load_tokenizers()
    buckets = choose_buckets(
        measure_lengths(pairs, *tokenizers),
        batch_tokens=config.training.batch_tokens,
        most=config.training.buckets,
    )
    batches = training_batches(pairs, *tokenizers, buckets, config, epoch=0)
    return tokenizers, iter(batches)


class ProductLimit:
    """How fast this machine multiplies matrices, in TensorFlow."""

    def __init__(self):
        import tensorflow as tf

        shape = [_PRODUCT_SIZE, _PRODUCT_SIZE]
        matrix = tf.random.stateless_uniform(shape, [1, 2])
        self.matrices = {name: tf.cast(matrix, name) for name in _PRECISIONS}
        self.product = tf.function(tf.linalg.matmul)
        self.gflops()

    def gflops(self):
        """Returns GFLOP/s at each precision, the best of some short bursts."""
        return {name: self._gflops(matrix) for name, matrix in self.matrices.items()}

    def _gflops(self, matrix):
        best = math.inf
        for _ in range(_PRODUCT_BURSTS):
            started = time.perf_counter()
            self.product(matrix, matrix)
            best = min(best, time.perf_counter() - started)
        return 2 * _PRODUCT_SIZE**3 / best / 1e9


# The contenders. Each has these methods:
#   check(weights, batches) -> [(loss, length of the gradient)], without dropout
#   warm_up() -> seconds spent on compiling
#   measure(seconds) -> Measurement


class Ours:
    """The project's own training, fed by its own pipeline."""

    def __init__(self, folder, config, examples):
        # As the command does, before TensorFlow's first operation.
        keep_freed_memory()
        prepare_for_training()
        import tensorflow as tf

        from pocketseq.pipeline.data.batches import Batch
        from pocketseq.pipeline.runs import Run
        from pocketseq.pipeline.training.loop import Trainer

        tokenizers, pairs = pipeline(folder, config)
        self.trainer = Trainer(Run(folder), config, tokenizers)
        self.config = config
        self.loss = padded_smoothed_loss(config.training.label_smoothing)
        self.batches = (batch for _, batch in pairs)
        self.to_batch = lambda arrays: Batch(*map(tf.constant, arrays))
        self.shapes = first_of_each_shape(examples.batches)

    def weights(self):
        """Returns the weights by their path inside the model."""
        return {
            variable.path.partition("/")[2]: np.array(variable)
            for variable in self.trainer.model.weights
        }

    def check(self, weights, batches):
        """Returns the loss and the length of the gradient for each batch."""
        before = self.weights()
        self._load(weights)
        results = [self._check(self.to_batch(batch)) for batch in batches]
        self._load(before)
        return results

    def _load(self, weights):
        for variable in self.trainer.model.weights:
            variable.assign(weights[variable.path.partition("/")[2]])

    def _check(self, batch):
        import tensorflow as tf

        model = self.trainer.model
        with tf.GradientTape() as tape:
            logits, _ = model(
                batch.source_ids, batch.source_length, batch.decoder_inputs
            )
            loss = self.loss(batch.target_ids, logits)
        return loss_and_norm(tape, loss, model.trainable_weights)

    def warm_up(self):
        """Compiles the update for each batch shape."""
        batches = [self.to_batch(arrays) for arrays in self.shapes]
        return compile_seconds(self._update, batches)

    def _update(self, batch):
        float(self.trainer.update(batch))

    def measure(self, seconds):
        """Measures updates on whatever the pipeline gives next."""
        return timed_updates(self._update, self.batches, seconds)


def loss_and_norm(tape, loss, weights):
    """Returns the loss and the length of its gradient, as numbers."""
    import tensorflow as tf

    gradients = [tf.convert_to_tensor(g) for g in tape.gradient(loss, weights)]
    return float(loss), float(tf.linalg.global_norm(gradients))


class StockKeras:
    """The network of stock Keras layers, trained with ``fit``.

    Fed as most would: float32, shuffled texts in batches of a fixed number of rows,
    each padded to its longest. The texts are tokenised already, which is in its favour.
    """

    def __init__(self, config, examples, keep_memory):
        if keep_memory:
            keep_freed_memory()
        import keras

        keras.utils.set_random_seed(config.training.seed)
        self.config = config
        self.model = stock_network(config.model, examples.vocabulary_sizes)
        self.loss = padded_smoothed_loss(config.training.label_smoothing)
        self.model.compile(
            optimizer=keras.optimizers.Adam(
                1e-3, global_clipnorm=config.training.clip_norm
            ),
            loss=self.loss,
        )
        self.model([examples.batches[0].source_ids, examples.batches[0].decoder_inputs])
        self.dataset, self.works = fixed_row_batches(examples.batches, config)

    def check(self, weights, batches):
        """Returns the loss and the length of the gradient for each batch."""
        before = self.model.get_weights()
        for variable, value in self._named(weights):
            variable.assign(value)
        results = [self._check(batch) for batch in batches]
        self.model.set_weights(before)
        return results

    def _named(self, weights):
        """Yields each variable with its value among the weights of our model."""
        model = self.model
        yield model.source_embedding.embeddings, weights["encoder/embedding/embeddings"]
        yield model.target_embedding.embeddings, weights["decoder/embedding/embeddings"]
        for cell, layer in (
            (model.encoder.forward_layer.cell, "encoder/forward_0"),
            (model.encoder.backward_layer.cell, "encoder/backward_0"),
            (model.decoder.cell, "decoder/lstm_0"),
            (model.readout, "decoder/readout"),
        ):
            yield cell.kernel, weights[f"{layer}/kernel"]
            yield cell.bias, weights[f"{layer}/bias"]
            if cell is not model.readout:
                yield cell.recurrent_kernel, weights[f"{layer}/recurrent_kernel"]
        yield model.log_scale, weights["decoder/attention/log_scale"]
        yield model.output_bias, weights["decoder/output_bias"]

    def _check(self, batch):
        import tensorflow as tf

        with tf.GradientTape() as tape:
            logits = self.model([batch.source_ids, batch.decoder_inputs])
            loss = self.loss(tf.constant(batch.target_ids), logits)
        return loss_and_norm(tape, loss, self.model.trainable_weights)

    def warm_up(self):
        """Traces the update, one graph for all shapes."""

        def fit(_):
            self.model.fit(self.dataset, steps_per_epoch=1, shuffle=False, verbose=0)

        return compile_seconds(fit, [None])

    def measure(self, seconds):
        """Measures updates as ``fit`` makes them."""
        stopwatch = fit_stopwatch(seconds)
        # The dataset has no end: the stopwatch ends the fit.
        self.model.fit(self.dataset, shuffle=False, verbose=0, callbacks=[stopwatch])
        done = islice(cycle(self.works), stopwatch.first, stopwatch.last + 1)
        real, padded = zip(*done, strict=True)
        return Measurement(stopwatch.elapsed, len(real), total(real), total(padded))


def stock_network(config, vocabulary_sizes):
    """Returns the network, built of stock layers, as a Keras model.

    It maps source ids and decoder inputs to logits.
    """
    import keras
    import tensorflow as tf

    layers = keras.layers

    class StockNetwork(keras.Model):
        def __init__(self):
            super().__init__()
            source, target = vocabulary_sizes
            self.source_embedding = layers.Embedding(source, config.embedding_size)
            self.target_embedding = layers.Embedding(target, config.embedding_size)
            half = layers.LSTM(
                config.units // 2, return_sequences=True, return_state=True
            )
            self.encoder = layers.Bidirectional(half)
            self.decoder = layers.LSTM(config.units, return_sequences=True)
            self.readout = layers.Dense(config.embedding_size, activation="tanh")
            # Whole features, as ours drops them.
            self.dropout = layers.SpatialDropout1D(config.dropout)
            self.log_scale = self.add_weight(
                name="log_scale",
                shape=(),
                initializer=keras.initializers.Constant(math.log(config.initial_scale)),
            )
            self.output_bias = self.add_weight(
                name="output_bias", shape=(target,), initializer="zeros"
            )

        def call(self, inputs, training=False):
            source_ids, decoder_inputs = inputs
            mask = tf.not_equal(source_ids, PAD)
            values, *states = self.encoder(self.source_embedding(source_ids), mask=mask)
            state = [tf.concat(states[i::2], axis=-1) for i in range(2)]
            values = self.dropout(values, training=training)
            # Padding comes last in a target: to mask it would change nothing.
            hidden = self.decoder(
                self.target_embedding(decoder_inputs), initial_state=state
            )
            context = self.attend(hidden, values, mask)
            readout = self.readout(tf.concat([context, hidden], axis=-1))
            readout = self.dropout(readout, training=training)
            kernel = self.target_embedding.embeddings
            return tf.matmul(readout, kernel, transpose_b=True) + self.output_bias

        def attend(self, hidden, values, mask):
            queries = tf.math.l2_normalize(hidden, axis=-1)
            keys = tf.math.l2_normalize(values, axis=-1)
            scores = tf.matmul(queries, keys, transpose_b=True)
            scores *= tf.minimum(tf.exp(self.log_scale), 100.0)
            weights = layers.Softmax()(scores, mask=mask[:, None])
            return tf.matmul(weights, values)

    return StockNetwork()


def padded_smoothed_loss(smoothing):
    """Returns the mean loss a real target token, as a function for ``compile``."""
    import tensorflow as tf

    def loss(target_ids, logits):
        target_ids = tf.cast(target_ids, tf.int32)  # Keras makes all targets floats
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(target_ids, logits)
        if smoothing:
            uniform = tf.reduce_logsumexp(logits, -1) - tf.reduce_mean(logits, -1)
            losses = (1 - smoothing) * losses + smoothing * uniform
        mask = tf.cast(tf.not_equal(target_ids, PAD), losses.dtype)
        return tf.reduce_sum(losses * mask) / tf.reduce_sum(mask)

    return loss


def fixed_row_batches(batches, config):
    """Returns a dataset without end for ``fit``, and the work of its batches.

    Args:
        batches: :class:`PaddedBatch` of ours. The same texts come in a random order, in
            batches of equally many rows, so many that a batch has as many real tokens
            as one of ours has in the mean.
        config: For its seed.

    Returns:
        The dataset, and ``[(real work, padded work)]`` of the batches of one round.
    """
    import tensorflow as tf

    texts = [pair for batch in batches for pair in unpadded(batch)]
    np.random.default_rng(config.training.seed).shuffle(texts)
    rows = max(1, round(len(texts) / len(batches)))
    texts = texts[: len(texts) // rows * rows] or texts
    sources, inputs, targets = (
        tf.ragged.constant(column, dtype=tf.int32, row_splits_dtype=tf.int64)
        for column in zip(*texts, strict=True)
    )
    dataset = (
        tf.data.Dataset.from_tensor_slices((sources, inputs, targets))
        .batch(rows)
        .map(lambda *columns: tuple(column.to_tensor(PAD) for column in columns))
        .map(lambda source, inputs, target: ((source, inputs), target))
        .cache()
        .repeat()
        .prefetch(tf.data.AUTOTUNE)
    )
    lengths = np.array([(len(source), len(target)) for source, _, target in texts])
    works = []
    for start in range(0, len(lengths), rows):
        source, target = lengths[start : start + rows].T
        padded = padded_work(len(source), source.max(), target.max())
        works.append((real_work(source, target), padded))
    return dataset, works


def unpadded(batch):
    """Yields (source ids, decoder inputs, target ids) of each text of a batch."""
    for source, inputs, target, n, m in zip(
        batch.source_ids,
        batch.decoder_inputs,
        batch.target_ids,
        batch.source_length,
        batch.target_length,
        strict=True,
    ):
        yield source[:n].tolist(), inputs[:m].tolist(), target[:m].tolist()


def fit_stopwatch(seconds):
    """Returns a callback that times the batches ``first`` to ``last`` of a fit."""
    import keras

    class Stopwatch(keras.callbacks.Callback):
        first = last = -1
        elapsed = 0.0

        def on_train_begin(self, logs=None):
            self.started = time.perf_counter()

        def on_train_batch_end(self, batch, logs=None):
            now = time.perf_counter()
            if self.first < 0:
                if now - self.started > _SETTLING_SECONDS:
                    self.started, self.first = now, batch + 1
            elif now - self.started >= seconds:
                self.elapsed, self.last = now - self.started, batch
                self.model.stop_training = True

    return Stopwatch()


class TorchSetting(NamedTuple):
    """What people choose in PyTorch.

    ``packed``: whether the encoder's texts are packed, or padded and its gates shut on
    padding. ``optimizer``: how Adam goes through the weights, ``fused`` or ``foreach``.
    ``compiled``: whether ``torch.compile`` makes the attention, the step of the decoder
    and the loss; it leaves ``nn.LSTM`` as it is.
    """

    packed: bool = True
    optimizer: str = "fused"
    compiled: bool = False


class PyTorch:
    """The network in PyTorch, fed our bucketed batches, which lie ready in memory."""

    def __init__(self, config, examples, precision, weights, setting=None):
        keep_freed_memory()
        import torch

        torch.manual_seed(config.training.seed)
        torch.set_num_threads(os.cpu_count())
        torch.set_flush_denormal(True)
        self.torch = torch
        self.config, self.precision = config, precision
        self.initial_weights = weights
        self.vocabulary_sizes = examples.vocabulary_sizes
        batches = [self._tensors(batch) for batch in examples.batches]
        self.batches = cycle(batches)
        self.shapes = [
            self._tensors(batch) for batch in first_of_each_shape(examples.batches)
        ]
        self.use(setting or TorchSetting())

    def _tensors(self, batch):
        """Returns a batch of tensors: its arrays, then the decoder inputs."""
        arrays = [*batch, batch.decoder_inputs]
        return TorchBatch(
            *(self.torch.tensor(a, dtype=self.torch.long) for a in arrays)
        )

    def use(self, setting):
        """Makes the network and its optimizer anew."""
        self.setting = setting
        self.network = torch_network(
            self.config, self.vocabulary_sizes, packed=setting.packed
        )
        load_torch_weights(self.network, self.initial_weights)
        if setting.compiled:
            compile_parts(self.network)
        weights = [w for w in self.network.parameters() if w.requires_grad]
        self.optimizer = self.torch.optim.Adam(
            weights, lr=1e-3, **{setting.optimizer: True}
        )

    def check(self, weights, batches):
        """Returns the loss and the length of the gradient for each batch."""
        results = []
        load_torch_weights(self.network, weights)
        self.network.eval()
        for batch in batches:
            loss, norm = self._gradient(self._tensors(batch), math.inf)
            results.append((float(loss), float(norm)))
        self.network.train()
        load_torch_weights(self.network, self.initial_weights)
        return results

    def _gradient(self, batch, clip_norm):
        """Computes the gradient; returns the loss and the length before clipping."""
        torch = self.torch
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(
            "cpu", dtype=torch.bfloat16, enabled=self.precision == "bfloat16"
        ):
            loss = self.network(batch)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(
            self.network.parameters(), clip_norm, foreach=True
        )
        return loss.detach(), norm

    def _update(self, batch):
        self._gradient(batch, self.config.training.clip_norm)
        self.optimizer.step()

    def warm_up(self):
        """Runs all shapes once; with torch.compile, that compiles."""
        return compile_seconds(self._update, self.shapes)

    def measure(self, seconds):
        """Measures updates on the batches in turn."""
        return timed_updates(self._update, self.batches, seconds)


class TorchBatch(NamedTuple):
    """A :class:`PaddedBatch` of PyTorch tensors, with its decoder inputs."""

    source_ids: object
    source_length: object
    target_ids: object
    target_length: object
    decoder_inputs: object


def torch_network(config, vocabulary_sizes, *, packed):
    """Returns the network as a PyTorch module that maps a batch to its mean loss.

    Without packing, one more input of the encoder says "padding": its weights, which
    no gradient reaches, shut the input gate and open the forget gate, so that the
    padding changes nothing. That lets PyTorch run its oneDNN kernel, which takes no
    packed texts.
    """
    import torch

    functional, rnn = torch.nn.functional, torch.nn.utils.rnn
    model, smoothing = config.model, config.training.label_smoothing
    embedding, units = model.embedding_size, model.units

    class TorchNetwork(torch.nn.Module):
        def __init__(self):
            super().__init__()
            source, target = vocabulary_sizes
            self.source_embedding = torch.nn.Embedding(source, embedding)
            self.target_embedding = torch.nn.Embedding(target, embedding)
            self.encoder = torch.nn.LSTM(
                embedding if packed else embedding + 1,
                units // 2,
                bidirectional=True,
                batch_first=True,
            )
            if model.input_feeding:
                self.decoder = torch.nn.LSTMCell(embedding + units, units)
            else:
                self.decoder = torch.nn.LSTM(embedding, units, batch_first=True)
            self.readout = torch.nn.Linear(2 * units, embedding)
            self.output_bias = torch.nn.Parameter(torch.zeros(target))
            self.log_scale = torch.nn.Parameter(torch.zeros(()))

        def forward(self, batch):
            size = batch.source_ids.shape[1]
            mask = torch.arange(size) < batch.source_length[:, None]
            embedded = self.source_embedding(batch.source_ids)
            read = self.read_packed if packed else self.read_padded
            values, state = read(embedded, batch.source_length, mask)
            values = self.drop(values)
            keys = functional.normalize(values, dim=-1)
            inputs = self.target_embedding(batch.decoder_inputs)
            write = self.write_steps if model.input_feeding else self.write_at_once
            context, hidden = write(inputs, state, (keys, values, mask))
            return self.loss(context, hidden, batch.target_ids)

        def read_packed(self, embedded, length, mask):
            sequence = rnn.pack_padded_sequence(
                embedded, length, batch_first=True, enforce_sorted=False
            )
            outputs, state = self.encoder(sequence)
            outputs, _ = rnn.pad_packed_sequence(
                outputs, batch_first=True, total_length=embedded.shape[1]
            )
            return outputs, [torch.cat([*part], dim=-1) for part in state]

        def read_padded(self, embedded, length, mask):
            padding = (~mask).to(embedded.dtype)[:, :, None]
            outputs, (_, cell) = self.encoder(torch.cat([embedded, padding], dim=-1))
            rows = torch.arange(len(length))
            forward = outputs[rows, length - 1, : units // 2]
            hidden = torch.cat([forward, outputs[:, 0, units // 2 :]], dim=-1)
            return outputs, [hidden, torch.cat([*cell], dim=-1)]

        def write_at_once(self, inputs, state, memory):
            hidden, _ = self.decoder(inputs, tuple(part[None] for part in state))
            return self.attend(hidden, *memory), hidden

        def write_steps(self, inputs, state, memory):
            context, contexts, hidden = torch.zeros_like(state[0]), [], []
            for now in inputs.unbind(1):
                context, state = self.step(now, context, state, *memory)
                contexts.append(context)
                hidden.append(state[0])
            return torch.stack(contexts, dim=1), torch.stack(hidden, dim=1)

        def step(self, inputs, context, state, keys, values, mask):
            state = self.decoder(torch.cat([inputs, context], dim=-1), tuple(state))
            return self.attend(state[0][:, None], keys, values, mask)[:, 0], state

        def attend(self, hidden, keys, values, mask):
            queries = functional.normalize(hidden, dim=-1)
            scale = self.log_scale.exp().clamp(max=100.0)
            scores = torch.bmm(queries, keys.transpose(1, 2)) * scale
            scores = scores.masked_fill(~mask[:, None], -math.inf)
            return torch.bmm(torch.softmax(scores, dim=-1), values)

        def loss(self, context, hidden, target_ids):
            readout = torch.tanh(self.readout(torch.cat([context, hidden], dim=-1)))
            logits = functional.linear(
                self.drop(readout), self.target_embedding.weight, self.output_bias
            )
            return functional.cross_entropy(
                logits.flatten(0, 1),
                target_ids.flatten(),
                ignore_index=PAD,
                label_smoothing=smoothing,
            )

        def drop(self, values):
            ones = values.new_ones(values.shape[0], 1, values.shape[2])
            return values * functional.dropout(ones, model.dropout, self.training)

    return TorchNetwork()


def compile_parts(network):
    """Compiles what is not an ``nn.LSTM``, for any number of rows and any lengths."""
    import torch

    for name in ("step", "attend", "loss"):
        setattr(network, name, torch.compile(getattr(network, name), dynamic=True))


def load_torch_weights(network, weights):
    """Copies the weights of our model into a PyTorch network."""
    import torch

    def copy(parameter, value):
        width = value.shape[-1] if value.ndim else 1
        (parameter[..., :width] if value.ndim else parameter).copy_(torch.tensor(value))

    def copy_lstm(module, suffix, layer):
        copy(getattr(module, f"weight_ih{suffix}"), weights[f"{layer}/kernel"].T)
        recurrent = weights[f"{layer}/recurrent_kernel"].T
        copy(getattr(module, f"weight_hh{suffix}"), recurrent)
        copy(getattr(module, f"bias_ih{suffix}"), weights[f"{layer}/bias"])
        # PyTorch has two biases where one does; the second stays 0.
        second = getattr(module, f"bias_hh{suffix}")
        second.zero_()
        second.requires_grad_(False)

    with torch.no_grad():
        for suffix, layer in (("_l0", "forward_0"), ("_l0_reverse", "backward_0")):
            copy_lstm(network.encoder, suffix, f"encoder/{layer}")
            kernel = getattr(network.encoder, f"weight_ih{suffix}")
            if kernel.shape[1] > weights[f"encoder/{layer}/kernel"].shape[0]:
                shut = torch.tensor([-1e4, 1e4, 0.0, 0.0])
                kernel[:, -1] = shut.repeat_interleave(len(kernel) // 4)
        suffix = "_l0" if isinstance(network.decoder, torch.nn.LSTM) else ""
        copy_lstm(network.decoder, suffix, "decoder/lstm_0")
        for side, module in (
            ("encoder", network.source_embedding),
            ("decoder", network.target_embedding),
        ):
            copy(module.weight, weights[f"{side}/embedding/embeddings"])
        copy(network.readout.weight, weights["decoder/readout/kernel"].T)
        copy(network.readout.bias, weights["decoder/readout/bias"])
        copy(network.output_bias, weights["decoder/output_bias"])
        copy(network.log_scale, weights["decoder/attention/log_scale"])


# The comparison.


class Contender:
    """A worker that trains, and what was measured of it."""

    def __init__(self, worker, precision):
        self.worker = worker
        self.precision = precision
        self.compile_seconds = 0.0
        self.compile_problem = ""
        self.setting = None
        self.check = {}
        self.measurements = []
        self.disturbances = []
        self.limits = []

    @property
    def tokens_per_second(self):
        """The median of the rounds."""
        return float(np.median([m.tokens_per_second for m in self.measurements]))


class Network:
    """One network, with or without input feeding, and all that train it.

    ``contenders`` is ``{(who, precision): Contender}``.
    """

    def __init__(self, config, run, examples, input_feeding):
        feeding = "true" if input_feeding else "false"
        self.config = override(config, [f"model.input_feeding={feeding}"])
        self.name = "with" if input_feeding else "without"
        self.name += "_input_feeding"
        self.examples = examples
        self.contenders = {}
        for precision in _PRECISIONS:
            self._add_ours(run, precision)
        self.weights = self.contenders["ours", "float32"].worker.ask("weights")
        if not input_feeding:  # stock layers cannot
            for who, keep in (("keras", False), ("keras_keeping_memory", True)):
                self._add_keras(who, keep)
        if importlib.util.find_spec("torch"):
            for precision in _PRECISIONS:
                self._add_pytorch(precision)
        self._check()
        for (who, precision), contender in self.contenders.items():
            contender.compile_seconds += contender.worker.ask("warm_up")
            say(
                f"{self.name} {who} {precision}: "
                f"compiled in {contender.compile_seconds:.1f} s"
            )

    def _add(self, who, precision, *arguments):
        worker = Worker(f"{self.name} {who} {precision}", *arguments)
        self.contenders[who, precision] = Contender(worker, precision)
        return worker

    def _add_ours(self, run, precision):
        config = override(self.config, [f"training.precision={precision}"])
        self._add("ours", precision, Ours, run, config, self.examples)

    def _add_keras(self, who, keep_memory):
        self._add(who, "float32", StockKeras, self.config, self.examples, keep_memory)

    def _add_pytorch(self, precision):
        """Adds PyTorch at its best setting."""
        arguments = (PyTorch, self.config, self.examples, precision, self.weights)
        eager = self._add("pytorch", precision, *arguments)
        contender = self.contenders["pytorch", precision]
        contender.setting = best_eager_setting(eager)
        setting = contender.setting._replace(compiled=True)
        compiled = Worker(f"{eager.name} torch.compile", *arguments, setting)
        try:
            seconds = compiled.ask("warm_up", limit=_COMPILE_LIMIT_SECONDS)
        except (TimeoutError, SystemExit) as problem:
            contender.compile_problem = str(problem)
            say(str(problem))
            return
        eager.ask("warm_up")
        if trial(compiled) > trial(eager):
            eager, compiled = compiled, eager
            contender.worker, contender.compile_seconds = eager, seconds
            contender.setting = setting
        compiled.close()

    def _check(self):
        """Ends the benchmark if two contenders do not compute the same."""
        generator = np.random.default_rng(1)
        weights = {
            name: value + np.float32(_NOISE) * generator.standard_normal(value.shape)
            for name, value in self.weights.items()
        }
        weights = {name: np.float32(value) for name, value in weights.items()}
        batches = first_of_each_shape(self.examples.batches)[:3]
        expected = self.contenders["ours", "float32"].worker.ask(
            "check", weights, batches
        )
        for (who, precision), contender in self.contenders.items():
            found = contender.worker.ask("check", weights, batches)
            difference = float(np.max(np.abs(np.divide(found, expected) - 1)))
            contender.check = {
                "loss": found[0][0],
                "gradient_norm": found[0][1],
                "largest_relative_difference": difference,
            }
            say(f"{self.name} {who} {precision}: {found[0]}, off by {difference:.2g}")
            if not difference <= _TOLERANCE[precision]:
                raise SystemExit(
                    f"{self.name} {who} {precision}: (loss, gradient norm) {found}, "
                    f"expected {expected}: not the same network"
                )


def best_eager_setting(worker):
    """Tries one choice of PyTorch's after the other; the worker uses the fastest."""

    def tried(setting):
        worker.ask("use", setting)
        worker.ask("warm_up")
        return trial(worker), setting

    best = tried(TorchSetting())
    for choice in ({"packed": False}, {"optimizer": "foreach"}):
        best = max(best, tried(best[1]._replace(**choice)))
    worker.ask("use", best[1])
    return best[1]


def trial(worker):
    """Returns tokens a second, measured for a short time."""
    return measured_alone(worker, _TRIAL_SECONDS)[0].tokens_per_second


def measured_alone(worker, seconds):
    """Measures again while other programs disturb, a few times at most.

    Returns:
        :class:`Measurement`, and the share of all cores that others took.
    """
    attempts = []
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


def wait_for_others():
    """Waits until other programs take little of the machine, but not for ever."""
    for _ in range(_LOOKS):
        with Bystanders() as others:
            time.sleep(2)
        if not others.share(0.0) >= _DISTURBANCE_LIMIT:
            return


class Bystanders:
    """What other programs do while this context is entered."""

    def __enter__(self):
        self._started, self._busy = time.perf_counter(), busy_seconds()
        return self

    def __exit__(self, *_):
        self._seconds = time.perf_counter() - self._started
        self._busy = busy_seconds() - self._busy

    def share(self, own_seconds):
        """Returns the share of all cores that others took; NaN where unknown.

        Args:
            own_seconds: The processor time that was ours.
        """
        return (self._busy - own_seconds) / self._seconds / os.cpu_count()


def busy_seconds():
    """Returns how long all cores together have worked so far, where the system tells.

    Time that a hypervisor has taken away counts as work.
    """
    statistics = Path("/proc/stat")
    if not statistics.is_file():
        return math.nan
    ticks = list(map(int, statistics.read_text().split("\n")[0].split()[1:9]))
    idle, waiting = ticks[3:5]
    return (sum(ticks) - idle - waiting) / os.sysconf("SC_CLK_TCK")


def measure(networks, limit, seconds, rounds):
    """Measures all contenders in turn, with the machine's limit around each."""
    before = limit.ask("gflops")
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        for network in networks:
            for (_, precision), contender in network.contenders.items():
                measurement, share = measured_alone(contender.worker, seconds)
                after = limit.ask("gflops")
                contender.measurements.append(measurement)
                contender.disturbances.append(share)
                contender.limits.append((before[precision] + after[precision]) / 2)
                before = after


# The report.


def report(config, examples, networks):
    """Returns what is printed."""
    real = total(batch.real_work() for batch in examples.batches)
    padded = total(batch.padded_work() for batch in examples.batches)
    pairs = sum(len(batch.source_ids) for batch in examples.batches)
    workers = [c.worker for n in networks for c in n.contenders.values()]
    idle = max(worker.idle_share for worker in workers)
    if idle > _IDLE_LIMIT:
        say(f"a waiting process took {idle:.0%} of a core: figures are too low")
    return rounded(
        {
            "data": {
                "recipe": config.name,
                "train": config.data.train,
                "pairs": pairs,
                "source_tokens": real.source / pairs,
                "target_tokens": real.target / pairs,
                "real_share_of_batches": real.tokens / padded.tokens,
                "tokens_per_batch": real.tokens / len(examples.batches),
            },
            "model": {
                "units": config.model.units,
                "embedding_size": config.model.embedding_size,
                "vocabulary_sizes": examples.vocabulary_sizes,
            },
            "machine": machine(),
            "largest_share_of_a_core_while_waiting": idle,
            "without_input_feeding": network_report(networks[0]),
            "with_input_feeding": network_report(networks[1]),
        }
    )


def network_report(network):
    """Returns the part of the report on one network: figures, then ratios."""
    flops = training_flops(network)
    by_who: dict[str, dict] = {}
    for (who, precision), contender in network.contenders.items():
        by_who.setdefault(who, {})[precision] = figures(contender, flops)
    result = {"pytorch": None, **by_who}
    if result["pytorch"]:
        result["cpp_compiler"] = shutil.which("g++") or shutil.which("clang++")
    ours = [network.contenders["ours", precision] for precision in _PRECISIONS]
    for who in ("keras", "keras_keeping_memory"):
        if who in by_who:
            other = network.contenders[who, "float32"]
            result[f"against_{who}"] = {
                contender.precision: ratio(contender, other) for contender in ours
            }
    if result["pytorch"]:
        others = [network.contenders["pytorch", p] for p in _PRECISIONS]
        result["against_pytorch"] = {
            **{
                one.precision: ratio(one, other)
                for one, other in zip(ours, others, strict=True)
            },
            "best": ratio(fastest(ours), fastest(others)),
        }
    return result


def training_flops(network):
    """Returns a function from :class:`Work` to the operations of its products."""
    target_size = network.examples.vocabulary_sizes[1]
    return lambda work: work.flops(network.config.model, target_size)


def figures(contender, flops):
    """Returns what was measured of a contender, medians of the rounds."""

    def utilisation(part):
        shares = [
            flops(getattr(m, part)) / m.seconds / 1e9 / limit
            for m, limit in zip(contender.measurements, contender.limits, strict=True)
        ]
        return float(np.median(shares))

    measurements = contender.measurements
    return {
        "tokens_per_second": contender.tokens_per_second,
        "rounds": [m.tokens_per_second for m in measurements],
        "milliseconds_per_update": float(
            np.median([1000 * m.seconds / m.updates for m in measurements])
        ),
        "real_share": float(
            np.median([m.real.tokens / m.padded.tokens for m in measurements])
        ),
        "limit_gflops": float(np.median(contender.limits)),
        "utilisation_real": utilisation("real"),
        "utilisation_padded": utilisation("padded"),
        "compile_seconds": contender.compile_seconds,
        "check": contender.check,
        "others_share_of_machine": max(contender.disturbances),
        **torch_setting(contender),
    }


def torch_setting(contender):
    """Returns what PyTorch's best setting was; nothing for the other contenders."""
    if contender.setting is None:
        return {}
    problem = {"torch_compile_problem": contender.compile_problem}
    return {
        "setting": contender.setting._asdict(),
        **(problem if contender.compile_problem else {}),
    }


def fastest(contenders):
    """Returns the contender with the most tokens a second."""
    return max(contenders, key=lambda contender: contender.tokens_per_second)


def ratio(one, other):
    """Returns how many times as fast one is as another, the median of the rounds.

    Taken round by round, because the machine's own speed changes between rounds.
    """
    pairs = zip(one.measurements, other.measurements, strict=True)
    return float(
        np.median([a.tokens_per_second / b.tokens_per_second for a, b in pairs])
    )


def machine():
    """Returns the processor and the versions."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    facts = {key.strip(): value.strip() for key, value in facts.items()}
    packages = ["tensorflow", "keras", "numpy"]
    if importlib.util.find_spec("torch"):
        packages.append("torch")
    return {
        "processor": facts.get("model name", platform.processor()),
        "cpus": os.cpu_count(),
        "avx512_bf16": "avx512_bf16" in facts["flags"].split() if facts else None,
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in packages},
    }


def rounded(value):
    """Rounds all numbers of a report to four significant digits; NaN becomes None."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(inner) for inner in value]
    if not isinstance(value, float):
        return value
    return None if math.isnan(value) else float(f"{value:.4g}")


if __name__ == "__main__":
    main()
