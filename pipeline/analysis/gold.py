"""Attention beside gold alignments: does each symbol look at its own letters?"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from pocketseq.pipeline.analysis.attended import symbol_starts
from pocketseq.pipeline.data.alignments import AlignedPair
from pocketseq.pipeline.translation import Translation


@dataclass(frozen=True)
class AlignmentResult:
    """How often attention finds the letters of a symbol.

    ``texts``: sources that have a gold alignment. ``right``: those whose output is that
    of one; only they are judged. ``symbols``: of these outputs, aligned with letters.
    ``aligned``: the percent of them whose largest weight falls on their letters.
    ``diagonal``: the same of a straight line from corner to corner; None: no symbols.
    """

    texts: int
    right: int
    symbols: int
    aligned: float | None
    diagonal: float | None

    def to_json(self) -> dict[str, float | int | None]:
        """Returns it as a JSON object, percents rounded."""
        return {
            "texts": self.texts,
            "right": self.right,
            "symbols": self.symbols,
            "aligned": _rounded(self.aligned),
            "diagonal": _rounded(self.diagonal),
        }


def by_source(pairs: Iterable[AlignedPair]) -> dict[str, list[AlignedPair]]:
    """Returns the alignments of each source, in the order of first appearance."""
    found: dict[str, list[AlignedPair]] = {}
    for pair in pairs:
        found.setdefault(pair.source, []).append(pair)
    return found


def judge_attention(
    translations: Sequence[Translation], gold: dict[str, list[AlignedPair]], kind: str
) -> AlignmentResult:
    """Compares the attention of some outputs with gold alignments.

    An output with other symbols has no gold alignment, and is left out. A symbol of
    several code points is judged by its first. Where several source code points have
    the largest weight, each counts for its share of one.

    Args:
        translations: One for each source, with alignments.
        gold: ``{source: its alignments}``, in the same order.
        kind: Of the target tokenizer.
    """
    right = 0
    attended: list[float] = []
    diagonal: list[float] = []
    for translation, pairs in zip(translations, gold.values(), strict=True):
        found = _matching(translation, pairs, kind)
        if found is None:
            continue
        pair, starts, alignment = found
        right += 1
        for index, (start, places) in enumerate(zip(starts, pair.places, strict=True)):
            if not places:
                continue
            attended.append(_share_of_largest(alignment[start], places))
            middle = (index + 0.5) * len(pair.source) / len(pair.symbols)
            diagonal.append(float(int(middle) in places))
    return AlignmentResult(
        len(gold), right, len(attended), _percent(attended), _percent(diagonal)
    )


def _matching(
    translation: Translation, pairs: Sequence[AlignedPair], kind: str
) -> tuple[AlignedPair, Sequence[int], np.ndarray] | None:
    """Returns the gold alignment of an output, where its symbols begin, the attention.

    None: no gold alignment has its symbols.
    """
    attention = translation.alignment
    for pair in pairs:
        if translation.source != pair.source or attention is None:
            continue
        if kind == "word":
            starts = symbol_starts(translation.text, len(pair.symbols), kind)
            if starts is not None and translation.text.split() == list(pair.symbols):
                return pair, starts, attention
        elif translation.text == "".join(pair.symbols):
            ends = accumulate(map(len, pair.symbols), initial=0)
            return pair, list(ends)[:-1], attention
    return None


def _share_of_largest(weights: np.ndarray, places: range) -> float:
    """Returns the share of the largest weights, one or several, at some places."""
    largest = np.flatnonzero(weights >= weights.max() * (1 - 1e-6))
    return sum(place in places for place in largest.tolist()) / len(largest)


def _percent(hits: Sequence[float]) -> float | None:
    return 100 * sum(hits) / len(hits) if hits else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
