"""Tokenizers: a vocabulary of pieces, and the longest match from the left.

:meth:`Tokenizer.tokenize` runs in tf.data and in the SavedModel, with operations of
TensorFlow and tensorflow-text; :mod:`pocketseq.export.graph.reading` does the same with
TFLite builtins. :meth:`Tokenizer.spans` is the third implementation, in Python: the
code points that each token covers.
"""

import copy
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from itertools import groupby, islice
from typing import ClassVar, Self

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text

from pocketseq.pipeline.text import TokenizerKind
from pocketseq.pipeline.text.counts import add_bounded
from pocketseq.pipeline.text.learning import frequent_characters, learn_longer_pieces
from pocketseq.pipeline.text.matching import (
    CONTINUATION,
    CONTINUATION_MARK,
    longest_matches,
    origins,
)
from pocketseq.pipeline.text.normalization import (
    PAGE_SIZE,
    WHITE_SPACE,
    Normalization,
    PagedTable,
    frozen_table,
    paged_table,
)
from pocketseq.pipeline.text.special import (
    SPECIAL_PIECES,
    UNKNOWN,
    UNKNOWN_PIECE,
)

# Alphabet numbers, which the paged table holds; 0 is "no character".
_UNKNOWN_CHARACTER = 1
_FIRST_CHARACTER = 2


