"""The dictionary of an export: texts whose answers are known, as a model reads them."""

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from pocketseq.export.exceptions import Entry, ExceptionTable, build_table
from pocketseq.pipeline.data.corpora import Corpus, Pair, blocks
from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.text.tokenizers import Tokenizer
from pocketseq.pipeline.text.writing import write
from pocketseq.pipeline.translator import ModelTranslator

logger = logging.getLogger(__name__)

# Pairs that are turned into tokens together.
_BLOCK = 4096

# Reasons for which a pair is left out.
_TOO_LONG = "longer than the model reads or writes"
_UNKNOWN_SOURCE = "with source characters that it does not know"
_UNKNOWN_TARGET = "with target symbols that it does not know"
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
    ``left_out``: how many pairs were, by the reason. ``pairs``: how many there were.
    """

    name: str
    words: tuple[Word, ...]
    left_out: Mapping[str, int]
    pairs: int

    def notes(self) -> tuple[str, ...]:
        """Returns a line about what was left out, if anything was."""
        if not self.left_out:
            return ()
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in self.left_out.items())
        left_out = sum(self.left_out.values())
        return (
            f"{self.name}: {left_out:,} of {self.pairs:,} pairs cannot be exceptions: "
            f"{reasons}",
        )


def read_dictionary(
    corpus: Corpus,
    translators: Mapping[int, ModelTranslator],
    *,
    most_answers: int,
    strict: bool,
) -> Dictionary:
    """Reads a dictionary; several pairs with the same source tokens are alternatives.

    What the model cannot be made to answer is left out and counted.

    Args:
        corpus: The pairs.
        translators: The Keras model for each length of source texts in code points.
        most_answers: How many answers of a text to keep, from the first.
        strict: Whether a target with a symbol that the model does not know is a mistake
            of the user's; in a dictionary that installs, it never is.

    Raises:
        UserError: There is such a target, or the corpus cannot be read.
    """
    reader = _Reader(corpus, translators, strict and not corpus.is_installed)
    for block in blocks(corpus.checked(), _BLOCK):
        reader.add(block)
    words = (
        _word(source, ids, list(islice(targets, most_answers)), reader.translator)
        for ids, (source, targets) in reader.found.items()
    )
    return Dictionary(corpus.source, tuple(words), dict(reader.left_out), reader.pairs)


@dataclass
class _Reader:
    """Collects pairs by their source tokens.

    ``found``: ``{source ids: (source, {target ids: None})}``, in the order of pairs.
    """

    corpus: Corpus
    translators: Mapping[int, ModelTranslator]
    strict: bool
    found: dict[tuple[int, ...], tuple[str, dict[tuple[int, ...], None]]] = field(
        default_factory=dict
    )
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
            answers[target_ids] = None

    def _reason(
        self, pair: Pair, source_ids: tuple[int, ...], target_ids: tuple[int, ...]
    ) -> str:
        """Returns why a pair is left out; empty: it is not."""
        source, target = (
            self.translator.source_tokenizer, self.translator.target_tokenizer
        )  # fmt: skip
        if not (source_ids and target_ids):
            return _EMPTY
        if self._is_too_long(pair, target_ids):
            return _TOO_LONG
        if not target.unknown_ids.isdisjoint(target_ids):
            if self.strict:
                raise self._unknown_symbol(pair, target_ids)
            return _UNKNOWN_TARGET
        if not source.unknown_ids.isdisjoint(source_ids):
            return _UNKNOWN_SOURCE
        return ""

    def _is_too_long(self, pair: Pair, target_ids: tuple[int, ...]) -> bool:
        """Whether no signature reads the source, or the shortest that does cuts."""
        for _, translator in sorted(self.translators.items()):
            if translator.source_tokenizer.fits(pair.source):
                fits = translator.target_tokenizer.fits(pair.target)
                return not (fits and len(target_ids) < translator.max_target_tokens)
        return True

    def _unknown_symbol(self, pair: Pair, target_ids: tuple[int, ...]) -> UserError:
        tokenizer = self.translator.target_tokenizer
        spans = zip(target_ids, tokenizer.spans(pair.target), strict=True)
        span = next(span for number, span in spans if number in tokenizer.unknown_ids)
        symbol = "".join(pair.target[index] for index in span)
        return UserError(
            f"{self.corpus.place_of(pair)}: the target symbol {symbol!r} is not one "
            f"that the model knows, expected those of its training pairs"
        )


def token_ids(tokenizer: Tokenizer, texts: Sequence[str]) -> list[tuple[int, ...]]:
    """Returns the token ids of texts in NFC, without end tokens."""
    found = tokenizer.tokenize(list(texts))
    ids = found.flat_values.numpy().tolist()
    splits = found.row_splits.numpy().tolist()
    return [
        tuple(ids[start:end]) for start, end in zip(splits, splits[1:], strict=False)
    ]


def _word(
    source: str,
    source_ids: tuple[int, ...],
    targets: Sequence[tuple[int, ...]],
    translator: ModelTranslator,
) -> Word:
    answers = tuple(_written(ids, translator) for ids in targets)
    return Word(source, Entry(source_ids, tuple(targets)), answers)


def _written(ids: tuple[int, ...], translator: ModelTranslator) -> str:
    """Returns what a model writes for some tokens, none of which is unknown."""
    nothing = np.zeros((len(ids), 0))
    return write(
        ids, nothing, "", [], translator.target_tokenizer, translator.composition
    ).text


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
    return build_table(
        [dictionary.words[number].entry for number in sorted(numbers)],
        (word.entry.source_ids for i, word in words if i not in numbers),
        source_tokens=tokenizer.most_tokens,
        vocabulary_size=len(tokenizer),
    )


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
