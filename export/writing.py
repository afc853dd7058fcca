"""Writing: target tokens to code points and their alignment, by TFLite builtins.

The counterpart of :class:`pocketseq.pipeline.translator.ModelTranslator`'s last step.
"""

import numpy as np
import tensorflow as tf

from pocketseq.export.reading import is_character, real_code_points
from pocketseq.pipeline.special import END, UNKNOWN, UNKNOWN_PIECE


def write(token_ids, length, attention, source, text, tokenizer):
    """Turns the tokens of one hypothesis into text.

    Args:
        token_ids: int32 ``(T,)``, the end token included.
        length: int32 scalar, the number of tokens.
        attention: float32 ``(T, S)``, 0 after the last token.
        source: :class:`pocketseq.export.reading.SourceTokens` of the source text.
        text: int32 ``(N,)``, the source text.
        tokenizer: The target tokenizer.

    Returns:
        Code points, int32 ``(M,)``, and their alignment, float32 ``(M, N)``. A text
        longer than M ends with the last whole token that fits.
    """
    max_code_points = tokenizer.max_code_points
    by_token = attention
    if source.spread is not None:
        by_token = tf.matmul(attention, source.spread)  # (T, N)
    pieces = _piece_table(tokenizer)
    position = tf.range(token_ids.shape[0])
    is_text = tf.logical_and(position < length, tf.not_equal(token_ids, END))
    separator = tf.cast(position > 0, tf.int32) * len(tokenizer.separator)
    sizes = tf.gather(pieces.length, token_ids) + separator
    ends = tf.cumsum(tf.where(is_text, sizes, 0))
    starts = ends - sizes
    fits = tf.logical_and(is_text, ends <= max_code_points)
    written = tf.reduce_max(tf.where(fits, ends, 0))

    # Each token marks where it starts; the running sum of marks numbers the tokens.
    place = tf.where(fits, starts, max_code_points)
    marks = tf.scatter_nd(place[:, None], tf.ones_like(place), [max_code_points + 1])[
        :max_code_points
    ]
    token = tf.maximum(tf.cumsum(marks) - 1, 0)  # (M,)
    token_id = tf.gather(token_ids, token)
    offset = tf.range(max_code_points) - tf.gather(starts, token)
    offset -= tf.gather(separator, token)
    index = tf.gather(pieces.start, token_id) + tf.maximum(offset, 0)
    code_points = tf.gather(pieces.characters, tf.minimum(index, pieces.last))
    pointed = tf.gather(
        _showable(text), tf.argmax(by_token, axis=1, output_type=tf.int32)
    )
    unknown = tf.equal(token_id, UNKNOWN)
    code_points = tf.where(unknown, tf.gather(pointed, token), code_points)
    code_points = tf.where(offset < 0, ord(" "), code_points)
    real = tf.range(max_code_points) < written
    alignment = tf.where(real[:, None], tf.gather(by_token, token), 0.0)
    return tf.where(real, code_points, 0), alignment


def _showable(text):
    """What may be copied from a source text: characters; all else is U+FFFD."""
    showable = tf.logical_and(is_character(text), real_code_points(text))
    return tf.where(showable, text, ord(UNKNOWN_PIECE))


class _piece_table:
    """The code points of all pieces one after the other, and where each starts."""

    def __init__(self, tokenizer):
        # Brackets of the special pieces are never text.
        pieces = [p if i >= UNKNOWN else "" for i, p in enumerate(tokenizer.pieces)]
        lengths = np.array([len(piece) for piece in pieces], np.int32)
        self.length = lengths
        self.start = (np.cumsum(lengths) - lengths).astype(np.int32)
        self.characters = np.array([ord(c) for p in pieces for c in p], np.int32)
        self.last = len(self.characters) - 1
