"""The run folder and the batches that the contenders share.

Imports TensorFlow inside functions: only processes of :mod:`training.workers` call
them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pocketseq.pipeline.configuration import Config
from training.contenders import Examples
from training.work import PaddedBatch

# Batches that PyTorch and stock Keras take in turn: one epoch, if it is not longer.
_KEPT_BATCHES = 2000


class Preparation:
    """Makes a run folder, and the batches of an epoch.

    Args:
        folder: The run folder, which is made.
        config: The recipe.
    """

    def __init__(self, folder: Path, config: Config) -> None:
        from pocketseq.pipeline.runs import Run
        from pocketseq.pipeline.training.preparation import start_run

        start_run(Run(folder), config)
        self.config, self.folder = config, folder

    def examples(self) -> Examples:
        """Returns the first batches of epoch 0, all shapes among them."""
        (source, target), batches = tokenizers_and_batches(self.folder, self.config)
        kept: list[PaddedBatch] = []
        shapes = set()
        for epoch, batch in batches:
            if int(epoch[0]) > 0:
                break
            arrays = PaddedBatch(*(np.array(part) for part in batch[:4]))
            if len(kept) < _KEPT_BATCHES or arrays.shape not in shapes:
                kept.append(arrays)
            shapes.add(arrays.shape)
        return Examples(kept, (len(source), len(target)))


def tokenizers_and_batches(
    folder: Path, config: Config
) -> tuple[tuple[Any, Any], Iterator[Any]]:
    """Returns the tokenizers of a run, and its training batches without end.

    The batches come as :func:`pocketseq.pipeline.data.batches.training_batches` gives
    them, each with the number of its epoch.
    """
    from pocketseq.pipeline.data.batches import training_batches
    from pocketseq.pipeline.data.corpora import training_corpora
    from pocketseq.pipeline.data.lengths import choose_buckets, measure_lengths
    from pocketseq.pipeline.runs import Run

    pairs, _ = training_corpora(config)
    source, target = Run(folder).load_tokenizers()
    buckets = choose_buckets(
        measure_lengths(pairs, source, target),
        batch_tokens=config.training.batch_tokens,
        most=config.training.buckets,
    )
    batches = training_batches(pairs, source, target, buckets, config, epoch=0)
    return (source, target), iter(batches)
