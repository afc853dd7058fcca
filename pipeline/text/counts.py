"""Counts of characters and words: bounded in memory, and what decomposing changes.

Normal forms are made code point by code point, so the counts of a text's normal form
follow from the counts of the text: a corpus is read once, and its normal form may be
decided afterwards.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from pocketseq.pipeline.text.normalization import Normalization

#: Canonical decomposition alone.
DECOMPOSED = Normalization(decompose=True)

#: A character seen fewer times than this in training is poorly known.
SELDOM = 10

# Percent of poorly known characters from which decomposing may pay, and how many there
# must be, so that a few odd ones in a small file decide nothing.
_WORTH_DECOMPOSING = 2.0
_FEWEST = 10

# The largest number of distinct words or characters that are counted at a time.
_MOST_COUNTED = 1_000_000


def add_bounded(counts: Counter[str], units: Iterable[str]) -> None:
    """Adds units of text to counts.

    Memory is bounded for any corpus: when there are more than a million entries, the
    rarer half is dropped. References: Manku and Motwani 2002, "Approximate frequency
    counts over data streams".
    """
    counts.update(units)
    if len(counts) > _MOST_COUNTED:
        kept = counts.most_common(_MOST_COUNTED // 2)
        counts.clear()
        counts.update(dict(kept))


def in_form(
    counts: Mapping[str, int],
    normalization: Normalization,
    split: Callable[[str], Iterable[str]] = list,
) -> Counter[str]:
    """Returns the counts that the normal form of the counted texts has.

    Args:
        counts: ``{unit of text: how often it occurs}``.
        normalization: What is done to the texts.
        split: From normal text to its units; by default its characters.
    """
    normal: Counter[str] = Counter()
    for unit, count in counts.items():
        for part in split(normalization.apply(unit)):
            normal[part] += count
    return normal


class Coverage(NamedTuple):
    """How well the characters of some text are known from training.

    ``alphabet``: how many different ones training has; ``characters``: how many the
    text has in all; ``unknown``: how many of them training lacks; ``seldom``: how many
    it has fewer than ten times, those included.
    """

    alphabet: int
    characters: int
    unknown: int
    seldom: int

    @property
    def unknown_percent(self) -> float:
        return 100 * self.unknown / max(self.characters, 1)

    @property
    def seldom_percent(self) -> float:
        return 100 * self.seldom / max(self.characters, 1)


def coverage(known: Mapping[str, int], text: Mapping[str, int]) -> Coverage:
    """Returns how well counted characters of a text are known.

    Args:
        known: ``{character: how often training has it}``.
        text: The same of the text.
    """
    return Coverage(
        len(known),
        sum(text.values()),
        sum(n for c, n in text.items() if not known.get(c)),
        sum(n for c, n in text.items() if known.get(c, 0) < SELDOM),
    )


def coverage_of_itself(known: Mapping[str, int]) -> Coverage:
    """Returns how well training knows each of its characters from all the others.

    It estimates what unseen text of the same kind has: the share of characters that
    occur once is that of unknown ones. References: Good 1953, "The population
    frequencies of species".
    """
    return Coverage(
        len(known),
        sum(known.values()),
        sum(1 for n in known.values() if n == 1),
        sum(n for n in known.values() if n - 1 < SELDOM),
    )


def decomposing_pays(known: Mapping[str, int], dev: Mapping[str, int]) -> bool:
    """Returns whether canonical decomposition makes characters better known.

    It lengthens texts, so it must pay: at least 2 % of the characters of the dev texts,
    or of training left one by one out of itself, are poorly known (seen fewer than ten
    times), and decomposed at most half as large a part of them is. Korean syllables are
    such characters; accented letters seldom are.

    Args:
        known: ``{character: how often training has it}``, not decomposed.
        dev: The same of the dev texts.
    """
    known_parts, dev_parts = in_form(known, DECOMPOSED), in_form(dev, DECOMPOSED)
    views = (
        (coverage_of_itself(known), coverage_of_itself(known_parts)),
        (coverage(known, dev), coverage(known_parts, dev_parts)),
    )
    return any(
        composed.seldom >= _FEWEST
        and composed.seldom_percent >= _WORTH_DECOMPOSING
        and parts.seldom_percent <= composed.seldom_percent / 2
        for composed, parts in views
    )


def percent(share: float) -> str:
    """Returns a percentage with as many digits as tell it from 0 and from 100."""
    for digits in (1, 2):
        text = f"{share:.{digits}f}"
        if float(text) not in (0, 100) or float(text) == share:
            return f"{text} %"
    return f"{share:.3f} %"
