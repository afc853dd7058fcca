"""Training pairs, as far as they explain answers: how often symbols were seen."""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pocketseq.pipeline.data.corpora import Corpus
from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.text.known import KnownText, symbols_of
from pocketseq.pipeline.text.normalization import Normalization
from pocketseq.pipeline.translation import Knowledge

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SourceSymbols:
    """How source texts are split into the symbols that people count.

    Letters stay whole where a model decomposes them, because a reader wants to know of
    the letters that stand in the file.

    Args:
        kind: Of the source tokenizer.
        fold_case: Whether capitals count as small letters.
    """

    kind: str
    fold_case: bool

    @classmethod
    def of(cls, sides: Iterable[KnownText]) -> "SourceSymbols":
        """Returns the symbols that suit the source sides of some models."""
        first, *others = sides
        folded = any(side.normalization.fold_case for side in [first, *others])
        return cls(first.kind, folded)

    def split(self, text: str) -> list[str]:
        """Returns the symbols of a text, without spaces."""
        form = Normalization(fold_case=self.fold_case).apply(text)
        return [one for one in symbols_of(form, self.kind) if not one.isspace()]


@dataclass
class TrainingPairs:
    """What training pairs, or else the texts of a file, say of the texts of that file.

    ``counts``: how often each source symbol occurs. ``where``: what was counted, for
    people. ``is_training``: whether these are training pairs. ``targets``: the targets
    that training has for a source of the file.
    """

    counts: Counter[str]
    where: str
    is_training: bool
    targets: dict[str, list[str]] = field(default_factory=dict)

    def rarest(self, symbols: Sequence[str]) -> int:
        """Returns how often the rarest of some symbols was counted; 0 of none."""
        return min((self.counts[symbol] for symbol in symbols), default=0)


def read_training_pairs(
    models: Sequence[Knowledge], sources: Sequence[str], symbols: SourceSymbols
) -> TrainingPairs:
    """Counts symbols in the training pairs of the first model that has them.

    Where no model does, in the texts themselves.

    Args:
        models: Their knowledge, in order.
        sources: The source texts of a file.
        symbols: How to split them.
    """
    for knowledge in models:
        if knowledge.training is not None:
            try:
                return _counted(knowledge.training, sources, symbols)
            except (UserError, OSError) as error:
                logger.info("training pairs cannot be read: %s", error)
    counts: Counter[str] = Counter()
    for source in sources:
        counts.update(symbols.split(source))
    return TrainingPairs(counts, "this file", is_training=False)


def _counted(
    training: Corpus, sources: Sequence[str], symbols: SourceSymbols
) -> TrainingPairs:
    counts: Counter[str] = Counter()
    targets: dict[str, list[str]] = {}
    wanted = set(sources)
    for pair in training:
        counts.update(symbols.split(pair.source))
        if pair.source in wanted:
            targets.setdefault(pair.source, []).append(pair.target)
    return TrainingPairs(
        counts, Path(training.source).name, is_training=True, targets=targets
    )
