"""Token ids back to text, and attention over tokens to alignment of code points.

:mod:`pocketseq.export.graph.writing` does the same with TFLite builtins.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from pocketseq.pipeline.text.composition import Composition
    from pocketseq.pipeline.text.tokenizers import Tokenizer


class Written(NamedTuple):
    """A text written from tokens.

    ``text``; ``alignment``: float32 ``(code points of the text, code points of the
    source)``; ``pieces``: the text of each token that fits; ``places``: the index in
    ``text`` of the code point where each of these begins.
    """

    text: str
    alignment: np.ndarray
    pieces: tuple[str, ...]
    places: tuple[int, ...]


def write(
    ids: Sequence[int],
    attention: np.ndarray,
    source: str,
    spans: Iterable[Sequence[int]],
    tokenizer: Tokenizer,
    composition: Composition | None,
) -> Written:
    """Joins the pieces of tokens to a text, up to the tokenizer's longest text.

    Args:
        ids: The target token ids, without the end token.
        attention: Float ``(tokens, source tokens)``.
        source: The source text; an unknown token copies the code point with the
            largest attention weight.
        spans: For each source token, the indexes of its code points in ``source``.
        tokenizer: The target tokenizer.
        composition: How the text is composed; None: it stays as the pieces spell it.
    """
    rows = _over_code_points(attention, spans, len(source))
    pointed = [source[row.argmax()] if source else "" for row in rows]
    text = ""
    pieces: list[str] = []
    starts: list[int] = []  # of the pieces, in code points
    tokens: list[int] = []  # the token of each code point
    for token, (token_id, character) in enumerate(zip(ids, pointed, strict=True)):
        unknown = token_id in tokenizer.unknown_ids
        piece = character if unknown else tokenizer.piece_texts[token_id]
        before = text
        if text and not tokenizer.continues[token_id]:
            before += tokenizer.separator
        if len(before) + len(piece) > tokenizer.max_code_points:
            break
        tokens += [token] * (len(before) + len(piece) - len(text))
        starts.append(len(before))
        pieces.append(piece)
        text = before + piece
    places: Sequence[int] = range(len(text))
    if composition is not None:
        text, places = composition.compose(text)
    alignment = _mean_rows(rows[tokens], places, len(text))
    return Written(text, alignment, tuple(pieces), tuple(places[i] for i in starts))


def _mean_rows(rows: np.ndarray, places: Sequence[int], count: int) -> np.ndarray:
    """Returns the mean of the rows that belong to each place, float32 ``(count, n)``.

    Args:
        rows: float32 ``(rows, n)``.
        places: The place of each row, below ``count``; every place has one at least.
        count: The number of places.
    """
    index = np.array(places, np.intp)
    sums = np.zeros((count, *rows.shape[1:]), np.float32)
    np.add.at(sums, index, rows)
    return sums / np.bincount(index, minlength=count).astype(np.float32)[:, None]


def _over_code_points(
    attention: np.ndarray, spans: Iterable[Sequence[int]], code_points: int
) -> np.ndarray:
    """Spreads the attention to each token evenly over its code points.

    Args:
        attention: ``(target tokens, source tokens)``.
        spans: For each source token, the indexes of its code points.
        code_points: The number of code points of the source text.

    Returns:
        float32 ``(target tokens, code_points)``.
    """
    rows = np.zeros((len(attention), code_points), np.float32)
    for token, span in enumerate(spans):
        for index in span:
            rows[:, index] += attention[:, token] / len(span)
    return rows
