"""Tokenizers: a vocabulary of pieces, and the longest match from the left.

The text work of training runs here in tf.data, by tensorflow-text and TensorFlow
operations; :mod:`pocketseq.export.reading` does the same by TFLite builtins.
:meth:`Tokenizer.spans` is the third form, in Python: which code points a token covers.
"""

import json
from collections import Counter
from functools import cached_property
from itertools import islice
from typing import ClassVar

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text

from pocketseq.pipeline.normalization import (
    PAGE_SIZE,
    WHITE_SPACE,
    Normalization,
    frozen_table,
    paged_table,
)
from pocketseq.pipeline.special import (
    SPECIAL_PIECES,
    UNKNOWN,
    UNKNOWN_PIECE,
)

# Numbers of the alphabet, which the paged table gives out; 0 is "nothing".
_UNKNOWN_CHARACTER = 1
_FIRST_CHARACTER = 2


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
        """Splits normalised text into the pieces to count when learning."""
        raise NotImplementedError

    def tokenize(self, texts):
        """Turns texts into token ids, inside tf.data or a SavedModel.

        Args:
            texts: string ``(batch,)``, UTF-8 in NFC; each ends before its first U+0000.

        Returns:
            int32 ragged ``(batch, None)``.
        """
        raise NotImplementedError

    def spans(self, text):
        """Returns, for each token, the indexes of the code points it came from."""
        raise NotImplementedError

    @property
    def most_tokens(self):
        """The largest number of tokens in a text."""
        raise NotImplementedError

    # What they share.

    @classmethod
    def learn(cls, texts, normalization=None, *, max_code_points=64, minimum_count=1):
        """Learns alphabet and vocabulary from texts; pieces are sorted by code points.

        Args:
            texts: An iterable of strings in NFC.
            normalization: :class:`Normalization`; None: none.
            max_code_points: Where a text is cut.
            minimum_count: Pieces seen less often are unknown.
        """
        normalization = normalization or Normalization()
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(cls.split(normalization.apply(text.split("\0", 1)[0])))
        known = {piece for piece, count in counts.items() if count >= minimum_count}
        pieces = sorted(known - {"", UNKNOWN_PIECE})
        alphabet = {character for piece in pieces for character in piece}
        table = {**frozen_table(normalization, alphabet), **cls.always_known}
        return cls([*SPECIAL_PIECES, *pieces], table, normalization, max_code_points)

    def fits(self, text):
        """Whether a text is within the length, before and after normalisation."""
        if len(text) * self.paged_table.width <= self.max_code_points:
            return True
        characters = len(list(self._all_characters(text)))
        return max(len(text), characters) <= self.max_code_points

    def __len__(self):
        return len(self.pieces)

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
        """Restores what :meth:`to_json` has saved."""
        saved = json.loads(text)
        table = {**{c: c for c in saved["identity"]}, **saved["table"]}
        kind = TOKENIZERS[saved["tokenizer"]]
        normalization = Normalization(**saved["normalization"])
        return kind(saved["pieces"], table, normalization, saved["max_code_points"])


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


class WordTokenizer(Tokenizer):
    """Every stretch between whitespace is a token, such as a phone.

    A word that is not in the vocabulary is one unknown token.
    """

    kind = "word"
    separator = " "
    always_known = dict.fromkeys(WHITE_SPACE, " ")

    @classmethod
    def split(cls, text):
        return "".join(" " if c in WHITE_SPACE else c for c in text).split(" ")

    def tokenize(self, texts):
        numbers = self.normalize(texts)
        code_points = tf.gather([ord(c or " ") for c in self.alphabet], numbers)
        texts = tf.strings.unicode_encode(code_points, "UTF-8")
        words = tf_text.WhitespaceTokenizer().tokenize(texts)
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
        spans: list[list[int]] = []
        inside = False
        for character, index in self.characters(text):
            if character == " ":
                inside = False
                continue
            if not inside:
                spans.append([])
            if index not in spans[-1]:
                spans[-1].append(index)
            inside = True
        return spans

    @property
    def most_tokens(self):
        return (self.max_code_points + 1) // 2


#: The names that configurations use.
TOKENIZERS = {kind.kind: kind for kind in (CharacterTokenizer, WordTokenizer)}
