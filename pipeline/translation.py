"""What a translator gives, whatever runs the model."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from pocketseq.pipeline.data.corpora import Corpus
from pocketseq.pipeline.text.known import KnownText
from pocketseq.pipeline.text.normalization import WHITE_SPACE, Normalization
from pocketseq.pipeline.text.special import UNKNOWN_PIECE

if TYPE_CHECKING:
    from pocketseq.pipeline.explanation import Explanation

logger = logging.getLogger(__name__)

#: Hypotheses that do not exist score below it: a search may find fewer than it keeps.
NO_SCORE = -1e6

_WHITESPACE = re.compile(f"[{''.join(sorted(WHITE_SPACE))}]+")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Translation:
    """One output text.

    ``source``: the text that was read: NFC, without what was cut. ``text``: what came
    of it. ``score``: sum of the token log-probabilities, end token included, divided by
    (number of tokens) ** length penalty; 0 for empty text. ``alignment``: float32
    ``(len(text), len(source))``: which source code points each one came from; None
    where the model does not tell. ``token_ids``: the target tokens, with the end token
    if there is one; ``pieces``: what each of those that the text has room for wrote, by
    itself, before anything was composed; ``places``: the code point of ``text`` in
    which that begins. None where only the text is known.
    """

    source: str
    text: str
    score: float
    alignment: np.ndarray | None
    token_ids: tuple[int, ...] | None = None
    pieces: tuple[str, ...] | None = None
    places: tuple[int, ...] | None = None


class Token(NamedTuple):
    """One token of an output: what it wrote, and how probable it was.

    The end token writes nothing.
    """

    text: str
    probability: float


@dataclass(frozen=True)
class Knowledge:
    """What a model tells of itself.

    ``source``, ``target``: its two sides. ``length_penalty``: of its scores.
    ``training``: the pairs that it has learned from, which may no longer be there;
    None: it does not tell.
    """

    source: KnownText
    target: KnownText
    length_penalty: float
    training: Corpus | None

    def log_probability(self, translation: Translation) -> float | None:
        """Returns the log-probability of a whole output, end token included.

        None where the vocabulary, and so the number of tokens, is not known.
        """
        tokens = self.target.count_tokens(translation.text)
        if tokens is None:
            return None
        return translation.score * tokens**self.length_penalty


class TextTranslator(Protocol):
    """A model that translates texts, in whatever form: Keras, SavedModel, ``.tflite``.

    ``gives_alignment``: whether translations come with an alignment. ``target_kind``:
    the kind of the target tokenizer. ``target_normalization``: texts are compared in
    its normal form. ``knowledge``: what else it tells of itself.
    """

    @property
    def gives_alignment(self) -> bool: ...  # noqa: D102

    @property
    def target_kind(self) -> str: ...  # noqa: D102

    @property
    def target_normalization(self) -> Normalization: ...  # noqa: D102

    @property
    def knowledge(self) -> Knowledge: ...  # noqa: D102

    def translate(
        self, texts: Sequence[str], *, beam_size: int | None = None, n_best: int = 1
    ) -> list[list[Translation]]:
        """Translates some texts.

        Args:
            texts: Strings; longer ones are cut, which is logged.
            beam_size: The number of hypotheses that the search keeps; None: as the
                recipe says, but at least ``n_best``.
            n_best: How many translations of each text to return.

        Returns:
            For each text a list of ``n_best`` :class:`Translation`, best first; fewer
            where there are no more, as of an empty text.

        Raises:
            UserError: The model has no search with such a beam, or the beam does not
                hold ``n_best``.
            TypeError: ``texts`` is one string.
        """
        ...

    def tokens(self, translations: Sequence[Translation]) -> list[list[Token]]:
        """Returns the tokens of some translations, with their probabilities.

        Args:
            translations: Some that this translator has made.

        Returns:
            A list for each; an empty list where the model gives no more than the score
            of a whole text.
        """
        ...

    def explain(self, text: str, *, beam_size: int | None = None) -> Explanation:
        """Translates a text and explains how, as far as the model tells.

        Args:
            text: Any; a longer one is cut, which is logged.
            beam_size: The number of hypotheses that the search keeps; None: as the
                recipe says.

        Raises:
            UserError: There is nothing in the text, or the model has no search with
                such a beam.
        """
        ...


def prepare(texts: Iterable[str], max_code_points: int) -> list[str]:
    """Returns texts in NFC, each up to its first U+0000, cut to the model's length.

    A longer text is cut at the last whitespace that leaves no more than that, or within
    its first word if that is longer. Logs how many were cut.

    Raises:
        TypeError: There is one string, which is not a list of texts.
    """
    if isinstance(texts, str):
        raise TypeError(f"texts: expected a list of strings, not one string: {texts!r}")
    prepared = []
    cut = 0
    for text in texts:
        whole = unicodedata.normalize("NFC", text.split("\0", 1)[0])
        whole = _LONE_SURROGATE.sub(UNKNOWN_PIECE, whole)
        cut += len(whole) > max_code_points
        prepared.append(_cut(whole, max_code_points))
    if cut:
        logger.warning(
            "cut %d of %d texts to %d code points, at whitespace where there is any",
            cut, len(prepared), max_code_points,
        )  # fmt: skip
    return prepared


def _cut(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    # The whitespace itself need not fit.
    spaces = list(_WHITESPACE.finditer(text[: longest + 1]))
    whole = text[: spaces[-1].start()] if spaces else ""
    return whole or text[:longest]
