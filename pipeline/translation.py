"""What a translator gives, whatever runs the model."""

import logging
import re
import unicodedata
from dataclasses import dataclass

import numpy as np

from pocketseq.pipeline.text.special import UNKNOWN_PIECE

logger = logging.getLogger(__name__)

#: Hypotheses that do not exist score below it: a search may find fewer than it keeps.
NO_SCORE = -1e6

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


def prepare(texts, max_code_points):
    """Returns texts in NFC, each up to its first U+0000, cut to the model's length.

    Logs how many were cut.

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
        prepared.append(whole[:max_code_points])
    if cut:
        logger.warning(
            "cut %d of %d texts to %d code points", cut, len(prepared), max_code_points
        )
    return prepared
