"""Lexicons: the pronunciations of words as speech programs read them, line by line."""

import json
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from pocketseq.pipeline.data.corpora import Corpus, blocks, lines_of
from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.translation import TextTranslator

# Words that are translated at once.
_BLOCK = 1024


@dataclass(frozen=True)
class Pronunciation:
    """One pronunciation of a word.

    ``symbols``: its phones. ``score``: of the model; None: it is from a dictionary.
    """

    word: str
    symbols: tuple[str, ...]
    score: float | None = None


#: How a pronunciation is a line, by the name of the format.
FORMATS: dict[str, Callable[[Pronunciation], str]] = {
    "sherpa": lambda one: " ".join([one.word, *one.symbols]),
    "kaldi": lambda one: f"{one.word}\t{' '.join(one.symbols)}",
    "json": lambda one: json.dumps(
        {
            "word": one.word,
            "symbols": one.symbols,
            "score": None if one.score is None else round(one.score, 6),
        },
        ensure_ascii=False,
    ),
}


class Lexicon:
    """Finds pronunciations: in a dictionary first, else by a model.

    Args:
        translator: The model.
        dictionary: Pairs of word and pronunciation, of which all count; None: no words
            are known. Words are found as they are written, and as the model reads them
            (in lower case, say).
        n_best: How many pronunciations the model gives for a word.
    """

    def __init__(
        self,
        translator: TextTranslator,
        dictionary: Corpus | None = None,
        n_best: int = 1,
    ) -> None:
        self._translator = translator
        self._n_best = n_best
        self._normalize = translator.knowledge.source.normalization.apply
        self._known: dict[str, list[str]] = {}
        self._known_normalized: dict[str, list[str]] = {}
        if dictionary is not None:
            self._known = dictionary.references(dictionary.checked())
        for word, found in self._known.items():
            self._known_normalized.setdefault(self._normalize(word), found)
        #: Words that are left out: without any pronunciation, or of several words.
        self.silent: list[str] = []
        self.phrases: list[str] = []

    def pronunciations(self, words: Iterable[str]) -> Iterator[Pronunciation]:
        """Yields the pronunciations of different words, in their order.

        Args:
            words: NFC; one that has been before is passed over.
        """
        for block in blocks(filter(self._is_one, _once(words)), _BLOCK):
            unknown = [word for word in block if self._entries(word) is None]
            found = self._translator.translate(unknown, n_best=self._n_best)
            by_model = dict(zip(unknown, found, strict=True))
            for word in block:
                some = [
                    Pronunciation(word, self._symbols(text))
                    for text in dict.fromkeys(self._entries(word) or ())
                ] or [
                    Pronunciation(word, self._symbols(one.text), one.score)
                    for one in by_model.get(word, ())
                    if one.text.strip()
                ]
                if not some:
                    self.silent.append(word)
                yield from some

    def _is_one(self, word: str) -> bool:
        if len(word.split()) > 1:
            self.phrases.append(word)
            return False
        return True

    def _entries(self, word: str) -> list[str] | None:
        return self._known.get(word) or self._known_normalized.get(
            self._normalize(word)
        )

    def _symbols(self, text: str) -> tuple[str, ...]:
        if self._translator.target_kind == "word":
            return tuple(text.split())
        return tuple(character for character in text if not character.isspace())


def _once(words: Iterable[str]) -> Iterator[str]:
    seen = set()
    for word in words:
        if word not in seen:
            seen.add(word)
            yield word


def read_symbols(path: str) -> set[str]:
    """Returns the symbols of a ``tokens.txt``: lines of a symbol and its number.

    Raises:
        UserError: There is no such file, or a line is not of that form; names it.
    """
    found = set()
    for number, line in lines_of(path):
        if line is None:
            raise UserError(f"{path}:{number}: not UTF-8")
        if not line.strip():
            continue
        symbol, _, index = line.rpartition(" ")
        if not index.isdecimal():
            symbol, _, index = line.rpartition("\t")
        if not (symbol and index.isdecimal()):
            raise UserError(f"{path}:{number}: expected a symbol and its number")
        found.add(unicodedata.normalize("NFC", symbol))
    return found


def unknown_symbols(
    counts: Mapping[str, int], known: set[str]
) -> list[tuple[str, int]]:
    """Returns the (symbol, count) that are not known, the most frequent first."""
    unknown = [(one, count) for one, count in counts.items() if one not in known]
    return sorted(unknown, key=lambda pair: -pair[1])
