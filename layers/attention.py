"""Attention: which source positions each decoder step looks at.

Every class answers the same call; the cosine is the first choice, and the others
override its score only, so that they can be compared with nothing else changed.
"""

import math

import keras
import tensorflow as tf

from pocketseq.layers.policy import (
    FLOAT32_WEIGHT,
    checked_mask,
    in_compute_dtype,
    in_float32,
    mask_numbers,
)

# Added in place of a masked score. Finite, so that a fully masked row stays a number.
MASKED_SCORE = -1e9

# Squares below it count as it, so that a zero vector has the cosine 0 with everything.
_SMALLEST_SQUARE = 1e-12


def masked_softmax(scores, source_mask):
    """Softmax over the last axis that gives masked positions exactly 0.

    Args:
        scores: float ``(batch, target_length, source_length)``.
        source_mask: bool ``(batch, source_length)``, True = real token; or float32,
            1 and 0; or None: all positions are real.

    Returns:
        float32, shaped like ``scores``. Rows sum to 1; a fully masked row is all 0.
    """
    scores = tf.cast(scores, tf.float32)
    if source_mask is None:
        return tf.nn.softmax(scores)
    mask = tf.expand_dims(mask_numbers(source_mask), 1)  # (batch, 1, length)
    return tf.nn.softmax(scores + (1.0 - mask) * MASKED_SCORE) * mask


def dot_products(queries, keys):
    """Returns ``queries keys'``, ``(batch, target_length, source_length)``.

    One query about one text, which is a step on a device, is worked out as a sum of
    products: a matrix product there would rearrange all keys first, at each step.
    """
    if list(queries.shape[:2]) == [1, 1]:
        return tf.reduce_sum(queries * keys, axis=-1)[:, tf.newaxis]
    return tf.matmul(queries, keys, transpose_b=True)


def weighted_sums(weights, values):
    """Returns ``weights values``, ``(batch, target_length, units)``."""
    if list(weights.shape[:2]) == [1, 1]:
        column = tf.reshape(weights, [1, -1, 1])
        return tf.reduce_sum(column * values, axis=1, keepdims=True)
    return tf.matmul(weights, values)


class Attention(keras.layers.Layer):
    """What all attentions share: a score, a masked softmax, a weighted sum.

    ``weights = softmax(score(query, keys))``, ``context = weights @ values``
    over source positions, for each query by itself.

    A subclass overrides :meth:`score`, and :meth:`prepare` when a part of its score
    depends on the encoder outputs alone: a search prepares once and scores each step.

    Call arguments:
        query: float ``(batch, target_length, units)``, the decoder's LSTM outputs.
        encoder_outputs: float ``(batch, source_length, units)``.
        source_mask: bool ``(batch, source_length)``, True = real token, or None: all
            are real.

    Returns:
        ``context`` ``(batch, target_length, units)`` and ``attention_weights``, float32
        ``(batch, target_length, source_length)``: 0 on padding, and rows that sum to 1
        (to 0 where the whole row is padding; the context is then 0, too). The context
        is in the compute dtype of the layer's policy; all before it is float32.

    Raises:
        TypeError: A mask that is not boolean.

    References:
        Luong, Pham and Manning 2015, "Effective approaches to attention-based neural
        machine translation", section 3.1.
    """

    #: Whether the context joins the decoder output on its way to the next token.
    gives_context = True

    def prepare(self, encoder_outputs):
        """Returns the keys to score against: what depends on the source alone."""
        return encoder_outputs

    def score(self, query, keys):
        """Returns scores ``(batch, target_length, source_length)``."""
        raise NotImplementedError

    def attend(self, query, keys, values, source_mask):
        """Like a call, with ``keys`` that :meth:`prepare` has already made."""
        attention_weights = masked_softmax(self.score(query, keys), source_mask)
        context = weighted_sums(tf.cast(attention_weights, values.dtype), values)
        return context, attention_weights

    def call(self, query, encoder_outputs, source_mask=None):
        source_mask = checked_mask(source_mask)
        query, values = in_float32((query, encoder_outputs))
        context, weights = self.attend(query, self.prepare(values), values, source_mask)
        return in_compute_dtype(self, context), weights

    def get_config(self):
        # Inherited as it is, it would refuse a policy that was given as an object.
        return super().get_config()


