"""The project's own training, fed by its own pipeline."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from common import weights_by_path
from pocketseq.pipeline.configuration import Config
from pocketseq.pipeline.data.batches import Batch
from pocketseq.pipeline.machine import keep_freed_memory, prepare_for_training
from pocketseq.pipeline.training.updater import new_updater
from training.contenders import Examples, Weights
from training.loss import loss_and_norm, padded_smoothed_loss
from training.preparation import tokenizers_and_batches
from training.work import (
    Measurement,
    PaddedBatch,
    compile_seconds,
    first_of_each_shape,
    timed_updates,
)


class Ours:
    """Our training; see :class:`training.contenders.Trainer`.

    Args:
        folder: The run folder that :class:`training.preparation.Preparation` has made.
        config: The recipe, its precision decided.
        examples: For the shapes of the batches.
    """

    def __init__(self, folder: Path, config: Config, examples: Examples) -> None:
        # As the command does, before TensorFlow's first operation.
        keep_freed_memory()
        prepare_for_training()
        tokenizers, pairs = tokenizers_and_batches(folder, config)
        self.updater = new_updater(config, tokenizers)
        self.updates = 0
        self.config = config
        self.loss = padded_smoothed_loss(config.training.label_smoothing)
        self.batches = (batch for _, batch in pairs)
        self.shapes = first_of_each_shape(examples.batches)

    def weights(self) -> dict[str, np.ndarray]:
        """Returns the weights by their path inside of the model."""
        return weights_by_path(self.updater.model)

    def check(
        self, weights: Weights, batches: Sequence[PaddedBatch]
    ) -> list[tuple[float, float]]:
        before = self.weights()
        self._load(weights)
        results = [self._check(tensors(batch)) for batch in batches]
        self._load(before)
        return results

    def _load(self, weights: Weights) -> None:
        for variable in self.updater.model.weights:
            variable.assign(weights[variable.path.partition("/")[2]])

    def _check(self, batch: Batch) -> tuple[float, float]:
        model = self.updater.model
        with tf.GradientTape() as tape:
            logits, _ = model(
                batch.source_ids, batch.source_length, batch.decoder_inputs
            )
            loss = self.loss(batch.target_ids, logits)
        return loss_and_norm(tape, loss, model.trainable_weights)

    def warm_up(self) -> float:
        return compile_seconds(self._update, map(tensors, self.shapes))

    def _update(self, batch: Batch) -> None:
        float(self.updater.update(batch, self.updates))
        self.updates += 1

    def measure(self, seconds: float) -> Measurement:
        return timed_updates(self._update, self.batches, seconds)


def tensors(arrays: PaddedBatch) -> Batch:
    """Returns a batch as TensorFlow takes it."""
    return Batch(*map(tf.constant, arrays))
