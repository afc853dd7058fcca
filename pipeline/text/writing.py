"""Token ids back to text, and the attention of tokens to that of code points.

:mod:`pocketseq.export.graph.writing` does the same by TFLite builtins.
"""

from typing import NamedTuple

import numpy as np


class Written(NamedTuple):
    """A text made of tokens.

    ``text``; ``alignment`` float ``(code points of the text, code points of the
    source)``; ``pieces``: the text of each token; ``places``: the code point of
    ``text`` where each token begins.
    """

    text: str
    alignment: np.ndarray
    pieces: tuple[str, ...]
    places: tuple[int, ...]


def write(ids, attention, source, spans, tokenizer, composition):
    """Joins the pieces of tokens to a text, as long as the tokenizer allows.

    Args:
        ids: The tokens, without the end token.
        attention: Float ``(tokens, source tokens)``.
        source: The text that the attention looks at; an unknown token copies the code
            point of it that it looks at most.
        spans: The code points of ``source`` that each source token covers.
        tokenizer: The target tokenizer.
        composition: :class:`pocketseq.pipeline.text.composition.Composition` that the
            text leaves in; None: as the pieces spell it.

    Returns:
        :class:`Written`.
    """
    rows = _over_code_points(attention, spans, len(source))
    pointed = [source[row.argmax()] if source else "" for row in rows]
    text, pieces, starts, tokens = "", [], [], []
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
    places = range(len(text))
    if composition is not None:
        text, places = composition.compose(text)
    alignment = _mean_rows(rows[tokens], places, len(text))
    return Written(text, alignment, tuple(pieces), tuple(places[i] for i in starts))


def _mean_rows(rows, places, count):
    """Returns the mean ``(count, ...)`` of the rows that fall on each place."""
    places = np.array(places, np.intp)
    sums = np.zeros((count, *rows.shape[1:]), np.float32)
    np.add.at(sums, places, rows)
    return sums / np.bincount(places, minlength=count).astype(np.float32)[:, None]


def _over_code_points(attention, spans, code_points):
    """Spreads attention over tokens evenly over the code points of each token.

    Args:
        attention: ``(target tokens, source_length)``.
        spans: For each source token, its code points.
        code_points: Their number in the source text.
    """
    rows = np.zeros((len(attention), code_points), np.float32)
    for token, span in enumerate(spans):
        for index in span:
            rows[:, index] += attention[:, token] / len(span)
    return rows
