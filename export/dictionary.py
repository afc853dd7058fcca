"""The dictionary of an export: texts whose answers are known, as a model reads them."""

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from pocketseq.export.exceptions import (
    Entry,
    ExceptionTable,
    Symbol,
    build_table,
)
from pocketseq.pipeline.data.corpora import Corpus, Pair, blocks
from pocketseq.pipeline.text.special import UNKNOWN_PIECE
from pocketseq.pipeline.text.tokenizers import Tokenizer
from pocketseq.pipeline.text.writing import write
from pocketseq.pipeline.translator import ModelTranslator

logger = logging.getLogger(__name__)

# Pairs that are turned into tokens together.
_BLOCK = 4096

_Ids = tuple[int, ...]

# New symbols that a note names.
_NAMED = 3

# Reasons for which a pair is left out.
_TOO_LONG = "longer than the model reads or writes"
_UNKNOWN_SOURCE = "with source characters that it does not know"
_ALIKE = "that differ from others in symbols alone that it does not know"
_EMPTY = "without text"


@dataclass(frozen=True)
class Word:
    """A text of the dictionary, and what a model is to answer.

    ``source``: as it was first written. ``entry``: its tokens, and those of its
    answers, the best first. ``answers``: these as a model writes them.
    """

    source: str
    entry: Entry
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Dictionary:
    """Texts whose answers are known, by their source tokens.

    ``name``: of the corpus, for people. ``words``: each has tokens that no other has.
    ``symbols``: target symbols that the model does not know, and the place of the first
    pair that has each. Their ids follow those of the vocabulary. ``left_out``: how many
    pairs were, by the reason. ``pairs``: how many there were.
    """

    name: str
    words: tuple[Word, ...]
    symbols: Mapping[Symbol, str]
    left_out: Mapping[str, int]
    pairs: int

    def notes(self) -> tuple[str, ...]:
        """Returns lines about new symbols, and about what was left out."""
        return (*self._new_symbols(), *self._left_out())

    def _new_symbols(self) -> Iterator[str]:
        if not self.symbols:
            return
        pairs = islice(self.symbols.items(), _NAMED)
        named = ", ".join(f"{symbol.piece} ({place})" for symbol, place in pairs)
        more = ", ..." if len(self.symbols) > _NAMED else ""
        yield (
            f"{self.name}: target symbols that the model does not know and that only "
            f"its exceptions have: {len(self.symbols):,}: {named}{more}"
        )

    def _left_out(self) -> Iterator[str]:
        if not self.left_out:
            return
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in self.left_out.items())
        left_out = sum(self.left_out.values())
        yield (
            f"{self.name}: {left_out:,} of {self.pairs:,} pairs cannot be exceptions: "
            f"{reasons}"
        )


def read_dictionary(
    corpus: Corpus,
    translators: Mapping[int, ModelTranslator],
    *,
    most_answers: int,
) -> Dictionary:
    """Reads a dictionary; several pairs with the same source tokens are alternatives.

    What the model cannot be made to answer is left out and counted.

    Args:
        corpus: The pairs.
        translators: The Keras model for each length of source texts in code points.
        most_answers: How many answers of a text to keep, from the first.

    Raises:
        UserError: The corpus cannot be read.
    """
    reader = _Reader(corpus, translators)
    for block in blocks(corpus.checked(), _BLOCK):
        reader.add(block)
    writer = _Writer(reader.translator, reader.symbols)
    words = (
        writer.word(source, ids, tuple(islice(targets.values(), most_answers)))
        for ids, (source, targets) in reader.found.items()
    )
    return Dictionary(
        corpus.source,
        tuple(words),
        reader.places(),
        dict(reader.left_out),
        reader.pairs,
    )


