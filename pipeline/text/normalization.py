"""Normalisation: one frozen table from code points to a tokenizer's alphabet.

The table is made once, when a tokenizer learns its alphabet, and saved with it: tf.data
and the TFLite graph read the same table, whatever Unicode version runs them later.
"""

import sys
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from pocketseq.pipeline.text.special import UNKNOWN_PIECE

#: The code points with the Unicode property White_Space.
WHITE_SPACE = frozenset(
    map(
        chr,
        [
            *range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B),
            0x2028, 0x2029, 0x202F, 0x205F, 0x3000,
        ],
    )
)  # fmt: skip

#: The largest number of code points that one code point may become.
MAXIMUM_EXPANSION = 4

# Code points in a page: a lookup takes the page first, then the place in it.
PAGE_SIZE = 256


@dataclass(frozen=True)
class Normalization:
    """Changes to text beyond NFC, per code point, without reordering.

    Args:
        fold_case: Full Unicode case folding.
        decompose: Canonical decomposition, which splits Korean syllables into letters
            and accented letters into letter and accent.
    """

    fold_case: bool = False
    decompose: bool = False

    def apply(self, text: str) -> str:
        """Returns the text with each code point replaced by its normal form."""
        if self.fold_case:
            text = "".join(map(str.casefold, text))
        if self.decompose:
            text = "".join(unicodedata.normalize("NFD", c) for c in text)
        return text


#: NFC only.
NO_NORMALIZATION = Normalization()


def frozen_table(
    normalization: Normalization, alphabet: Iterable[str]
) -> dict[str, str]:
    """Returns the table for an alphabet: ``{character: its normal form}``.

    Every code point whose normal form contains a character of the alphabet has an
    entry, in which other characters are replaced by U+FFFD. A code point without an
    entry becomes U+FFFD.

    Args:
        normalization: What is done besides NFC.
        alphabet: The known characters, in normal form.
    """
    known = set(alphabet)
    changed = _changed_forms(normalization)
    # Sorted, so that equal tokenizers make equal files.
    table = {c: c for c in sorted(known) if c not in changed}
    for character, form in changed.items():
        if not known.isdisjoint(form):
            known_form = [c if c in known else UNKNOWN_PIECE for c in form]
            table[character] = "".join(known_form)[:MAXIMUM_EXPANSION]
    return table


@cache
def _changed_forms(normalization: Normalization) -> dict[str, str]:
    """Returns ``{character: its normal form}`` where the two differ."""
    surrogates = range(0xD800, 0xE000)
    characters = (chr(n) for n in range(1, sys.maxunicode + 1) if n not in surrogates)
    forms = ((character, normalization.apply(character)) for character in characters)
    return {character: form for character, form in forms if form != character}


@dataclass(frozen=True)
class PagedTable:
    """A table of code points as arrays, for lookup by two gathers.

    The form of code point ``c`` is ``forms[page_of[c // 256] * 256 + c % 256]``; code
    points beyond the last page use the last page.

    ``page_of``: int32 ``(pages,)``. ``forms``: int16, or int32 for a large alphabet,
    ``(256 * used pages, width)``: alphabet numbers, padded with 0.
    """

    page_of: npt.NDArray[np.int32]
    forms: npt.NDArray[np.int16] | npt.NDArray[np.int32]

    @property
    def width(self) -> int:
        """The largest number of characters that one code point becomes."""
        return self.forms.shape[1]


def paged_table(
    table: Mapping[str, str], number_of: Mapping[str, int], unknown: int
) -> PagedTable:
    """Returns a table as a :class:`PagedTable`.

    Args:
        table: ``{character: its normal form}``, as :func:`frozen_table` makes it.
        number_of: ``{character of a normal form: its number}``, above 0.
        unknown: The number of every code point without an entry.
    """
    width = max(map(len, table.values()), default=1)
    largest = max(number_of.values(), default=unknown)
    dtype = np.int16 if largest <= np.iinfo(np.int16).max else np.int32
    by_page: dict[int, np.ndarray] = {}
    for character, form in table.items():
        page, place = divmod(ord(character), PAGE_SIZE)
        if page not in by_page:
            by_page[page] = _unknown_page(width, unknown, dtype)
        by_page[page][place] = 0
        by_page[page][place, : len(form)] = [number_of[c] for c in form]
    # The page of unknowns stands for pages without an entry and those beyond the last.
    page_of = np.zeros(max(by_page, default=0) + 2, np.int32)
    pages = [_unknown_page(width, unknown, dtype)]
    for page in sorted(by_page):
        page_of[page] = len(pages)
        pages.append(by_page[page])
    return PagedTable(page_of, np.concatenate(pages))


def _unknown_page(
    width: int, unknown: int, dtype: type[np.int16] | type[np.int32]
) -> np.ndarray:
    """Returns a page ``(256, width)`` on which every code point is unknown."""
    page = np.zeros((PAGE_SIZE, width), dtype)
    page[:, 0] = unknown
    return page