class Tokenizer:
    """Base class of all tokenizers: a frozen alphabet and a vocabulary.

    Args:
        pieces: The vocabulary by id, the special pieces first.
        table: The frozen normalisation, ``{character: its normal form}``.
        normalization: The :class:`Normalization` that the table was made with.
        max_code_points: The length at which a text is cut, before and after
            normalisation.
    """

    #: The name that configurations use.
    kind: ClassVar[TokenizerKind]
    #: The text between two pieces in decoded text.
    separator: ClassVar[str]
    #: Entries of the table besides those of the characters of pieces.
    always_known: ClassVar[dict[str, str]] = {}

    def __init__(
        self,
        pieces: Iterable[str],
        table: Mapping[str, str],
        normalization: Normalization,
        max_code_points: int,
    ) -> None:
        self.pieces = tuple(pieces)
        self.table = dict(table)
        self.normalization = normalization
        self.max_code_points = max_code_points

    # Methods that differ by kind.

    @classmethod
    def split(cls, text: str) -> Iterable[str]:
        """Splits normalised text into the units that are counted when learning."""
        raise NotImplementedError

    @classmethod
    def choose(
        cls, counts: Mapping[str, int], minimum_count: int, vocabulary_size: int
    ) -> set[str]:
        """Returns the pieces of the vocabulary; see :meth:`learn`.

        Args:
            counts: ``{unit of text, from split: how often it occurs}``.
            minimum_count: Units or characters that occur less often are unknown.
            vocabulary_size: The largest number of wordpieces.
        """
        return {piece for piece, count in counts.items() if count >= minimum_count}

    @classmethod
    def piece_text(cls, piece: str) -> str:
        """Returns the text that a piece stands for."""
        return piece

    def tokenize(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Turns texts into token ids, inside tf.data or a SavedModel.

        Args:
            texts: string ``(batch,)``, UTF-8 in NFC; each ends before its first U+0000.

        Returns:
            int32 ragged ``(batch, None)``.
        """
        raise NotImplementedError

    def resources(self) -> list[tf.lookup.StaticHashTable]:
        """Returns the objects that a SavedModel must track for :meth:`tokenize`."""
        return []

    def spans(self, text: str) -> list[list[int]]:
        """Returns, for each token, the indexes of the code points that it covers."""
        raise NotImplementedError

    @property
    def most_tokens(self) -> int:
        """The largest number of tokens in a text, without the end token."""
        raise NotImplementedError

    # Methods that all kinds share.

    @classmethod
    def learn(
        cls,
        texts: Iterable[str],
        normalization: Normalization | None = None,
        *,
        max_code_points: int = 64,
        minimum_count: int = 1,
        vocabulary_size: int = 8000,
    ) -> Self:
        """Learns alphabet and vocabulary from texts; pieces are sorted by code points.

        Args:
            texts: Strings in NFC.
            normalization: Changes beyond NFC; None: none.
            max_code_points: The length at which a text is cut.
            minimum_count: Words that occur less often are unknown; for the kinds
                ``character`` and ``wordpiece``, characters that do.
            vocabulary_size: The largest number of wordpieces, special ones included.
        """
        normalization = normalization or Normalization()
        counts: Counter[str] = Counter()
        for text in texts:
            cls.count(text, normalization, counts)
        return cls.from_counts(
            counts,
            normalization,
            max_code_points=max_code_points,
            minimum_count=minimum_count,
            vocabulary_size=vocabulary_size,
        )

    @classmethod
    def count(
        cls, text: str, normalization: Normalization, counts: Counter[str]
    ) -> None:
        """Adds the characters or words of a text to ``counts``, in bounded memory.

        See :func:`pocketseq.pipeline.text.counts.add_bounded`.
        """
        add_bounded(counts, cls.split(normalization.apply(text.split("\0", 1)[0])))

    @classmethod
    def from_counts(
        cls,
        counts: Mapping[str, int],
        normalization: Normalization,
        *,
        max_code_points: int,
        minimum_count: int,
        vocabulary_size: int,
    ) -> Self:
        """Makes a tokenizer from the counts of :meth:`count`; see :meth:`learn`."""
        known = cls.choose(counts, minimum_count, vocabulary_size)
        pieces = sorted(known - {"", UNKNOWN_PIECE})
        alphabet = {
            character for piece in pieces for character in cls.piece_text(piece)
        }
        table = {**frozen_table(normalization, alphabet), **cls.always_known}
        return cls([*SPECIAL_PIECES, *pieces], table, normalization, max_code_points)

    def resized(self, max_code_points: int) -> Self:
        """Returns the same tokenizer with another ``max_code_points``."""
        resized = copy.copy(self)
        resized.max_code_points = max_code_points
        return resized

    def extended(self, pieces: Iterable[str]) -> Self:
        """Returns a tokenizer that can write more pieces; it reads no more than before.

        Args:
            pieces: As in a vocabulary; their ids follow those that are there.
        """
        more = (*self.pieces, *pieces)
        return type(self)(more, self.table, self.normalization, self.max_code_points)

    def fits(self, text: str) -> bool:
        """Returns whether a text would not be cut, before or after normalisation."""
        if len(text) * self.paged_table.width <= self.max_code_points:
            return True
        characters = len(list(self._all_characters(text)))
        return max(len(text), characters) <= self.max_code_points

    def __len__(self) -> int:
        return len(self.pieces)

    @cached_property
    def piece_texts(self) -> tuple[str, ...]:
        """The text of each id; empty for the bracketed special pieces."""
        texts = map(self.piece_text, self.pieces[UNKNOWN:])
        return ("",) * UNKNOWN + tuple(texts)

    @cached_property
    def continues(self) -> tuple[bool, ...]:
        """For each id, whether it is written without a separator before it."""
        return (not self.separator,) * len(self)

    @cached_property
    def unknown_ids(self) -> frozenset[int]:
        """The ids that stand for a character outside the alphabet."""
        texts = enumerate(self.piece_texts)
        return frozenset(i for i, text in texts if text == UNKNOWN_PIECE)

    @cached_property
    def alphabet(self) -> tuple[str, ...]:
        """The characters of normal forms by number: none, U+FFFD, then the others."""
        characters = {c for form in self.table.values() for c in form}
        return ("", UNKNOWN_PIECE, *sorted(characters - {UNKNOWN_PIECE}))

    @cached_property
    def paged_table(self) -> PagedTable:
        """The normalisation for lookup by gathers; its forms are alphabet numbers."""
        number_of = {c: i for i, c in enumerate(self.alphabet)}
        return paged_table(self.table, number_of, _UNKNOWN_CHARACTER)

    def normalize(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Returns the normal form of texts as alphabet numbers, cut to the length.

        Args:
            texts: string ``(batch,)``, UTF-8 in NFC; each ends before its first U+0000.

        Returns:
            int32 ragged ``(batch, None)``.
        """
        table = self.paged_table
        texts = tf.strings.regex_replace(texts, r"(?s)\x00.*", "")
        code_points = tf_text.UnicodeCharTokenizer().tokenize(texts)
        flat = code_points.flat_values
        page = tf.minimum(flat // PAGE_SIZE, len(table.page_of) - 1)
        place = tf.gather(table.page_of, page) * PAGE_SIZE + flat % PAGE_SIZE
        forms = tf.cast(tf.gather(table.forms, place), tf.int32)  # (code points, width)
        forms = tf.RaggedTensor.from_tensor(forms, padding=0)
        numbers = code_points.with_flat_values(forms).merge_dims(1, 2)
        return numbers[:, : self.max_code_points]

    def characters(self, text: str) -> Iterator[tuple[str, int]]:
        """Yields (character of the normal form, index of its code point in text)."""
        return islice(self._all_characters(text), self.max_code_points)

    def _all_characters(self, text: str) -> Iterator[tuple[str, int]]:
        """Yields the same as :meth:`characters`, without the cut."""
        for index, character in enumerate(text.split("\0", 1)[0]):
            for part in self.table.get(character, UNKNOWN_PIECE):
                yield part, index

    def to_json(self) -> str:
        """Returns the tokenizer as JSON text, for :meth:`from_json`."""
        identity = [c for c, form in self.table.items() if form == c]
        other = {c: form for c, form in self.table.items() if form != c}
        return json.dumps(
            {
                "tokenizer": self.kind,
                "normalization": vars(self.normalization),
                "max_code_points": self.max_code_points,
                "pieces": self.pieces,
                "identity": "".join(identity),
                "table": other,
            },
            ensure_ascii=False,
            indent=1,
        )

    @staticmethod
    def from_json(text: str) -> "Tokenizer":
        """Restores a tokenizer, of whatever kind, from the text of :meth:`to_json`.

        Raises:
            ValueError: The text is not JSON, or not that of a tokenizer.
        """
        try:
            saved = json.loads(text)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
        match saved:
            case {
                "tokenizer": "character" | "word" | "wordpiece" as kind,
                "normalization": {"fold_case": bool(fold), "decompose": bool(split)},
                "max_code_points": int(max_code_points),
                "pieces": [*pieces],
                "identity": str(identity),
                "table": dict(other),
            } if (
                tuple(pieces[: len(SPECIAL_PIECES)]) == tuple(SPECIAL_PIECES)
                and all(isinstance(part, str) for part in (*pieces, *other.values()))
                and all(len(character) == 1 for character in other)
                and max_code_points > 0
            ):
                table = {**{c: c for c in identity}, **other}
                normalization = Normalization(fold, split)
                return TOKENIZERS[kind](pieces, table, normalization, max_code_points)
        raise ValueError("not a tokenizer")


class CharacterTokenizer(Tokenizer):
    """Every code point of the normal form is a token, spaces included."""

    kind = "character"
    separator = ""

    @classmethod
    def split(cls, text: str) -> Iterable[str]:
        return text

    def tokenize(self, texts: tf.Tensor) -> tf.RaggedTensor:
        # Alphabet and pieces are sorted alike, so numbers and ids differ by a constant.
        return self.normalize(texts) + (UNKNOWN - _UNKNOWN_CHARACTER)

    def spans(self, text: str) -> list[list[int]]:
        return [[index] for _, index in self.characters(text)]

    @property
    def most_tokens(self) -> int:
        return self.max_code_points


class _SpacedTokenizer(Tokenizer):
    """Base class of the tokenizers that split text at whitespace."""

    separator = " "
    always_known = dict.fromkeys(sorted(WHITE_SPACE), " ")

    @classmethod
    def split(cls, text: str) -> Iterable[str]:
        return "".join(" " if c in WHITE_SPACE else c for c in text).split(" ")

    def words(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Returns the words of the normal form of texts.

        Args:
            texts: As for :meth:`normalize`.

        Returns:
            string ragged ``(batch, None)``, UTF-8.
        """
        numbers = self.normalize(texts)
        code_points = tf.gather([ord(c or " ") for c in self.alphabet], numbers)
        texts = tf.strings.unicode_encode(code_points, "UTF-8")
        return tf_text.WhitespaceTokenizer().tokenize(texts)

    def _word_characters(self, text: str) -> Iterator[list[tuple[str, int]]]:
        """Yields each word of a text as a list of the pairs of :meth:`characters`."""
        for space, word in groupby(self.characters(text), lambda c: c[0] == " "):
            if not space:
                yield list(word)


class WordTokenizer(_SpacedTokenizer):
    """Every symbol between whitespace is a token, such as a phone.

    A word that is not in the vocabulary is one unknown token.
    """

    kind = "word"

    def resources(self) -> list[tf.lookup.StaticHashTable]:
        return [self._lookup]

    def tokenize(self, texts: tf.Tensor) -> tf.RaggedTensor:
        words = self.words(texts)
        return words.with_flat_values(self._lookup.lookup(words.flat_values))

    @cached_property
    def _lookup(self) -> tf.lookup.StaticHashTable:
        # Without the bracketed special pieces: a text that spells one is unknown.
        words = self.pieces[UNKNOWN:]
        ids = np.arange(UNKNOWN, len(self.pieces), dtype=np.int32)
        with tf.init_scope():
            pairs = tf.lookup.KeyValueTensorInitializer(words, ids)
            return tf.lookup.StaticHashTable(pairs, default_value=UNKNOWN)

    def spans(self, text: str) -> list[list[int]]:
        return [origins(word) for word in self._word_characters(text)]

    @property
    def most_tokens(self) -> int:
        return (self.max_code_points + 1) // 2


class WordPieceTokenizer(_SpacedTokenizer):
    """Every word is split into learned pieces, by longest match from the left.

    A piece that continues a word begins with ``##`` in the vocabulary; no other piece
    does. Every character of the alphabet is a piece both bare and as a continuation, so
    a word is never unknown as a whole.

    References: Wu et al. 2016, "Google's neural machine translation system", section
    4.1; Song et al. 2021, "Fast WordPiece tokenization".
    """

    kind = "wordpiece"

    @classmethod
    def piece_text(cls, piece: str) -> str:
        return piece.removeprefix(CONTINUATION)

    @classmethod
    def choose(
        cls, counts: Mapping[str, int], minimum_count: int, vocabulary_size: int
    ) -> set[str]:
        alphabet = frequent_characters(counts, minimum_count)
        known = {
            word: n for word, n in counts.items() if word and alphabet >= set(word)
        }
        characters = alphabet | {CONTINUATION_MARK + c for c in alphabet}
        room = vocabulary_size - len(SPECIAL_PIECES) - 1 - len(characters)
        longer = learn_longer_pieces(known, characters, room)
        marked = characters | longer | {CONTINUATION_MARK + UNKNOWN_PIECE}
        return {piece.replace(CONTINUATION_MARK, CONTINUATION) for piece in marked}

    def tokenize(self, texts: tf.Tensor) -> tf.RaggedTensor:
        words = self.words(texts)
        return self._matcher.tokenize(words).merge_dims(1, 2)

    @cached_property
    def marked_pieces(self) -> dict[str, int]:
        """``{piece: its id}``; continuations begin with U+FFFF in place of ``##``."""
        return {
            CONTINUATION_MARK * continues + text: i
            for i, (text, continues) in enumerate(
                zip(self.piece_texts, self.continues, strict=True)
            )
            if text
        }

    @cached_property
    def _matcher(self) -> tf_text.FastWordpieceTokenizer:
        # No word contains a space, so none matches a bracketed special piece.
        special = [f" {piece}" for piece in self.pieces[:UNKNOWN]]
        with tf.init_scope():
            return tf_text.FastWordpieceTokenizer(
                [*special, *self.marked_pieces],
                suffix_indicator=CONTINUATION_MARK,
                max_bytes_per_word=2**30,
                token_out_type=tf.int32,
                unknown_token=UNKNOWN_PIECE,
                no_pretokenization=True,
            )

    @cached_property
    def continues(self) -> tuple[bool, ...]:
        return tuple(piece.startswith(CONTINUATION) for piece in self.pieces)

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self.piece_texts))

    def spans(self, text: str) -> list[list[int]]:
        return [
            origins(word[start:end])
            for word in self._word_characters(text)
            for start, end in longest_matches(
                "".join(c for c, _ in word), self.marked_pieces, self._longest
            )
        ]

    @property
    def most_tokens(self) -> int:
        # Each token covers at least one character of the normal form.
        return self.max_code_points


#: The tokenizer classes by the names that configurations use.
TOKENIZERS: dict[TokenizerKind, type[Tokenizer]] = {
    kind.kind: kind for kind in (CharacterTokenizer, WordTokenizer, WordPieceTokenizer)
}
