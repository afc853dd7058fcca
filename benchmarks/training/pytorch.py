"""The network in PyTorch, fed our bucketed batches, which lie ready in memory."""

import math
import os
from collections.abc import Sequence
from itertools import cycle

import torch

from pocketseq.pipeline.configuration import Config
from pocketseq.pipeline.machine import keep_freed_memory
from pytorch_network import PyTorchNetwork, TorchBatch, compile_parts, load_weights
from training.contenders import Examples, Precision, TorchSetting, Weights
from training.work import (
    Measurement,
    PaddedBatch,
    compile_seconds,
    first_of_each_shape,
    timed_updates,
)

_LEARNING_RATE = 1e-3


class PyTorch:
    """Training in PyTorch; see :class:`training.contenders.Trainer`.

    Args:
        config: The recipe.
        examples: What to train on.
        precision: Of matrix products.
        weights: To start from.
        setting: What to use until :meth:`use` says otherwise.
    """

    def __init__(
        self,
        config: Config,
        examples: Examples,
        precision: Precision,
        weights: Weights,
        setting: TorchSetting,
    ) -> None:
        keep_freed_memory()
        torch.manual_seed(config.training.seed)
        torch.set_num_threads(os.cpu_count())
        torch.set_flush_denormal(True)
        self.config, self.precision = config, precision
        self.initial_weights = weights
        self.vocabulary_sizes = examples.vocabulary_sizes
        self.batches = cycle([torch_batch(batch) for batch in examples.batches])
        self.shapes = list(map(torch_batch, first_of_each_shape(examples.batches)))
        self.use(setting)

    def use(self, setting: TorchSetting) -> None:
        """Makes the network and its optimizer anew."""
        self.network = PyTorchNetwork(
            self.config.model,
            self.vocabulary_sizes,
            packed=setting.packed,
            stepwise=self.config.model.input_feeding,
            label_smoothing=self.config.training.label_smoothing,
        )
        load_weights(self.network, self.initial_weights)
        if setting.compiled:
            compile_parts(self.network)
        weights = [w for w in self.network.parameters() if w.requires_grad]
        self.optimizer = torch.optim.Adam(
            weights, lr=_LEARNING_RATE, **{setting.optimizer: True}
        )

    def check(
        self, weights: Weights, batches: Sequence[PaddedBatch]
    ) -> list[tuple[float, float]]:
        results = []
        load_weights(self.network, weights)
        self.network.eval()
        for batch in batches:
            loss, norm = self._gradient(torch_batch(batch), math.inf)
            results.append((float(loss), float(norm)))
        self.network.train()
        load_weights(self.network, self.initial_weights)
        return results

    def _gradient(
        self, batch: TorchBatch, clip_norm: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Computes the gradient; returns the loss and the norm before clipping."""
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

    def _update(self, batch: TorchBatch) -> None:
        self._gradient(batch, self.config.training.clip_norm)
        self.optimizer.step()

    def warm_up(self) -> float:
        return compile_seconds(self._update, self.shapes)

    def measure(self, seconds: float) -> Measurement:
        return timed_updates(self._update, self.batches, seconds)


def torch_batch(batch: PaddedBatch) -> TorchBatch:
    """Returns a batch as PyTorch takes it, with its decoder inputs."""
    arrays = (*batch, batch.decoder_inputs)
    return TorchBatch(*(torch.tensor(array, dtype=torch.long) for array in arrays))