@dataclass
class _Reader:
    """Collects pairs by their source tokens.

    ``found``: ``{source ids: (source, {known target ids: target ids})}``, in the order
    of pairs. ``symbols``: the number and the first pair of each new symbol.
    """

    corpus: Corpus
    translators: Mapping[int, ModelTranslator]
    found: dict[_Ids, tuple[str, dict[_Ids, _Ids]]] = field(default_factory=dict)
    symbols: dict[Symbol, tuple[int, Pair]] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    pairs: int = 0

    @property
    def translator(self) -> ModelTranslator:
        """The one for the longest texts."""
        return self.translators[max(self.translators)]

    def add(self, pairs: Sequence[Pair]) -> None:
        """Adds some pairs."""
        translator = self.translator
        sources, targets = zip(*pairs, strict=True)
        for pair, source_ids, target_ids in zip(
            pairs,
            token_ids(translator.source_tokenizer, sources),
            token_ids(translator.target_tokenizer, targets),
            strict=True,
        ):
            self.pairs += 1
            if reason := self._reason(pair, source_ids, target_ids):
                self.left_out[reason] += 1
                continue
            _, answers = self.found.setdefault(source_ids, (pair.source, {}))
            target = self._with_symbols(pair, target_ids)
            if answers.setdefault(target_ids, target) != target:
                self.left_out[_ALIKE] += 1

    def places(self) -> dict[Symbol, str]:
        """Returns the new symbols, and where the first pair with each stands."""
        return {
            symbol: self.corpus.place_of(pair) if number < _NAMED else ""
            for symbol, (number, pair) in self.symbols.items()
        }

    def _reason(self, pair: Pair, source_ids: _Ids, target_ids: _Ids) -> str:
        """Returns why a pair is left out; empty: it is not."""
        if not (source_ids and target_ids):
            return _EMPTY
        if self._is_too_long(pair, target_ids):
            return _TOO_LONG
        source = self.translator.source_tokenizer
        if not source.unknown_ids.isdisjoint(source_ids):
            return _UNKNOWN_SOURCE
        return ""

    def _is_too_long(self, pair: Pair, target_ids: _Ids) -> bool:
        """Whether no signature reads the source, or the shortest that does cuts."""
        for _, translator in sorted(self.translators.items()):
            if translator.source_tokenizer.fits(pair.source):
                fits = translator.target_tokenizer.fits(pair.target)
                return not (fits and len(target_ids) < translator.max_target_tokens)
        return True

    def _with_symbols(self, pair: Pair, target_ids: _Ids) -> _Ids:
        """Returns target ids with those of new symbols in place of unknown ones."""
        tokenizer = self.translator.target_tokenizer
        if tokenizer.unknown_ids.isdisjoint(target_ids):
            return target_ids
        found = []
        spans = tokenizer.spans(pair.target)
        for number, span in zip(target_ids, spans, strict=True):
            if number not in tokenizer.unknown_ids:
                found.append(number)
                continue
            text = "".join(pair.target[index] for index in span)
            text = tokenizer.normalization.apply(text)
            piece = tokenizer.pieces[number].replace(UNKNOWN_PIECE, text)
            symbol = Symbol(piece, number)
            new, _ = self.symbols.setdefault(symbol, (len(self.symbols), pair))
            found.append(len(tokenizer) + new)
        return tuple(found)


def token_ids(tokenizer: Tokenizer, texts: Sequence[str]) -> list[_Ids]:
    """Returns the token ids of texts in NFC, without end tokens."""
    found = tokenizer.tokenize(list(texts))
    ids = found.flat_values.numpy().tolist()
    splits = found.row_splits.numpy().tolist()
    return [
        tuple(ids[start:end]) for start, end in zip(splits, splits[1:], strict=False)
    ]


class _Writer:
    """Writes answers as a model with new symbols does."""

    def __init__(self, translator: ModelTranslator, symbols: Iterable[Symbol]) -> None:
        pieces = (symbol.piece for symbol in symbols)
        self.tokenizer = translator.target_tokenizer.extended(pieces)
        self.composition = translator.composition

    def word(self, source: str, source_ids: _Ids, targets: tuple[_Ids, ...]) -> Word:
        answers = tuple(map(self._written, targets))
        return Word(source, Entry(source_ids, targets), answers)

    def _written(self, ids: _Ids) -> str:
        nothing = np.zeros((len(ids), 0))
        return write(ids, nothing, "", [], self.tokenizer, self.composition).text


def exceptions_of(
    dictionary: Dictionary,
    numbers: Collection[int],
    translators: Mapping[int, ModelTranslator],
) -> ExceptionTable:
    """Returns the table of some words, which no other word is mistaken for.

    Args:
        dictionary: All words.
        numbers: Which of them are exceptions.
        translators: Of :func:`read_dictionary`.
    """
    words = enumerate(dictionary.words)
    tokenizer = translators[max(translators)].source_tokenizer
    table = build_table(
        [dictionary.words[number].entry for number in sorted(numbers)],
        (word.entry.source_ids for i, word in words if i not in numbers),
        source_tokens=tokenizer.most_tokens,
        vocabulary_size=len(tokenizer),
    )
    return table._replace(symbols=tuple(dictionary.symbols))


def in_dictionary(
    dictionary: Dictionary, tokenizer: Tokenizer, texts: Sequence[str]
) -> int:
    """Returns how many of some texts in NFC are in a dictionary.

    Args:
        dictionary: The dictionary.
        tokenizer: The source tokenizer.
        texts: The texts.
    """
    known = {word.entry.source_ids for word in dictionary.words}
    return sum(ids in known for ids in token_ids(tokenizer, texts))
