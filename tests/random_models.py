"""Models with random weights: what a search finds need not make sense to be compared.

A trained model avoids most of what can go wrong: it never loops, rarely copies, and its
candidates are far apart.
"""

import keras
import numpy as np

from pocketseq.pipeline.configuration import (
    ATTENTIONS,
    Config,
    ModelConfig,
    SearchConfig,
)
from pocketseq.pipeline.model import build_model
from pocketseq.pipeline.text.normalization import Normalization
from pocketseq.pipeline.text.special import END
from pocketseq.pipeline.text.tokenizers import TOKENIZERS
from pocketseq.pipeline.translator import ModelTranslator

#: What the tokenizers learn from, more than once so that wordpieces are learned.
SOURCES = ["Straße naïve ﬃ", "각하 ab abc", "aab bab # a##b", "cab dab"] * 2
TARGETS = ["ab aab", "xy é 각 zab", "abba x"] * 2

#: Real, odd and hostile texts; some are longer than any model here reads.
TEXTS = [
    "", " ", "   ", "\t a\u3000b\u00a0", "\u2028", "a", "a b", "  a  b  ", "ab aab",
    "cab dab", "abbaab", "Straße naïve", "각하 ab abc", "aab bab aab", "ﬃ ab", "ABC",
    "a\u0301e\u0301", "e\u0301\u0301\u0301", "ΐΰ", "İ", "q", "qq rr", "x\U0010ffffb",
    "\U0001f468\u200d\U0001f469", "שלום", "\u202eab", "\x01\x7f\x80", "ab\0ab", "\0",
    "<pad> <end>", "##a", "###a a### #a", "a\uffffb \ufdd0", "\ufffd ab", "\ud800a",
    "ﬃ" * 50, "각" * 50, "a" * 100, "a " * 50, "##" * 50, "cab dab ab" * 10,
]  # fmt: skip


def random_translator(
    source, target, *, lengths, normalization=None, end=0.0, seed=1, penalty=1.0,
    guards=(0, 0), length_bound=None, targets=TARGETS, target_normalization=None,
    **options,
):  # fmt: skip
    """Returns a :class:`ModelTranslator` whose outputs differ much from text to text.

    Args:
        source, target: The kinds of tokenizer.
        lengths: The largest numbers of code points, of source and target.
        normalization: Of the source.
        end: What is added to the score of the end token.
        penalty: The length penalty.
        guards: See :class:`Guards`.
        length_bound: :class:`LengthBound`, or None.
        targets: What the target tokenizer learns from.
        target_normalization: Of the target.
        options: For :class:`ModelConfig`.
    """
    source_tokenizer = TOKENIZERS[source].learn(
        SOURCES, normalization or Normalization(), max_code_points=lengths[0]
    )
    target_tokenizer = TOKENIZERS[target].learn(
        targets,
        target_normalization or Normalization(),
        max_code_points=lengths[1],
        vocabulary_size=60,
    )
    if "attention" in options:
        score = options["attention"]
        options["attention"] = ATTENTIONS[score](score=score)
    config = Config(
        model=ModelConfig(embedding_size=8, units=12, dropout=0.0, **options),
        search=SearchConfig(1, penalty, *guards),
    )
    keras.utils.set_random_seed(seed)
    model = build_model(config.model, len(source_tokenizer), len(target_tokenizer))
    random = np.random.default_rng(seed)
    for weight in model.trainable_weights:
        if weight.shape.rank:
            weight.assign(random.normal(size=weight.shape))
    translator = ModelTranslator(
        model, source_tokenizer, target_tokenizer, config, length_bound
    )
    add_to_end(translator, end)
    return translator


def add_to_end(translator, number):
    """Lets all hypotheses end sooner or later: -1e4 means never."""
    bias = translator.model.decoder.output_bias
    values = bias.numpy()
    values[END] += number
    bias.assign(values)
