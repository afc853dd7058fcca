"""Words without targets, to be translated: from files or installed lists."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from pocketseq.pipeline.data.corpora import Pair, content_hash, lines_of
from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.text.special import UNKNOWN_PIECE

if TYPE_CHECKING:
    from pocketseq.pipeline.text.tokenizers import Tokenizer

_WORDFREQ = "wordfreq:"


def read_words(name: str) -> Iterator[str]:
    """Yields the words of a list, NFC, in its order.

    Args:
        name: A file of UTF-8 lines, also ``.gz``, of which the first column counts; or
            ``wordfreq:LANGUAGE``: the list of that package, frequent words first.

    Raises:
        UserError: There is no such list, or a line is not UTF-8.
    """
    if name.startswith(_WORDFREQ):
        yield from _wordfreq(name.removeprefix(_WORDFREQ))
        return
    for number, line in lines_of(name):
        if line is None:
            raise UserError(f"{name}:{number}: not UTF-8")
        word = unicodedata.normalize("NFC", line.partition("\t")[0]).strip()
        if word:
            yield word


def _wordfreq(language: str) -> Iterator[str]:
    try:
        import wordfreq
    except ImportError as error:
        raise UserError(
            f"wordfreq:{language}: the package is missing, expected it installed "
            f"(pip install wordfreq)"
        ) from error
    try:
        words = wordfreq.iter_wordlist(language, wordlist="best")
    except LookupError as error:
        known = ", ".join(sorted(wordfreq.available_languages()))
        raise UserError(
            f"wordfreq:{language}: no such list, expected one of {known}"
        ) from error
    for word in words:
        yield unicodedata.normalize("NFC", word)


class KnownSources:
    """The source texts of some pairs, as eight bytes each, so that millions fit.

    Two texts count as one where their normal forms are equal.

    Args:
        pairs: Of the corpora whose sources are known.
        tokenizer: The source tokenizer.
    """

    def __init__(self, pairs: Iterable[Pair], tokenizer: Tokenizer) -> None:
        self._normalization = tokenizer.normalization
        hashes = (content_hash(self._normal(pair.source)) for pair in pairs)
        self._hashes = np.unique(np.fromiter(hashes, np.uint64))

    def _normal(self, text: str) -> str:
        return self._normalization.apply(text)

    def __contains__(self, text: str) -> bool:
        wanted = np.uint64(content_hash(self._normal(text)))
        place = int(np.searchsorted(self._hashes, wanted))
        return place < len(self._hashes) and bool(self._hashes[place] == wanted)


def new_words(
    words: Iterable[str], known: KnownSources, tokenizer: Tokenizer, most: int
) -> Iterator[str]:
    """Yields the words that a student may learn from: new ones, of known characters.

    Args:
        words: As :func:`read_words` yields them.
        known: What no word may be: the sources of the training, dev and test sets.
        tokenizer: The source tokenizer, whose characters count.
        most: Yields no more than this.
    """

    def is_usable(word: str) -> bool:
        is_known = all(c != UNKNOWN_PIECE for c, _ in tokenizer.characters(word))
        return is_known and tokenizer.fits(word) and word not in known

    return islice(filter(is_usable, words), most)
