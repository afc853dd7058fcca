"""The network of stock Keras layers, trained with ``fit``."""

import math
import time
from collections.abc import Iterator, Sequence
from itertools import cycle, islice

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from pocketseq.pipeline.configuration import Config, CosineConfig, ModelConfig
from pocketseq.pipeline.machine import keep_freed_memory
from pocketseq.pipeline.text.special import PAD
from training.contenders import Examples, Weights
from training.loss import loss_and_norm, padded_smoothed_loss
from training.work import (
    SETTLING_SECONDS,
    Measurement,
    PaddedBatch,
    Work,
    compile_seconds,
    padded_work,
    real_work,
    total,
)

# Of Adam; the others take the same.
_LEARNING_RATE = 1e-3


class StockKeras:
    """Training as most would write it; see :class:`training.contenders.Trainer`.

    In float32, fed with shuffled texts in batches of a fixed number of rows, each
    padded to its longest. The texts are tokenised already, which is in its favour.

    Args:
        config: The recipe.
        examples: What to train on.
        keep_memory: Whether freed memory is kept, as in our training.
    """

    def __init__(self, config: Config, examples: Examples, keep_memory: bool) -> None:
        if keep_memory:
            keep_freed_memory()
        keras.utils.set_random_seed(config.training.seed)
        self.model = StockNetwork(config.model, examples.vocabulary_sizes)
        self.loss = padded_smoothed_loss(config.training.label_smoothing)
        self.model.compile(
            optimizer=keras.optimizers.Adam(
                _LEARNING_RATE, global_clipnorm=config.training.clip_norm
            ),
            loss=self.loss,
        )
        self.model([examples.batches[0].source_ids, examples.batches[0].decoder_inputs])
        texts = shuffled_texts(examples.batches, config.training.seed)
        rows = max(1, round(len(texts) / len(examples.batches)))
        texts = texts[: len(texts) // rows * rows] or texts
        self.dataset = fixed_row_dataset(texts, rows)
        self.works = fixed_row_works(texts, rows)

    def check(
        self, weights: Weights, batches: Sequence[PaddedBatch]
    ) -> list[tuple[float, float]]:
        before = self.model.get_weights()
        for variable, path in self.model.named_variables():
            variable.assign(weights[path])
        results = [self._check(batch) for batch in batches]
        self.model.set_weights(before)
        return results

    def _check(self, batch: PaddedBatch) -> tuple[float, float]:
        with tf.GradientTape() as tape:
            logits = self.model([batch.source_ids, batch.decoder_inputs])
            loss = self.loss(tf.constant(batch.target_ids), logits)
        return loss_and_norm(tape, loss, self.model.trainable_weights)

    def warm_up(self) -> float:
        """Traces the update, one graph for all shapes; returns the seconds."""

        def fit(_: None) -> None:
            self.model.fit(self.dataset, steps_per_epoch=1, shuffle=False, verbose=0)

        return compile_seconds(fit, [None])

    def measure(self, seconds: float) -> Measurement:
        stopwatch = Stopwatch(seconds)
        # The dataset has no end: the stopwatch ends the fit.
        self.model.fit(self.dataset, shuffle=False, verbose=0, callbacks=[stopwatch])
        done = islice(cycle(self.works), stopwatch.first, stopwatch.last + 1)
        real, padded = zip(*done, strict=True)
        return Measurement(stopwatch.elapsed, len(real), total(real), total(padded))


class StockNetwork(keras.Model):
    """The network, from (source ids, decoder inputs) to logits.

    Args:
        config: The sizes; one of those that :func:`common.comparison_problem` passes,
            without input feeding, which stock layers cannot do.
        vocabulary_sizes: Of source and target.
    """

    def __init__(self, config: ModelConfig, vocabulary_sizes: tuple[int, int]) -> None:
        super().__init__()
        source, target = vocabulary_sizes
        self.source_embedding = layers.Embedding(source, config.embedding_size)
        self.target_embedding = layers.Embedding(target, config.embedding_size)
        half = layers.LSTM(config.units // 2, return_sequences=True, return_state=True)
        self.encoder = layers.Bidirectional(half)
        self.decoder = layers.LSTM(config.units, return_sequences=True)
        self.readout = layers.Dense(config.embedding_size, activation="tanh")
        # Whole features, as ours drops them.
        self.dropout = layers.SpatialDropout1D(config.dropout)
        self.log_scale = self.add_weight(
            name="log_scale",
            shape=(),
            initializer=keras.initializers.Constant(
                math.log(CosineConfig().initial_scale)
            ),
        )
        self.output_bias = self.add_weight(
            name="output_bias", shape=(target,), initializer="zeros"
        )

    def call(
        self, inputs: tuple[tf.Tensor, tf.Tensor], training: bool = False
    ) -> tf.Tensor:
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

    def attend(
        self, hidden: tf.Tensor, values: tf.Tensor, mask: tf.Tensor
    ) -> tf.Tensor:
        """Returns the contexts ``(batch, target_length, units)``."""
        queries = tf.math.l2_normalize(hidden, axis=-1)
        keys = tf.math.l2_normalize(values, axis=-1)
        scores = tf.matmul(queries, keys, transpose_b=True)
        scores *= tf.minimum(tf.exp(self.log_scale), 100.0)
        weights = layers.Softmax()(scores, mask=mask[:, None])
        return tf.matmul(weights, values)

    def named_variables(self) -> Iterator[tuple[tf.Variable, str]]:
        """Yields each variable with the path of its value inside of our model."""
        yield self.source_embedding.embeddings, "encoder/embedding/embeddings"
        yield self.target_embedding.embeddings, "decoder/embedding/embeddings"
        for cell, path in (
            (self.encoder.forward_layer.cell, "encoder/forward_0"),
            (self.encoder.backward_layer.cell, "encoder/backward_0"),
            (self.decoder.cell, "decoder/lstm_0"),
        ):
            yield cell.kernel, f"{path}/kernel"
            yield cell.recurrent_kernel, f"{path}/recurrent_kernel"
            yield cell.bias, f"{path}/bias"
        yield self.readout.kernel, "decoder/readout/kernel"
        yield self.readout.bias, "decoder/readout/bias"
        yield self.log_scale, "decoder/attention/log_scale"
        yield self.output_bias, "decoder/output_bias"


class Stopwatch(keras.callbacks.Callback):
    """Times the batches ``first`` to ``last`` of a fit, and ends it.

    Args:
        seconds: How long at least; ``elapsed`` is how long they took.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.first = self.last = -1
        self.elapsed = 0.0

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.started = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        now = time.perf_counter()
        if self.first < 0:
            if now - self.started > SETTLING_SECONDS:
                self.started, self.first = now, batch + 1
        elif now - self.started >= self.seconds:
            self.elapsed, self.last = now - self.started, batch
            self.model.stop_training = True


#: Source ids, decoder inputs and target ids, without padding.
Text = tuple[list[int], list[int], list[int]]


def shuffled_texts(batches: Sequence[PaddedBatch], seed: int) -> list[Text]:
    """Returns the texts of some batches in a random order."""
    texts = [text for batch in batches for text in unpadded(batch)]
    np.random.default_rng(seed).shuffle(texts)
    return texts


def unpadded(batch: PaddedBatch) -> Iterator[Text]:
    """Yields the texts of a batch."""
    for source, inputs, target, n, m in zip(
        batch.source_ids,
        batch.decoder_inputs,
        batch.target_ids,
        batch.source_length,
        batch.target_length,
        strict=True,
    ):
        yield source[:n].tolist(), inputs[:m].tolist(), target[:m].tolist()


def fixed_row_dataset(texts: Sequence[Text], rows: int) -> tf.data.Dataset:
    """Returns a dataset without end of ((source ids, decoder inputs), target ids).

    Args:
        texts: As many as some batches hold.
        rows: Of a batch.
    """
    columns = (
        tf.ragged.constant(column, dtype=tf.int32, row_splits_dtype=tf.int64)
        for column in zip(*texts, strict=True)
    )
    return (
        tf.data.Dataset.from_tensor_slices(tuple(columns))
        .batch(rows)
        .map(lambda *columns: tuple(column.to_tensor(PAD) for column in columns))
        .map(lambda source, inputs, target: ((source, inputs), target))
        .cache()
        .repeat()
        .prefetch(tf.data.AUTOTUNE)
    )


def fixed_row_works(texts: Sequence[Text], rows: int) -> list[tuple[Work, Work]]:
    """Returns the real and the padded work of each batch of a dataset's round."""
    lengths = np.array([(len(source), len(target)) for source, _, target in texts])
    works = []
    for start in range(0, len(lengths), rows):
        source, target = lengths[start : start + rows].T
        padded = padded_work(len(source), int(source.max()), int(target.max()))
        works.append((real_work(source, target), padded))
    return works
