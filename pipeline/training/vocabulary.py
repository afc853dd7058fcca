"""The vocabularies of a new run: counted in one pass, decomposed if that pays."""

import dataclasses
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from pocketseq.pipeline.configuration import Config, SideConfig
from pocketseq.pipeline.data.corpora import Pair
from pocketseq.pipeline.text.counts import decomposing_pays, in_form
from pocketseq.pipeline.text.normalization import NO_NORMALIZATION, Normalization
from pocketseq.pipeline.text.tokenizers import TOKENIZERS, Tokenizer

logger = logging.getLogger(__name__)


class VocabularyCounts:
    """What tokenizers learn from, counted while something else reads the pairs.

    Texts are counted as they are read: what their normal form has follows from that, so
    that it can be decided afterwards.

    Args:
        config: The recipe.
    """

    def __init__(self, config: Config) -> None:
        self._kinds = [TOKENIZERS[side.tokenizer] for side in _sides(config)]
        self._counts: list[Counter[str]] = [Counter(), Counter()]

    def over(self, pairs: Iterable[Pair]) -> Iterator[Pair]:
        """Yields the pairs unchanged."""
        for pair in pairs:
            for kind, text, counts in zip(self._kinds, pair, self._counts, strict=True):
                kind.count(text, NO_NORMALIZATION, counts)
            yield pair

    def decided(
        self, config: Config, references: Mapping[str, Sequence[str]]
    ) -> Config:
        """Returns the recipe, in which ``decompose`` is no longer left open.

        Args:
            config: The recipe.
            references: ``{source: [its targets]}`` of the dev set.
        """
        targets = [text for accepted in references.values() for text in accepted]
        sides = []
        for name, side, counts, texts in zip(
            ("source", "target"), _sides(config), self._counts, (references, targets),
            strict=True,
        ):  # fmt: skip
            if side.decompose == "auto":
                side = dataclasses.replace(side, decompose=_pays(side, counts, texts))
                logger.info(
                    "%s.decompose: %s", name, "true" if side.decompose else "false"
                )
            sides.append(side)
        source, target = sides
        return dataclasses.replace(config, source=source, target=target)

    def tokenizers(self, config: Config) -> tuple[Tokenizer, Tokenizer]:
        """Returns the source and the target tokenizer.

        Args:
            config: The recipe, in which nothing of the texts is left open.
        """
        both = self._counts[0] + self._counts[1]
        source, target = (
            _learned(side, both if side.joint_vocabulary else counts)
            for side, counts in zip(_sides(config), self._counts, strict=True)
        )
        return source, target


def decided_by(config: Config, tokenizers: tuple[Tokenizer, Tokenizer]) -> Config:
    """Returns the recipe, in which ``decompose`` is as in tokenizers that are given."""
    source, target = (
        dataclasses.replace(side, decompose=tokenizer.normalization.decompose)
        for side, tokenizer in zip(_sides(config), tokenizers, strict=True)
    )
    return dataclasses.replace(config, source=source, target=target)


def _sides(config: Config) -> tuple[SideConfig, SideConfig]:
    return config.source, config.target


def _pays(side: SideConfig, counts: Mapping[str, int], texts: Iterable[str]) -> bool:
    """Returns whether decomposing pays; for whole words it changes nothing."""
    if side.tokenizer == "word":
        return False
    folded = Normalization(side.fold_case)
    dev = Counter(character for text in texts for character in text)
    return decomposing_pays(in_form(counts, folded), in_form(dev, folded))


def _learned(side: SideConfig, counts: Mapping[str, int]) -> Tokenizer:
    kind = TOKENIZERS[side.tokenizer]
    if not isinstance(side.decompose, bool):
        raise ValueError(f"decompose must be decided, received {side.decompose!r}")
    normalization = Normalization(side.fold_case, side.decompose)
    return kind.from_counts(
        in_form(counts, normalization, kind.split),
        normalization,
        max_code_points=side.max_code_points,
        minimum_count=side.minimum_count,
        vocabulary_size=side.vocabulary_size,
    )
