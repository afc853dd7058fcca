"""A survey of a corpus: all that one pass over it can count, without TensorFlow.

Memory per pair: 24 bytes of hashes, and at the end about 70 more to sort them. Counts
of characters and words are bounded, at about 150 MB.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pocketseq.pipeline.data.corpora import Corpus, Pair
from pocketseq.pipeline.data.sightings import Overlap, Sightings
from pocketseq.pipeline.text.counts import add_bounded

# Words are symbols, such as phones, if they come from a small inventory: the largest
# inventory, how often each must occur on average, and the percent that may occur once.
_LARGEST_INVENTORY = 2000
_USES_OF_A_SYMBOL = 3
_SINGLE_PERCENT = 2.0

# The control characters that are white space.
_SPACES = frozenset("\t\n\v\f\r\x1c\x1d\x1e\x1f\x85")


@dataclass
class TextCounts:
    """Counts of the texts of one side, as they are read: in NFC.

    ``words`` stand between white space. ``lengths``, ``decomposed_lengths`` (in code
    points) and ``words_per_text``: ``{number: how many texts}``. ``padded`` texts begin
    or end with white space; ``damaged`` ones have U+FFFD or control characters.
    """

    characters: Counter[str] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)
    lengths: Counter[int] = field(default_factory=Counter)
    decomposed_lengths: Counter[int] = field(default_factory=Counter)
    words_per_text: Counter[int] = field(default_factory=Counter)
    padded: int = 0
    damaged: int = 0

    def add(self, text: str) -> None:
        """Counts a text."""
        words = text.split()
        add_bounded(self.characters, text)
        add_bounded(self.words, words)
        self.words_per_text[len(words)] += 1
        self.lengths[len(text)] += 1
        decomposed = text if text.isascii() else unicodedata.normalize("NFD", text)
        self.decomposed_lengths[len(decomposed)] += 1
        self.padded += text != text.strip()
        self.damaged += "\ufffd" in text or _has_controls(text)

    @property
    def are_symbols(self) -> bool:
        """Whether the words come from a small inventory, as phones do."""
        tokens = self.words.total()
        single = sum(count == 1 for count in self.words.values())
        return (
            len(self.words) <= _LARGEST_INVENTORY
            and tokens >= _USES_OF_A_SYMBOL * len(self.words)
            and single <= max(2, tokens * _SINGLE_PERCENT / 100)
        )

    @property
    def usual_words(self) -> int:
        """The median number of words in a text."""
        return quantile(self.words_per_text, 0.5)

    @property
    def word_length(self) -> float:
        """The mean number of code points in a word."""
        code_points = sum(len(word) * count for word, count in self.words.items())
        return code_points / max(self.words.total(), 1)


def _has_controls(text: str) -> bool:
    """Returns whether there are control characters that are not white space."""
    return not text.isprintable() and any(
        unicodedata.category(c) == "Cc" and c not in _SPACES for c in text
    )


def quantile(counts: Mapping[int, int], share: float) -> int:
    """Returns the smallest number that a share of the numbers, 0 to 1, do not exceed.

    Args:
        counts: ``{number: how often}``.
        share: 0.5 is the median.
    """
    left = share * sum(counts.values())
    for number in sorted(counts):
        left -= counts[number]
        if left <= 0:
            return number
    return max(counts, default=0)


class Survey:
    """The counts of some corpora, which are read as one.

    Args:
        corpora: Their lines are checked on the way.

    Raises:
        UserError: A corpus has broken lines, or no pairs.
    """

    def __init__(self, corpora: Sequence[Corpus]) -> None:
        self.corpora = corpora
        self.sightings = Sightings()
        self.source, self.target = TextCounts(), TextCounts()
        for corpus in corpora:
            for pair in self.sightings.over(corpus.checked()):
                self.source.add(pair.source)
                self.target.add(pair.target)

    @property
    def pairs(self) -> int:
        return self.sightings.pairs

    def contradictory(self, most: int) -> list[tuple[str, list[str]]]:
        """Returns some sources with several targets, and two targets of each."""
        wanted = self.sightings.first_contradictory(most)
        found: dict[str, list[str]] = {}
        for source, target in self._of(wanted):
            targets = found.setdefault(source, [])
            target = " ".join(target.split())
            if target in targets or len(targets) == 2:
                continue
            targets.append(target)
            if sum(len(two) == 2 for two in found.values()) == len(wanted):
                break
        return list(found.items())

    def known_to(self, training: "Survey", most: int) -> list[str]:
        """Returns some sources that are in training, too."""
        wanted = self.sightings.first_known(training.sightings, most)
        found: dict[str, None] = {}
        for source, _ in self._of(wanted):
            found[source] = None
            if len(found) == len(wanted):
                break
        return list(found)

    def _of(self, hashes: set[int]) -> Iterator[Pair]:
        """Reads again the pairs whose source has one of the hashes."""
        if hashes:
            for corpus in self.corpora:
                yield from (pair for pair in corpus if hash(pair.source) in hashes)


class Surveys(NamedTuple):
    """The surveys of the training corpus, and of dev and test where there are any."""

    train: Survey
    dev: Survey | None = None
    test: Survey | None = None

    def others(self) -> dict[str, Survey]:
        """Returns dev and test by name."""
        named = {"dev": self.dev, "test": self.test}
        return {name: survey for name, survey in named.items() if survey is not None}

    def overlap(self, name: str, known: str = "train") -> Overlap | None:
        """Returns what one shares with another; None: one of them is missing."""
        one: Survey | None = getattr(self, name)
        other: Survey | None = getattr(self, known)
        if one is None or other is None:
            return None
        return one.sightings.overlap_with(other.sightings)
