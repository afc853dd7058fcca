"""Tokenizers: a vocabulary of pieces, and the longest match from the left.

The text work of training runs here in tf.data, by tensorflow-text and TensorFlow
operations; :mod:`pocketseq.export.graph.reading` does the same by TFLite builtins.
:meth:`Tokenizer.spans` is the third form, in Python: which code points a token covers.
"""

import copy
import json
from collections import Counter
from functools import cached_property
from itertools import groupby, islice
from typing import ClassVar

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text

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
    frozen_table,
    paged_table,
)
from pocketseq.pipeline.text.special import (
    SPECIAL_PIECES,
    UNKNOWN,
    UNKNOWN_PIECE,
)

# Numbers of the alphabet, which the paged table gives out; 0 is "nothing".
_UNKNOWN_CHARACTER = 1
_FIRST_CHARACTER = 2

# Different words or characters counted before rare ones are forgotten.
_MOST_COUNTED = 1_000_000


class Tokenizer:
    """What the kinds share: a frozen alphabet and a vocabulary.

    Args:
        pieces: The vocabulary by id, the special pieces first.
        table: The frozen normalisation, ``{character: its normal form}``.
        normalization: The :class:`Normalization` that the table was made with.
        max_code_points: Where a text is cut, before and after normalisation.
    """

    #: The name that configurations use.
    kind: str
    #: What stands between two pieces of decoded text.
    separator: str
    #: What the normalisation keeps besides the characters of pieces.
    always_known: ClassVar[dict[str, str]] = {}

    def __init__(self, pieces, table, normalization, max_code_points):
        self.pieces = tuple(pieces)
        self.table = dict(table)
        self.normalization = normalization
        self.max_code_points = max_code_points

    # What the kinds differ in.

    @classmethod
    def split(cls, text):
        """Splits normalised text into what is counted when learning."""
        raise NotImplementedError

    @classmethod
    def choose(cls, counts, minimum_count, vocabulary_size):
        """Returns the pieces to know, given how often what was split off occurs."""
        return {piece for piece, count in counts.items() if count >= minimum_count}

    @classmethod
    def piece_text(cls, piece):
        """Returns the code points that a piece writes."""
        return piece

    def tokenize(self, texts):
        """Turns texts into token ids, inside tf.data or a SavedModel.

        Args:
            texts: string ``(batch,)``, UTF-8 in NFC; each ends before its first U+0000.

        Returns:
            int32 ragged ``(batch, None)``.
        """
        raise NotImplementedError

    def resources(self):
        """Returns what a SavedModel must keep for :meth:`tokenize` to work there."""
        return []

    def spans(self, text):
        """Returns, for each token, the indexes of the code points it came from."""
        raise NotImplementedError

    @property
    def most_tokens(self):
        """The largest number of tokens in a text."""
        raise NotImplementedError

    # What they share.

    @classmethod
    def learn(
        cls,
        texts,
        normalization=None,
        *,
        max_code_points=64,
        minimum_count=1,
        vocabulary_size=8000,
    ):
        """Learns alphabet and vocabulary from texts; pieces are sorted by code points.

        Args:
            texts: An iterable of strings in NFC.
            normalization: :class:`Normalization`; None: none.
            max_code_points: Where a text is cut.
            minimum_count: What is seen less often is unknown: a character or a word,
                for wordpieces a character.
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
    def count(cls, text, normalization, counts):
        """Adds what a text consists of, characters or words, to a Counter.

        The Counter stays small whatever the corpus: when it grows beyond a million, the
        rarer half is forgotten. References: Manku and Motwani 2002, "Approximate
        frequency counts over data streams".
        """
        counts.update(cls.split(normalization.apply(text.split("\0", 1)[0])))
        if len(counts) > _MOST_COUNTED:
            kept = counts.most_common(_MOST_COUNTED // 2)
            counts.clear()
            counts.update(dict(kept))

    @classmethod
    def from_counts(
        cls, counts, normalization, *, max_code_points, minimum_count, vocabulary_size
    ):
        """Makes the tokenizer of what :meth:`count` has counted; see :meth:`learn`."""
        known = cls.choose(counts, minimum_count, vocabulary_size)
        pieces = sorted(known - {"", UNKNOWN_PIECE})
        alphabet = {
            character for piece in pieces for character in cls.piece_text(piece)
        }
        table = {**frozen_table(normalization, alphabet), **cls.always_known}
        return cls([*SPECIAL_PIECES, *pieces], table, normalization, max_code_points)

    def resized(self, max_code_points):
        """Returns the same tokenizer for texts of another length."""
        resized = copy.copy(self)
        resized.max_code_points = max_code_points
        return resized

    def fits(self, text):
        """Whether a text is within the length, before and after normalisation."""
        if len(text) * self.paged_table.width <= self.max_code_points:
            return True
        characters = len(list(self._all_characters(text)))
        return max(len(text), characters) <= self.max_code_points

    def __len__(self):
        return len(self.pieces)

    @cached_property
    def piece_texts(self):
        """What each id writes; nothing for the bracketed special pieces."""
        texts = map(self.piece_text, self.pieces[UNKNOWN:])
        return ("",) * UNKNOWN + tuple(texts)

    @cached_property
    def continues(self):
        """Whether each id is written without a separator before it."""
        return (not self.separator,) * len(self)

    @cached_property
    def unknown_ids(self):
        """The ids that stand for a character outside the alphabet."""
        texts = enumerate(self.piece_texts)
        return frozenset(i for i, text in texts if text == UNKNOWN_PIECE)

    @cached_property
    def alphabet(self):
        """The characters of normal forms by number: nothing, U+FFFD, then the rest."""
        characters = {c for form in self.table.values() for c in form}
        return ("", UNKNOWN_PIECE, *sorted(characters - {UNKNOWN_PIECE}))

    @cached_property
    def paged_table(self):
        """The normalisation for lookup by gathers, of alphabet numbers."""
        number_of = {c: i for i, c in enumerate(self.alphabet)}
        return paged_table(self.table, number_of, _UNKNOWN_CHARACTER)

    def normalize(self, texts):
        """Returns the alphabet numbers of the texts' normal form, int32 ragged."""
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

    def characters(self, text):
        """Yields (character of the normal form, index of its code point)."""
        return islice(self._all_characters(text), self.max_code_points)

    def _all_characters(self, text):
        for index, character in enumerate(text.split("\0", 1)[0]):
            for part in self.table.get(character, UNKNOWN_PIECE):
                yield part, index

    def to_json(self):
        """Returns the tokenizer as JSON text, from which it can be restored."""
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
    def from_json(text):
        """Restores what :meth:`to_json` has saved.

        Raises:
            ValueError: It has saved something else.
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
    def split(cls, text):
        return text

    def tokenize(self, texts):
        # The alphabet, sorted like the pieces, numbers the characters as the ids do.
        return self.normalize(texts) + (UNKNOWN - _UNKNOWN_CHARACTER)

    def spans(self, text):
        return [[index] for _, index in self.characters(text)]

    @property
    def most_tokens(self):
        return self.max_code_points


class _SpacedTokenizer(Tokenizer):
    """What the kinds share that split at whitespace."""

    separator = " "
    always_known = dict.fromkeys(sorted(WHITE_SPACE), " ")

    @classmethod
    def split(cls, text):
        return "".join(" " if c in WHITE_SPACE else c for c in text).split(" ")

    def words(self, texts):
        """Returns the words of the texts' normal form, string ragged."""
        numbers = self.normalize(texts)
        code_points = tf.gather([ord(c or " ") for c in self.alphabet], numbers)
        texts = tf.strings.unicode_encode(code_points, "UTF-8")
        return tf_text.WhitespaceTokenizer().tokenize(texts)

    def _word_characters(self, text):
        """Yields the words of a text, each a list of what :meth:`characters` yields."""
        for space, word in groupby(self.characters(text), lambda c: c[0] == " "):
            if not space:
                yield list(word)


