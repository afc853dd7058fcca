"""The updater: the only thing in training that changes weights.

An update is three steps: the gradients of this worker's batch, their sum over all
workers, and the change that the sum asks for. Only the second knows of other machines,
and only the third changes anything, so that training can stop between any two updates.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from pocketseq.pipeline.configuration import Config, TrainingConfig
from pocketseq.pipeline.data.batches import Batch
from pocketseq.pipeline.machine import batch_parts, native_precision
from pocketseq.pipeline.model import EncoderDecoder, build_model
from pocketseq.pipeline.text.tokenizers import Tokenizer
from pocketseq.pipeline.training.cluster import Alone, Workers
from pocketseq.pipeline.training.optimization import (
    Loss,
    label_smoothing_loss,
    learning_rate,
)

# From a batch, or a part of one, to what ``_gradients`` returns.
_Gradients = Callable[[Batch, tf.Tensor], list[tf.Tensor]]


class Updater:
    """A model, the average of its weights, and the optimizer that changes both.

    A loss that is not finite changes nothing, and neither does any update after it;
    :attr:`broken_at` says which was the first. It is asked for now and then only,
    because the answer waits for the device.

    Args:
        model: Built; its weights are changed in place.
        settings: The part of the recipe that decides the optimisation.
        cluster: The workers that share an update.
        loss: The function to minimise; None: cross entropy against smoothed targets.
    """

    def __init__(
        self,
        model: EncoderDecoder,
        settings: TrainingConfig,
        *,
        cluster: Workers | None = None,
        loss: Loss | None = None,
    ) -> None:
        self.model = model
        self.parts = settings.parts or batch_parts()
        self.precision = model.encoder.product_dtype
        self._settings = settings
        self._cluster = cluster or Alone()
        self._loss = loss or label_smoothing_loss(settings)
        self._optimizer = keras.optimizers.Adam(
            learning_rate(settings),
            name="adam",  # frozen: it is part of the names in checkpoints
        )
        self._optimizer.build(model.trainable_weights)
        self._averages = [
            tf.Variable(weight.value, trainable=False)
            for weight in model.trainable_weights
        ]
        # Of the loss, in nats, and of the target tokens, since the last evaluation.
        self._sums = tf.Variable(tf.zeros([2]), trainable=False)
        self._broken_at = tf.Variable(-1, trainable=False)
        self._compiled: dict[tuple[int, int], _Gradients] = {}
        self._apply = tf.function(self._change, autograph=False)

    # An update.

    def update(self, batch: Batch, update_number: int) -> tf.Tensor:
        """Trains on one batch.

        Args:
            batch: This worker's.
            update_number: The updates done so far, which decide the dropout and how
                closely the average follows.

        Returns:
            The number of real source and target tokens on all workers, float scalar.

        Raises:
            WorkerLost: Before anything has changed.
        """
        number = tf.constant(update_number)
        gradients = self._gradients_for(batch)(batch, number)
        *gradients, sums = self._cluster.sum(gradients)
        self._apply(gradients, sums, number)
        return sums[2]

    def _gradients_for(self, batch: Batch) -> _Gradients:
        """Returns the gradients compiled for the batch's lengths, any number of rows.

        One graph per bucket: with lengths known, the LSTMs are unrolled.
        """
        key = (batch.source_ids.shape[1], batch.target_ids.shape[1])
        if key not in self._compiled:
            of_part = tf.function(
                self._part_gradients,
                input_signature=[
                    tf.nest.map_structure(
                        lambda column: tf.TensorSpec(
                            [None, *column.shape[1:]], column.dtype
                        ),
                        batch,
                    ),
                    tf.TensorSpec([2], tf.int32),
                ],
                autograph=False,
            )
            self._compiled[key] = tf.function(
                lambda batch, number: self._gradients(of_part, batch, number),
                autograph=False,
                reduce_retracing=True,
            )
        return self._compiled[key]

    def _gradients(
        self, of_part: _Gradients, batch: Batch, update_number: tf.Tensor
    ) -> list[tf.Tensor]:
        """Returns the gradients of the summed loss, and the sums that go with them.

        The sums, float ``(3,)``: the loss in nats, the target tokens, all tokens.
        """
        seed = tf.stack([self._settings.seed, update_number])
        seed = tf.random.fold_in(seed, self._cluster.index)
        found = [
            of_part(part, tf.random.fold_in(seed, number))
            for number, part in enumerate(batch.parts(self.parts))
        ]
        return [tf.add_n(parts) for parts in zip(*found, strict=True)]

    def _part_gradients(self, batch: Batch, seed: tf.Tensor) -> list[tf.Tensor]:
        weights = self.model.trainable_weights
        with tf.GradientTape() as tape:
            logits, _ = self.model(
                batch.source_ids, batch.source_length, batch.decoder_inputs, seed
            )
            loss = self._loss(logits, batch)
        gradients = tape.gradient(loss, weights)
        source_tokens, target_tokens = (
            tf.cast(tf.reduce_sum(length), tf.float32)
            for length in (batch.source_length, batch.target_length)
        )
        # Embedding gradients come as slices: made dense, they enter the norm rightly.
        gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
        sums = tf.stack([loss, target_tokens, source_tokens + target_tokens])
        return [*gradients, sums]

    def _change(
        self, gradients: list[tf.Tensor], sums: tf.Tensor, update_number: tf.Tensor
    ) -> None:
        """Takes the step that the summed gradients ask for, if they are finite.

        Their norm, which is clipped, is per target token.
        """
        loss, target_tokens, _ = tf.unstack(sums)
        norm = tf.linalg.global_norm(gradients) / target_tokens
        good = tf.math.is_finite(loss) & tf.math.is_finite(norm) & (self._broken_at < 0)
        clip = self._settings.clip_norm
        factor = clip / (tf.maximum(norm, clip) * target_tokens)

        def change() -> tf.Tensor:
            weights = self.model.trainable_weights
            self._optimizer.apply([factor * g for g in gradients], weights)
            # Early in training the average follows closely, else it would stay near
            # the random weights of the start for a thousand updates.
            count = tf.cast(update_number, tf.float32)
            decay = tf.minimum(self._settings.average_decay, (1 + count) / (10 + count))
            for average, weight in zip(self._averages, weights, strict=True):
                average.assign_add((1 - decay) * (weight.value - average))
            self._sums.assign_add(sums[:2])
            return tf.constant(True)

        def keep() -> tf.Tensor:
            self._broken_at.assign(
                tf.where(self._broken_at < 0, update_number, self._broken_at)
            )
            return tf.constant(False)

        tf.cond(good, change, keep)

    # Between updates. All but ``variables`` wait for the device.

    @property
    def broken_at(self) -> int | None:
        """The number of the first update whose loss was not finite; None: none yet."""
        number = int(self._broken_at)
        return None if number < 0 else number

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next update."""
        return float(self._optimizer.learning_rate.numpy())

    def mean_loss(self) -> float:
        """Returns the loss since the last reset, in nats per target token."""
        loss, tokens = self._sums.numpy()
        return float(loss) / max(float(tokens), 1.0)

    def reset_loss(self) -> None:
        """Lets :meth:`mean_loss` begin anew."""
        self._sums.assign(tf.zeros([2]))

    def variables(self) -> dict[str, tf.Variable]:
        """Returns everything that an update changes, by its name in a checkpoint."""
        weights = {f"weights/{v.path}": v for v in self.model.weights}
        averages = {
            f"averages/{weight.path}": average
            for weight, average in zip(
                self.model.trainable_weights, self._averages, strict=True
            )
        }
        optimizer = {f"optimizer/{v.path}": v for v in self._optimizer.variables}
        return {**weights, **averages, **optimizer, "loss": self._sums}

    # Weights.

    def restart_averages(self) -> None:
        """Sets the averages to the weights of now."""
        for average, weight in zip(
            self._averages, self.model.trainable_weights, strict=True
        ):
            average.assign(weight.value)

    @contextlib.contextmanager
    def averaged_weights(self) -> Iterator[EncoderDecoder]:
        """Gives the model the averaged weights, as long as the context lasts.

        Yields:
            The model.
        """
        weights = self.model.trainable_weights
        own = [weight.numpy() for weight in weights]
        _assign(weights, [average.numpy() for average in self._averages])
        try:
            yield self.model
        finally:
            _assign(weights, own)


def _assign(variables: Sequence[tf.Variable], values: Sequence[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def new_updater(
    config: Config,
    tokenizers: tuple[Tokenizer, Tokenizer],
    *,
    cluster: Workers | None = None,
    loss: Loss | None = None,
) -> Updater:
    """Returns an :class:`Updater` of a model with the random weights of a seed.

    Args:
        config: The recipe of the run.
        tokenizers: The source and the target tokenizer.
        cluster, loss: See :class:`Updater`.
    """
    keras.utils.set_random_seed(config.training.seed)
    precision = config.training.precision
    model = build_model(
        config.model,
        *map(len, tokenizers),
        product_dtype=native_precision() if precision == "auto" else precision,
    )
    return Updater(model, config.training, cluster=cluster, loss=loss)
