"""What the comparison knows of those it compares, whatever they are built of."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

import numpy as np

from training.work import Measurement, PaddedBatch

Precision = Literal["float32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")

Who = Literal["ours", "keras", "keras_keeping_memory", "pytorch"]

#: The contenders of stock Keras layers: whether freed memory is kept.
STOCK_KERAS: dict[Who, bool] = {"keras": False, "keras_keeping_memory": True}

#: Weights by their path inside of our model.
Weights = Mapping[str, np.ndarray]


class Trainer(Protocol):
    """A contender, as its process serves it."""

    def check(
        self, weights: Weights, batches: Sequence[PaddedBatch]
    ) -> list[tuple[float, float]]:
        """Returns the loss and the gradient norm of each batch, without dropout.

        Both are of the mean loss per real target token, before clipping.
        """

    def warm_up(self) -> float:
        """Updates once for each shape; returns the seconds spent on compiling."""

    def measure(self, seconds: float) -> Measurement:
        """Measures updates for some seconds."""


class Examples(NamedTuple):
    """The batches of an epoch, and the sizes of the source and target vocabulary."""

    batches: list[PaddedBatch]
    vocabulary_sizes: tuple[int, int]


class TorchSetting(NamedTuple):
    """What people choose in PyTorch.

    ``packed``: whether the encoder's texts are packed, or padded and its gates shut on
    padding. ``optimizer``: how Adam goes through the weights. ``compiled``: whether
    ``torch.compile`` makes the attention, the step of the decoder and the loss; it
    leaves ``nn.LSTM`` as it is.
    """

    packed: bool = True
    optimizer: Literal["fused", "foreach"] = "fused"
    compiled: bool = False


def best_eager_setting(speed: Callable[[TorchSetting], float]) -> TorchSetting:
    """Returns the fastest setting without ``torch.compile``, one choice at a time.

    Args:
        speed: Measures a setting; called once for each that is tried.
    """
    best = TorchSetting()
    fastest = speed(best)
    for setting in (
        lambda best: best._replace(packed=False),
        lambda best: best._replace(optimizer="foreach"),
    ):
        tried = setting(best)
        found = speed(tried)
        if found > fastest:
            best, fastest = tried, found
    return best
