"""Greedy decoding as one writes it in PyTorch: an LSTM, then an LSTM cell a step."""

from collections.abc import Sequence

import click
import tensorflow as tf
import torch

from common import seconds_of_each, weights_by_path
from pocketseq.pipeline.text.special import END
from pocketseq.pipeline.translator import ModelTranslator
from pytorch_network import PyTorchNetwork, load_weights

# Sums are rounded differently, so the likeliest of two tokens may be the other one.
_EQUAL_SHARE = 0.98


class PyTorchDecoder:
    """The network of a translator in PyTorch, on one thread.

    Starts from token ids, so that text handling is not counted.

    Args:
        translator: With a network that :func:`common.comparison_problem` passes.
        texts: What to translate.

    Raises:
        ClickException: The two write different tokens.
    """

    def __init__(self, translator: ModelTranslator, texts: Sequence[str]) -> None:
        torch.set_num_threads(1)
        source, target = translator.source_tokenizer, translator.target_tokenizer
        self.network = PyTorchNetwork(
            translator.config.model,
            (len(source), len(target)),
            packed=True,
            stepwise=True,
        )
        load_weights(self.network, weights_by_path(translator.model))
        self.network.eval()
        self.most = translator.max_target_tokens
        ids = source.tokenize(tf.constant(texts)).to_list()
        self.ids = [torch.tensor(row) for row in ids]
        self.seconds()
        self._check(translator, texts)

    def _check(self, translator: ModelTranslator, texts: Sequence[str]) -> None:
        found = [best for (best,) in translator.translate(texts, beam_size=1)]
        equal = sum(
            self.decode(ids) == [i for i in best.token_ids or () if i != END]
            for ids, best in zip(self.ids, found, strict=True)
        )
        if equal < _EQUAL_SHARE * len(texts):
            raise click.ClickException(
                f"PyTorch writes the same for {equal} of {len(texts)} only"
            )

    def decode(self, ids: torch.Tensor) -> list[int]:
        """Returns the tokens of a text, without the end token."""
        with torch.inference_mode():
            return self.network.greedy(ids, self.most)

    def seconds(self) -> list[float]:
        """Returns the seconds that each text takes."""
        return seconds_of_each(self.decode, self.ids)
