"""Composition: what a decomposed target writes, put together again.

The counterpart of the canonical decomposition in
:mod:`pocketseq.pipeline.text.normalization`. This is the form in Python;
:mod:`pocketseq.export.graph.composition` does the same by TFLite builtins, from the
same tables.
"""

import sys
import unicodedata
from dataclasses import dataclass
from functools import cache

#: Korean letters and syllables, whose composition is arithmetic. The first final
#: consonant stands for none.
LEADING, VOWEL, FINAL, SYLLABLE = 0x1100, 0x1161, 0x11A7, 0xAC00
LEADINGS, VOWELS, FINALS = 19, 21, 28
SYLLABLES = LEADINGS * VOWELS * FINALS


@dataclass(frozen=True)
class Composition:
    """Canonical composition (NFC) of text over one alphabet of decomposed characters.

    Such text becomes what ``unicodedata.normalize("NFC", text)`` makes of it. A text
    may also hold characters from elsewhere, copied from a source: each stays as it is,
    and nothing moves or composes across it. The result is canonically equivalent to
    the text in any case.

    Args:
        combining: ``{mark of the alphabet: its canonical combining class}``, above 0.
        composites: ``{(first, second): what they compose to}``, for all pairs that
            text over the alphabet can come to.
        hangul: Whether the alphabet makes Korean syllables.

    References: The Unicode Standard, section 3.11, D108 to D117, and section 3.12.
    """

    combining: dict[str, int]
    composites: dict[tuple[str, str], str]
    hangul: bool

    def compose(self, text):
        """Composes a text.

        Returns:
            The composed text, and for each character of ``text`` the place in it of
            what that character is part of.
        """
        composed: list[str] = []
        places = [0] * len(text)
        starter, blocking = -1, 0  # the last letter, and a mark that was left behind it
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

    def _canonical_order(self, text):
        """Returns the places of the characters, marks on a letter sorted by class."""
        keys, letters = [], 0
        for character in text:
            combining = self.combining.get(character, 0)
            letters += not combining
            keys.append((letters, combining))
        return sorted(range(len(text)), key=keys.__getitem__)

    def _composite(self, first, second):
        """Returns what two characters compose to, None if they do not."""
        if self.hangul and (syllable := _syllable(ord(first), ord(second))):
            return chr(syllable)
        return self.composites.get((first, second))


def composition_of(alphabet):
    """Returns the :class:`Composition` of text over an alphabet.

    Args:
        alphabet: Characters, none of which has a canonical decomposition.

    Returns:
        None where all text over the alphabet is composed as it is.
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


def _reached(alphabet):
    """Returns the composites that text over an alphabet can come to, by their pairs."""
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


def _holds(characters, start, size):
    return any(start <= ord(character) < start + size for character in characters)


@cache
def _primary_composites():
    """Returns ``{(first, second): composite}``, Korean syllables left out.

    What is excluded from composition does not survive it.
    """
    composites = {}
    for character in map(chr, range(sys.maxunicode + 1)):
        parts = unicodedata.decomposition(character).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            if unicodedata.normalize("NFC", character) == character:
                first, second = (chr(int(part, 16)) for part in parts)
                composites[first, second] = character
    return composites


def _syllable(first, second):
    """Returns the Korean syllable that two code points compose to, 0 if none."""
    leading, vowel, final = first - LEADING, second - VOWEL, second - FINAL
    if 0 <= leading < LEADINGS and 0 <= vowel < VOWELS:
        return SYLLABLE + (leading * VOWELS + vowel) * FINALS
    index = first - SYLLABLE
    open_syllable = 0 <= index < SYLLABLES and index % FINALS == 0
    return first + final if open_syllable and 0 < final < FINALS else 0