class WordTokenizer(_SpacedTokenizer):
    """Every stretch between whitespace is a token, such as a phone.

    A word that is not in the vocabulary is one unknown token.
    """

    kind = "word"

    def resources(self):
        return [self._lookup]

    def tokenize(self, texts):
        words = self.words(texts)
        return words.with_flat_values(self._lookup.lookup(words.flat_values))

    @cached_property
    def _lookup(self):
        # Bracketed specials are left out: a text that spells them is unknown.
        words = self.pieces[UNKNOWN:]
        ids = np.arange(UNKNOWN, len(self.pieces), dtype=np.int32)
        with tf.init_scope():
            pairs = tf.lookup.KeyValueTensorInitializer(words, ids)
            return tf.lookup.StaticHashTable(pairs, default_value=UNKNOWN)

    def spans(self, text):
        return [origins(word) for word in self._word_characters(text)]

    @property
    def most_tokens(self):
        return (self.max_code_points + 1) // 2


class WordPieceTokenizer(_SpacedTokenizer):
    """Words are split into learned pieces, each the longest that fits from the left.

    A piece that continues a word begins with ``##`` in the vocabulary; no other piece
    does. Every character of the alphabet is a piece, at the start of a word and as its
    continuation, so a word is never unknown as a whole.

    References: Wu et al. 2016, "Google's neural machine translation system", section
    4.1; Song et al. 2021, "Fast WordPiece tokenization".
    """

    kind = "wordpiece"

    @classmethod
    def piece_text(cls, piece):
        return piece.removeprefix(CONTINUATION)

    @classmethod
    def choose(cls, counts, minimum_count, vocabulary_size):
        alphabet = frequent_characters(counts, minimum_count)
        known = {
            word: n for word, n in counts.items() if word and alphabet >= set(word)
        }
        characters = alphabet | {CONTINUATION_MARK + c for c in alphabet}
        room = vocabulary_size - len(SPECIAL_PIECES) - 1 - len(characters)
        longer = learn_longer_pieces(known, characters, room)
        marked = characters | longer | {CONTINUATION_MARK + UNKNOWN_PIECE}
        return {piece.replace(CONTINUATION_MARK, CONTINUATION) for piece in marked}

    def tokenize(self, texts):
        words = self.words(texts)
        return self._matcher.tokenize(words).merge_dims(1, 2)

    @cached_property
    def marked_pieces(self):
        """``{piece: its id}``, those that continue begin with U+FFFF instead of ##."""
        return {
            CONTINUATION_MARK * continues + text: i
            for i, (text, continues) in enumerate(
                zip(self.piece_texts, self.continues, strict=True)
            )
            if text
        }

    @cached_property
    def _matcher(self):
        # No word holds a space, so none is a bracketed special piece.
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
    def continues(self):
        return tuple(piece.startswith(CONTINUATION) for piece in self.pieces)

    @cached_property
    def _longest(self):
        return max(map(len, self.piece_texts))

    def spans(self, text):
        return [
            origins(word[start:end])
            for word in self._word_characters(text)
            for start, end in longest_matches(
                "".join(c for c, _ in word), self.marked_pieces, self._longest
            )
        ]

    @property
    def most_tokens(self):
        # A token is at least one character of the normal form.
        return self.max_code_points


#: The names that configurations use.
TOKENIZERS = {
    kind.kind: kind for kind in (CharacterTokenizer, WordTokenizer, WordPieceTokenizer)
}
