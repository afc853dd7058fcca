"""Canonical composition of decomposed output text.

The counterpart of the canonical decomposition in
:mod:`pocketseq.pipeline.text.normalization`. This is the implementation in Python;
:mod:`pocketseq.export.graph.composition` does the same with TFLite builtins, from the
same tables.
"""

import sys
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

#: First code points of the Korean letters and syllables, whose composition is
#: arithmetic. The first final consonant stands for "none".
LEADING, VOWEL, FINAL, SYLLABLE = 0x1100, 0x1161, 0x11A7, 0xAC00
LEADINGS, VOWELS, FINALS = 19, 21, 28
SYLLABLES = LEADINGS * VOWELS * FINALS


@dataclass(frozen=True)
class Composition:
    """Canonical composition (NFC) of text over one alphabet of decomposed characters.

    Such text becomes ``unicodedata.normalize("NFC", text)``. A text may also contain
    characters outside the alphabet, copied from a source: each stays as it is, and
    nothing is reordered or composed across it. The result is always canonically
    equivalent to the text.

    Args:
        combining: ``{mark of the alphabet: its canonical combining class}``, above 0.
        composites: ``{(first, second): their composite}``, for all pairs that can
            arise from text over the alphabet.
        hangul: Whether letters of the alphabet compose to Korean syllables.

    References: The Unicode Standard, section 3.11, D108 to D117, and section 3.12.
    """

    combining: dict[str, int]
    composites: dict[tuple[str, str], str]
    hangul: bool

    def compose(self, text: str) -> tuple[str, list[int]]:
        """Composes a text.

        Returns:
            The composed text, and for each character of ``text`` the index in the
            composed text of the character that it became part of.
        """
        composed: list[str] = []
        places = [0] * len(text)
        starter, blocking = -1, 0  # last letter; class of the last mark kept after it
        for index in self._canonical_order(text):
            character = text[index]
            combining = self.combining.get(character, 0)
            composite = None
            if starter >= 0 and (not blocking or blocking < combining):
                composite = self._composite(composed[starter], character)
            if composite:
                composed[starter] = composite
                places[index] = starter
                continue
            if not combining:
                starter = len(composed)
            blocking = combining
            places[index] = len(composed)
            composed.append(character)
        return "".join(composed), places

    def _canonical_order(self, text: str) -> list[int]:
        """Returns the character indexes, the marks of each letter sorted by class."""
        keys: list[tuple[int, int]] = []
        letters = 0
        for character in text:
            combining = self.combining.get(character, 0)
            letters += not combining
            keys.append((letters, combining))
        return sorted(range(len(text)), key=keys.__getitem__)

    def _composite(self, first: str, second: str) -> str | None:
        """Returns the composite of two characters, None if they do not compose."""
        if self.hangul and (syllable := _syllable(ord(first), ord(second))):
            return chr(syllable)
        return self.composites.get((first, second))


def composition_of(alphabet: Iterable[str]) -> Composition | None:
    """Returns the :class:`Composition` of text over an alphabet.

    Args:
        alphabet: Characters, none of which has a canonical decomposition.

    Returns:
        None if all text over the alphabet is composed already.
    """
    known = set(alphabet)
    combining = {c: unicodedata.combining(c) for c in sorted(known)}
    combining = {c: order for c, order in combining.items() if order}
    composites = _reached(known)
    hangul = _holds(known, LEADING, LEADINGS) and _holds(known, VOWEL, VOWELS)
    may_reorder = len(set(combining.values())) > 1
    if not (may_reorder or composites or hangul):
        return None
    return Composition(combining, composites, hangul)


def _reached(alphabet: set[str]) -> dict[tuple[str, str], str]:
    """Returns the composites that can arise from text over an alphabet, by pair."""
    known = set(alphabet)
    composites: dict[tuple[str, str], str] = {}
    while reached := {
        pair: composite
        for pair, composite in _primary_composites().items()
        if pair not in composites and known.issuperset(pair)
    }:
        composites |= reached
        known |= set(reached.values())
    return composites


def _holds(characters: Iterable[str], start: int, size: int) -> bool:
    """Returns whether any character is one of the ``size`` code points from start."""
    return any(start <= ord(character) < start + size for character in characters)


@cache
def _primary_composites() -> dict[tuple[str, str], str]:
    """Returns ``{(first, second): composite}`` of Unicode, without Korean syllables."""
    composites = {}
    for character in map(chr, range(sys.maxunicode + 1)):
        parts = unicodedata.decomposition(character).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            # NFC changes the characters that Unicode excludes from composition.
            if unicodedata.normalize("NFC", character) == character:
                first, second = (chr(int(part, 16)) for part in parts)
                composites[first, second] = character
    return composites


def _syllable(first: int, second: int) -> int:
    """Returns the Korean syllable that two code points compose to, 0 if none."""
    leading, vowel, final = first - LEADING, second - VOWEL, second - FINAL
    if 0 <= leading < LEADINGS and 0 <= vowel < VOWELS:
        return SYLLABLE + (leading * VOWELS + vowel) * FINALS
    index = first - SYLLABLE
    open_syllable = 0 <= index < SYLLABLES and index % FINALS == 0
    return first + final if open_syllable and 0 < final < FINALS else 0