@keras.saving.register_keras_serializable(package="pocketseq")
class CosineAttention(Attention):
    """Weighs encoder outputs by their cosine similarity to the decoder output.

    ``weights = softmax(scale * (q . k) / (|q| |k|))`` over source positions.

    A cosine lies in [-1, 1], so a bare softmax over it stays flat: over 20 positions
    no weight can pass 0.28. The learned scale lets training sharpen it. The scale is
    kept as its logarithm, which keeps it positive, and stops at ``maximum_scale``.
    The textbook form is ``CosineAttention(initial_scale=1.0, learned_scale=False)``.

    A zero vector has the cosine 0 with everything.

    Args:
        initial_scale: The scale at the start (or for good), above 0.
        learned_scale: Whether training changes the scale.
        maximum_scale: The largest scale used, at least ``initial_scale``.

    Call arguments and returns: see :class:`Attention`. ``query`` and
    ``encoder_outputs`` must have the same number of units.

    Raises:
        ValueError: A scale that is not positive, or above its maximum.
        TypeError: A mask that is not boolean.

    Example:
        >>> attention = CosineAttention()
        >>> context, weights = attention(decoder_outputs, encoder_outputs, source_mask)

    References:
        Graves, Wayne and Danihelka 2014, "Neural Turing machines", eq. 5 and 6;
        Liu et al. 2022, "Swin Transformer V2", eq. 2 (learned scale).
    """

    def __init__(
        self, initial_scale=10.0, *, learned_scale=True, maximum_scale=100.0, **kwargs
    ):
        super().__init__(**kwargs)
        if not 0 < initial_scale <= maximum_scale:
            raise ValueError(
                f"initial_scale must be above 0 and at most maximum_scale "
                f"({maximum_scale}), received {initial_scale}"
            )
        self.initial_scale = initial_scale
        self.learned_scale = learned_scale
        self.maximum_scale = maximum_scale

    def build(self, *input_shapes):
        self.log_scale = self.add_weight(
            name="log_scale",
            shape=(),
            initializer=keras.initializers.Constant(math.log(self.initial_scale)),
            trainable=self.learned_scale,
            **FLOAT32_WEIGHT,
        )

    @property
    def scale(self):
        """The factor in front of the cosine, a float32 scalar."""
        return tf.minimum(tf.exp(self.log_scale), self.maximum_scale)

    def prepare(self, encoder_outputs):
        return tf.math.l2_normalize(tf.cast(encoder_outputs, tf.float32), axis=-1)

    def score(self, query, keys):
        query = tf.cast(query, tf.float32)
        squared = tf.reduce_sum(query * query, axis=-1, keepdims=True)
        # |q| divides the few scores, where it could divide the many units of the query.
        norm = tf.math.rsqrt(tf.maximum(squared, _SMALLEST_SQUARE))
        return dot_products(query, keys) * (self.scale * norm)

    def get_config(self):
        return {
            **super().get_config(),
            "initial_scale": self.initial_scale,
            "learned_scale": self.learned_scale,
            "maximum_scale": self.maximum_scale,
        }


@keras.saving.register_keras_serializable(package="pocketseq")
class DotProductAttention(Attention):
    """Weighs encoder outputs by their dot product with the decoder output.

    ``weights = softmax(q . k)`` over source positions.

    Call arguments and returns: see :class:`Attention`.

    References:
        Luong, Pham and Manning 2015, eq. 8, "dot".
    """

    def score(self, query, keys):
        return dot_products(query, keys)


@keras.saving.register_keras_serializable(package="pocketseq")
class NoAttention(Attention):
    """The plain encoder-decoder: the decoder never looks back.

    All source positions weigh the same, so that alignments stay defined, and the
    decoder leaves the context out (``gives_context``).

    Call arguments and returns: see :class:`Attention`.

    References:
        Sutskever, Vinyals and Le 2014, "Sequence to sequence learning with neural
        networks".
    """

    gives_context = False

    def score(self, query, keys):
        # Zeros by way of the shapes alone: (batch, target_length, source_length).
        return tf.zeros_like(query[:, :, :1]) * tf.zeros_like(keys[:, tf.newaxis, :, 0])


#: The names that configurations use.
ATTENTIONS = {
    "cosine": CosineAttention,
    "dot": DotProductAttention,
    "none": NoAttention,
}
