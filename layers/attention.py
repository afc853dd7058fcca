"""Attention: which source positions each decoder step looks at.

All classes share one call, and differ in their score only, so that they can be compared
with nothing else changed. The cosine is the first choice.
"""

import math
from typing import Any

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


def masked_softmax(scores: tf.Tensor, source_mask: tf.Tensor | None) -> tf.Tensor:
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


def dot_products(queries: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
    """Returns ``queries keys'``, ``(batch, target_length, source_length)``.

    For one query about one text, which is a step on a device, it is a sum of products:
    a matrix product there would rearrange all keys first, at each step.
    """
    if list(queries.shape[:2]) == [1, 1]:
        return tf.reduce_sum(queries * keys, axis=-1)[:, tf.newaxis]
    return tf.matmul(queries, keys, transpose_b=True)


def weighted_sums(weights: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Returns ``weights values``, ``(batch, target_length, units)``."""
    if list(weights.shape[:2]) == [1, 1]:
        column = tf.reshape(weights, [1, -1, 1])
        return tf.reduce_sum(column * values, axis=1, keepdims=True)
    return tf.matmul(weights, values)


class Attention(keras.layers.Layer):
    """Base class of attentions: a score, a masked softmax, a weighted sum.

    ``weights = softmax(score(query, keys))``, ``context = weights @ values``
    over source positions, for each query by itself.

    A new attention is a subclass that overrides :meth:`score`, and an entry in
    :data:`ATTENTIONS`. It overrides :meth:`prepare`, too, if part of its score depends
    on the encoder outputs alone: a search prepares once and scores at each step. It
    overrides ``build`` if its score has weights, which are created with
    :data:`FLOAT32_WEIGHT`. Decoder, search, gradients and export need nothing else.

    Call arguments:
        query: float ``(batch, target_length, units)``, the LSTM outputs of the decoder.
        encoder_outputs: float ``(batch, source_length, units)``.
        source_mask: bool ``(batch, source_length)``, True = real token, or None: all
            positions are real.

    Returns:
        ``context`` ``(batch, target_length, units)`` and ``attention_weights``, float32
        ``(batch, target_length, source_length)``: 0 on padding, and rows that sum to 1
        (to 0 where the whole row is padding; the context is then 0, too). The context
        is in the compute dtype of the policy of the layer; all before it is float32.

    Raises:
        TypeError: A mask that is not boolean.

    Example:
        >>> class CappedAttention(Attention):
        ...     def score(self, query, keys):
        ...         return 5.0 * tf.tanh(dot_products(query, keys) / 5.0)

    References:
        Luong, Pham and Manning 2015, "Effective approaches to attention-based neural
        machine translation", section 3.1.
    """

    #: Whether the context joins the decoder output on its way to the next token.
    gives_context = True

    @property
    def scale(self) -> tf.Tensor | None:
        """The factor in front of the similarity; None: the score has none."""
        return None

    def build(self, query_shape=None, encoder_outputs_shape=None):
        """Creates the weights of the score; there are none unless a subclass has some.

        Args:
            query_shape, encoder_outputs_shape: ``(None, None, units)``.
        """

    def prepare(self, encoder_outputs: tf.Tensor) -> tf.Tensor:
        """Returns the keys of the score, which depend on the source alone.

        Args:
            encoder_outputs: float32 ``(batch, source_length, units)``.

        Returns:
            float32 ``(batch, source_length, any width)``.
        """
        return encoder_outputs

    def score(self, query: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
        """Returns scores ``(batch, target_length, source_length)``, before the softmax.

        Args:
            query: float32 ``(batch, target_length, units)``.
            keys: What :meth:`prepare` returns.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define a score")

    def attend(
        self,
        query: tf.Tensor,
        keys: tf.Tensor,
        values: tf.Tensor,
        source_mask: tf.Tensor | None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Computes what a call computes, from keys that :meth:`prepare` has returned.

        Args:
            query, keys: As for :meth:`score`.
            values: The encoder outputs, float32.
            source_mask: See :func:`masked_softmax`.
        """
        attention_weights = masked_softmax(self.score(query, keys), source_mask)
        context = weighted_sums(tf.cast(attention_weights, values.dtype), values)
        return context, attention_weights

    def call(self, query, encoder_outputs, source_mask=None):
        source_mask = checked_mask(source_mask)
        query, values = in_float32((query, encoder_outputs))
        context, weights = self.attend(query, self.prepare(values), values, source_mask)
        return in_compute_dtype(self, context), weights

    def get_config(self):
        # Without this override Keras would refuse a policy that was given as an object.
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
        initial_scale: The scale at the start (always, if not learned), above 0.
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
        self,
        initial_scale: float = 10.0,
        *,
        learned_scale: bool = True,
        maximum_scale: float = 100.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not 0 < initial_scale <= maximum_scale:
            raise ValueError(
                f"initial_scale must be above 0 and at most maximum_scale "
                f"({maximum_scale}), received {initial_scale}"
            )
        self.initial_scale = initial_scale
        self.learned_scale = learned_scale
        self.maximum_scale = maximum_scale

    def build(self, query_shape=None, encoder_outputs_shape=None):
        self.log_scale = self.add_weight(
            name="log_scale",
            shape=(),
            initializer=keras.initializers.Constant(math.log(self.initial_scale)),
            trainable=self.learned_scale,
            **FLOAT32_WEIGHT,
        )

    @property
    def scale(self) -> tf.Tensor:
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

    Example:
        >>> query, outputs = [[[1.0, 2.0]]], [[[3.0, 0.0], [1.0, 1.0]]]
        >>> DotProductAttention().score(tf.constant(query), tf.constant(outputs))
        [[[3.0, 3.0]]]  # 1 * 3 + 2 * 0, and 1 * 1 + 2 * 1

    References:
        Luong, Pham and Manning 2015, eq. 8, "dot".
    """

    def score(self, query, keys):
        return dot_products(query, keys)


@keras.saving.register_keras_serializable(package="pocketseq")
class ScaledDotProductAttention(Attention):
    """Weighs encoder outputs by their dot product, divided by the root of the units.

    ``weights = softmax(q . k / sqrt(units))`` over source positions. Of two vectors
    with random components, the dot product grows with the root of their number; so
    divided, it does not, and the softmax starts out neither flat nor sharp.

    Call arguments and returns: see :class:`Attention`.

    Example:
        >>> query, outputs = [[[1, 2, 0, 2]]], [[[3, 0, 5, 0], [1, 1, 1, 1]]]
        >>> attention.score(tf.constant(query, tf.float32), ...)
        [[[1.5, 2.5]]]  # 3 / sqrt(4), and 5 / sqrt(4)

    References:
        Vaswani et al. 2017, "Attention is all you need", eq. 1.
    """

    def score(self, query, keys):
        return dot_products(query, keys) * query.shape[-1] ** -0.5


@keras.saving.register_keras_serializable(package="pocketseq")
class GeneralAttention(Attention):
    """Weighs encoder outputs by a learned bilinear form of them and the decoder output.

    ``weights = softmax(q' W k)`` over source positions: a dot product that first learns
    which features of the decoder correspond to which of the encoder. ``W k`` depends on
    the source alone, so that a step costs no more than a dot product.

    Call arguments and returns: see :class:`Attention`. ``query`` and
    ``encoder_outputs`` may differ in their units.

    Example:
        >>> attention.kernel.assign([[0.0, 1.0], [1.0, 0.0]])  # the features swapped
        >>> query, outputs = [[[1.0, 2.0]]], [[[3.0, 0.0], [1.0, 1.0]]]
        >>> keys = attention.prepare(tf.constant(outputs))  # [[[0, 3], [1, 1]]]
        >>> attention.score(tf.constant(query), keys)
        [[[6.0, 3.0]]]  # 1 * 0 + 2 * 3, and 1 * 1 + 2 * 1

    References:
        Luong, Pham and Manning 2015, eq. 8, "general".
    """

    def build(self, query_shape=None, encoder_outputs_shape=None):
        """Creates ``kernel``, W transposed: ``(units of outputs, units of queries)``.

        Args:
            query_shape, encoder_outputs_shape: ``(None, None, units)``.
        """
        self.kernel = self.add_weight(
            name="kernel",
            shape=(encoder_outputs_shape[-1], query_shape[-1]),
            initializer="glorot_uniform",
            **FLOAT32_WEIGHT,
        )

    def prepare(self, encoder_outputs):
        return _products(encoder_outputs, self.kernel)

    def score(self, query, keys):
        return dot_products(query, keys)


@keras.saving.register_keras_serializable(package="pocketseq")
class AdditiveAttention(Attention):
    """Weighs encoder outputs by a small network that reads them and the decoder output.

    ``weights = softmax(v . tanh(W q + U k))`` over source positions, the first score
    that an encoder-decoder was given. ``U k`` depends on the source alone; but unlike a
    product, the hyperbolic tangent costs ``width`` operations for each source position
    at each step.

    Args:
        width: The number of hidden units of the network.

    Call arguments and returns: see :class:`Attention`. ``query`` and
    ``encoder_outputs`` may differ in their units.

    Raises:
        ValueError: A width below 1.

    Example:
        >>> attention = AdditiveAttention(width=1)
        >>> attention.query_kernel.assign([[1.0], [0.0]])  # W
        >>> attention.key_kernel.assign([[0.0], [1.0]])  # U
        >>> attention.vector.assign([2.0])  # v
        >>> query, outputs = [[[1.0, 2.0]]], [[[3.0, 0.0], [1.0, -1.0]]]
        >>> keys = attention.prepare(tf.constant(outputs))  # [[[0], [-1]]]
        >>> attention.score(tf.constant(query), keys)
        [[[1.523, 0.0]]]  # 2 tanh(1 + 0), and 2 tanh(1 - 1)

    References:
        Bahdanau, Cho and Bengio 2015, "Neural machine translation by jointly learning
        to align and translate", appendix A.1.2.
    """

    def __init__(self, width: int = 128, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if width < 1:
            raise ValueError(f"width must be at least 1, received {width}")
        self.width = width

    def build(self, query_shape=None, encoder_outputs_shape=None):
        """Creates ``query_kernel``, ``key_kernel`` and ``vector``: W, U and v.

        Args:
            query_shape, encoder_outputs_shape: ``(None, None, units)``.
        """
        self.query_kernel, self.key_kernel = (
            self.add_weight(
                name=name,
                shape=(shape[-1], self.width),
                initializer="glorot_uniform",
                **FLOAT32_WEIGHT,
            )
            for name, shape in (
                ("query_kernel", query_shape),
                ("key_kernel", encoder_outputs_shape),
            )
        )
        limit = (3 / self.width) ** 0.5  # the vector then has a length of about 1
        self.vector = self.add_weight(
            name="vector",
            shape=(self.width,),
            initializer=keras.initializers.RandomUniform(-limit, limit),
            **FLOAT32_WEIGHT,
        )

    def prepare(self, encoder_outputs):
        return _products(encoder_outputs, self.key_kernel)

    def score(self, query, keys):
        read = _products(query, self.query_kernel)
        hidden = tf.tanh(read[:, :, tf.newaxis] + keys[:, tf.newaxis])
        return tf.reduce_sum(hidden * self.vector, axis=-1)

    def get_config(self):
        return {**super().get_config(), "width": self.width}


def _products(vectors: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Returns ``vectors kernel``, ``(batch, length, columns)``, as one product."""
    rows = tf.matmul(tf.reshape(vectors, [-1, vectors.shape[-1]]), kernel)
    shape = tf.concat([tf.shape(vectors)[:2], [rows.shape[-1]]], axis=0)
    return tf.reshape(rows, shape)


@keras.saving.register_keras_serializable(package="pocketseq")
class NoAttention(Attention):
    """No attention: the plain encoder-decoder, which never looks back.

    All source positions have the same weight, so that alignments stay defined, and the
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


#: The attention classes, by the names that configurations use.
ATTENTIONS: dict[str, type[Attention]] = {
    "cosine": CosineAttention,
    "dot": DotProductAttention,
    "scaled_dot": ScaledDotProductAttention,
    "general": GeneralAttention,
    "additive": AdditiveAttention,
    "none": NoAttention,
}
