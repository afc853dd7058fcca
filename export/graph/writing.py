"""Writing: target tokens to code points and their alignment, by TFLite builtins.

The counterpart of :class:`pocketseq.pipeline.translator.ModelTranslator`'s last step.
"""

from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from pocketseq.export.graph.reading import is_character, look_up, real_code_points
from pocketseq.pipeline.text.special import END, UNKNOWN_PIECE
from pocketseq.pipeline.text.tokenizers import Tokenizer


def write(
    token_ids: tf.Tensor,
    length: tf.Tensor,
    attention: tf.Tensor,
    spread: tf.Tensor | None,
    text: tf.Tensor,
    tokenizer: Tokenizer,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Turns the tokens of one hypothesis into text.

    Args:
        token_ids: int32 ``(T,)``, the end token included.
        length: int32 scalar, the number of tokens.
        attention: float32 ``(T, S)``, with S at most N.
        spread: float32 ``(S, N)``, the fraction of a source token's attention that
            falls to each code point; None: source token i is code point i.
        text: int32 ``(N,)``, the source text.
        tokenizer: The target tokenizer.

    Returns:
        Code points, int32 ``(M,)``, and their alignment, float32 ``(M, N)``. A text
        longer than M ends with the last whole token that fits.
    """
    max_code_points = tokenizer.max_code_points
    tokens = token_ids.shape[0]
    rows = _over_code_points(attention, spread, text.shape[0])  # (T + 1, N)
    pieces = _PieceTable(tokenizer)
    position = tf.range(tokens)
    is_text = tf.logical_and(position < length, tf.not_equal(token_ids, END))
    separator = tf.where(position > 0, look_up(pieces.separators, token_ids), 0)
    sizes = look_up(pieces.lengths, token_ids) + separator
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
    # All that is known per token is computed before tokens are spread over code points,
    # of which there are many more.
    begins = starts + separator
    from_begin = look_up(pieces.starts, token_ids) - begins
    copied = tf.where(
        _is_unknown(token_ids, tokenizer),
        tf.gather(
            _showable(text), tf.argmax(rows[:tokens], axis=1, output_type=tf.int32)
        ),
        -1,
    )
    here = tf.range(max_code_points)
    index = tf.maximum(here + tf.gather(from_begin, token), 0)
    character = look_up(pieces.characters, tf.minimum(index, pieces.last))
    code_points = tf.gather(pieces.alphabet, character)
    copied = tf.gather(copied, token)
    code_points = tf.where(copied >= 0, copied, code_points)
    code_points = tf.where(here < tf.gather(begins, token), ord(" "), code_points)
    real = here < written
    # The row after the last token's is zeros.
    alignment = tf.gather(rows, tf.where(real, token, tokens))
    return tf.where(real, code_points, 0), alignment


def _is_unknown(token_ids: tf.Tensor, tokenizer: Tokenizer) -> tf.Tensor:
    """Whether each token stands for a character outside the alphabet."""
    unknown_ids = tf.constant(sorted(tokenizer.unknown_ids), tf.int32)
    return tf.reduce_any(tf.equal(token_ids, unknown_ids[:, None]), axis=0)


def _over_code_points(
    attention: tf.Tensor, spread: tf.Tensor | None, code_points: int
) -> tf.Tensor:
    """Returns the attention over code points ``(T + 1, N)``, its last row zeros."""
    tokens, source_tokens = attention.shape
    attention = tf.concat([attention, tf.zeros([1, source_tokens])], axis=0)
    if spread is not None:
        return tf.matmul(attention, spread)
    beyond = code_points - source_tokens
    if not beyond:
        return attention
    # Zeros that the converter does not see through: it would store all of them.
    zeros = tf.fill([tokens + 1, beyond], tf.minimum(attention[0, 0], 0.0))
    return tf.concat([attention, zeros], axis=1)


def _showable(text: tf.Tensor) -> tf.Tensor:
    """Returns what may be copied from a source text: characters; all else is U+FFFD."""
    showable = tf.logical_and(is_character(text), real_code_points(text))
    return tf.where(showable, text, ord(UNKNOWN_PIECE))


class _PieceTable:
    """The texts of the pieces, as small arrays of integers.

    By piece id: ``separators``, whether a separator comes before it; ``lengths`` and
    ``starts``, its span of ``characters``, which are indices into ``alphabet``, code
    points. ``last`` is the last index of ``characters``.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        texts = tokenizer.piece_texts
        joined = _joined(texts)
        alphabet = sorted(set(joined))
        number_of = {character: i for i, character in enumerate(alphabet)}
        self.separators = [not continues for continues in tokenizer.continues]
        self.lengths = list(map(len, texts))
        self.starts = list(map(joined.index, texts))
        self.characters = [number_of[character] for character in joined]
        self.last = len(joined) - 1
        self.alphabet = np.array(list(map(ord, alphabet)), np.int32)


def _joined(texts: Iterable[str]) -> str:
    """Returns a text that contains all texts; many are parts of others."""
    joined = ""
    for text in sorted(set(texts), key=lambda text: (-len(text), text)):
        if text not in joined:
            joined += text
    return joined
