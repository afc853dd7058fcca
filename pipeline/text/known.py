"""Known text: the symbols that a model knows on one side of the pairs.

The same for a run and for an exported file, whose vocabularies are inside it: nothing
here imports TensorFlow.
"""

from dataclasses import dataclass, field
from functools import cached_property

from pocketseq.pipeline.text.matching import (
    CONTINUATION,
    CONTINUATION_MARK,
    longest_matches,
)
from pocketseq.pipeline.text.normalization import NO_NORMALIZATION, Normalization
from pocketseq.pipeline.text.special import UNKNOWN, UNKNOWN_PIECE


def symbols_of(text: str, kind: str) -> list[str]:
    """Splits a text into what people count: characters, or what stands between spaces.

    Args:
        text: Any.
        kind: Of the tokenizer: ``character``, ``word`` or ``wordpiece``.
    """
    return list(text) if kind == "character" else text.split()


@dataclass(frozen=True)
class KnownText:
    """One side of a model: how it is text, and the symbols that it knows.

    Args:
        kind: Of the tokenizer.
        normalization: What the tokenizer does beyond NFC.
        pieces: The vocabulary by id, the special pieces first; None: not known.
    """

    kind: str
    normalization: Normalization = NO_NORMALIZATION
    pieces: tuple[str, ...] | None = field(default=None, repr=False)

    def unknown_in(self, text: str) -> list[str]:
        """Returns the symbols of a text that the model does not know, in order.

        Words for the kind ``word``; characters for others, as they stand in the text.
        Empty where the vocabulary is not known.
        """
        if self.pieces is None:
            return []
        if self.kind == "word":
            known = self._texts
            form = self.normalization.apply
            return [word for word in text.split() if form(word) not in known]
        spaced = self.kind == "wordpiece"
        return [c for c in text if not (self._knows(c) or (spaced and c.isspace()))]

    def count_tokens(self, text: str) -> int | None:
        """Returns the number of tokens of a text, end token included; None: not known.

        It is what the tokenizer makes of the text; an output that was cut off has no
        end token.
        """
        form = self.normalization.apply(text)
        if self.kind == "character":
            return len(form) + 1
        if self.kind == "word":
            return len(form.split()) + 1
        if self.pieces is None:
            return None
        return sum(map(self._count_pieces, form.split())) + 1

    def _knows(self, character: str) -> bool:
        return self._alphabet.issuperset(self.normalization.apply(character))

    def _count_pieces(self, word: str) -> int:
        known = "".join(c if c in self._alphabet else UNKNOWN_PIECE for c in word)
        return sum(1 for _ in longest_matches(known, self._marked, self._longest))

    @cached_property
    def _marked(self) -> frozenset[str]:
        """The pieces, U+FFFF in place of the ``##`` before those that continue."""
        if self.kind != "wordpiece":
            return frozenset((self.pieces or ())[UNKNOWN:])
        return frozenset(
            CONTINUATION_MARK + piece.removeprefix(CONTINUATION)
            if piece.startswith(CONTINUATION)
            else piece
            for piece in (self.pieces or ())[UNKNOWN:]
        )

    @cached_property
    def _texts(self) -> frozenset[str]:
        """The texts of the pieces, without the one for unknown text."""
        texts = (piece.removeprefix(CONTINUATION_MARK) for piece in self._marked)
        return frozenset(texts) - {UNKNOWN_PIECE}

    @cached_property
    def _alphabet(self) -> frozenset[str]:
        return frozenset(character for text in self._texts for character in text)

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self._texts), default=1)
