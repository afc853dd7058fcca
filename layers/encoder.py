"""The encoder: source tokens to one output per token, and a final state."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from pocketseq.layers.dropout import variational_dropout
from pocketseq.layers.embedding import (
    EmbeddedToken,
    LookUp,
    TokenInput,
    TokenTable,
    project_tokens,
    token_embedding,
)
from pocketseq.layers.lstm import LSTM, read_loop
from pocketseq.layers.ngrams import NGramEmbedding
from pocketseq.layers.policy import (
    checked_mask,
    checked_product_dtype,
    in_compute_dtype,
    product_dtype_of,
)
from pocketseq.layers.recurrence import LSTMState, swap_axes


@keras.saving.register_keras_serializable(package="pocketseq")
class LSTMEncoder(keras.layers.Layer):
    """Reads a source text: an embedding, then LSTM layers in one or both directions.

    Args:
        vocabulary_size: Number of source tokens.
        embedding_size: Width of the token embedding.
        units: Width of the outputs; each direction has half of it if bidirectional.
        layers: Number of LSTM layers.
        bidirectional: Whether each layer reads from both ends.
        dropout: Fraction of features dropped after each layer, except in :meth:`loop`.
        longest_ngram: Tokens of the longest n-gram that is embedded besides the tokens
            themselves; 1: none. See :class:`NGramEmbedding`.
        ngram_rows: The largest number of embeddings for the n-grams of a length.
        ngram_size: Their width, at most ``embedding_size``; they are added to the first
            features of the tokens' embeddings.
        ngram_bits: The bits per component of an n-gram's embedding: 32, 8 or 4.
        product_dtype: The dtype that a call rounds the factors of products to; see
            :class:`LSTM`.

    Call arguments:
        source_ids: int32 ``(batch, source_length)``, padded at the right.
        source_mask: bool ``(batch, source_length)``, True = real token, or None: all
            tokens are real.
        dropout_seed: int32 ``(2,)``; None, as in inference, means no dropout.

    Returns:
        Outputs ``(batch, source_length, units)``, 0 on padding, and a tuple with the
        final :class:`LSTMState` of each layer, ``(batch, units)``: if bidirectional,
        the forward state at the last token beside the backward one at the first. All
        are in the compute dtype of the policy of the layer.

    Raises:
        ValueError: An odd number of units for two directions, or a product dtype that
            is not known.
        TypeError: A mask that is not boolean.

    References:
        Schuster and Paliwal 1997 (bidirectional); Bahdanau, Cho and Bengio 2015,
        section 3.2.
    """

    def __init__(
        self,
        vocabulary_size: int,
        embedding_size: int,
        units: int,
        *,
        layers: int = 1,
        bidirectional: bool = True,
        dropout: float = 0.0,
        longest_ngram: int = 1,
        ngram_rows: int = 4096,
        ngram_size: int = 64,
        ngram_bits: int = 32,
        product_dtype: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if bidirectional and units % 2:
            raise ValueError(
                f"units must be even for a bidirectional encoder, received {units}"
            )
        self.vocabulary_size = vocabulary_size
        self.embedding_size = embedding_size
        self.units = units
        self.layers = layers
        self.bidirectional = bidirectional
        self.dropout = dropout
        self.product_dtype = checked_product_dtype(product_dtype)
        self.longest_ngram = longest_ngram
        self.ngram_rows = ngram_rows
        self.ngram_size = ngram_size
        self.ngram_bits = ngram_bits
        self.embedding = token_embedding(vocabulary_size, embedding_size)
        self.ngrams = None
        if longest_ngram > 1:
            self.ngrams = NGramEmbedding(
                vocabulary_size,
                min(ngram_size, embedding_size),
                longest=longest_ngram,
                rows=ngram_rows,
                bits=ngram_bits,
                name="ngrams",
                dtype="float32",
            )
        width = units // 2 if bidirectional else units
        options = {"product_dtype": product_dtype, "dtype": self.dtype_policy}
        self.forward = [
            LSTM(width, name=f"forward_{i}", **options) for i in range(layers)
        ]
        self.backward = [
            LSTM(width, reverse=True, name=f"backward_{i}", **options)
            for i in range(layers if bidirectional else 0)
        ]

    def build(self, source_ids_shape):
        self.embedding.build(source_ids_shape)
        if self.ngrams is not None:
            self.ngrams.build(source_ids_shape)
        width = self.embedding_size
        for index, layer in enumerate(self.forward):
            layer.build((None, None, width))
            if self.bidirectional:
                self.backward[index].build((None, None, width))
            width = self.units

    def call(self, source_ids, source_mask=None, dropout_seed=None):
        source_mask = checked_mask(source_mask)
        # The ids are transposed for time-major inputs, because they are the smallest.
        ids_by_time = tf.transpose(source_ids)
        around = self._around(ids_by_time, source_mask)
        dtype = product_dtype_of(self)

        def project(lstm, inputs):
            if inputs is not None:
                return lstm.project(inputs, dtype)
            projected = project_tokens(self.embedding, lstm, ids_by_time)
            if around is not None:
                projected += lstm.multiply(around, dtype)
            return projected

        def read_layer(layers, inputs):
            by_time = None if inputs is None else swap_axes(inputs)
            projected = [project(lstm, by_time) for lstm in layers]
            read = [
                lstm.run(one, source_mask)
                for lstm, one in zip(layers, projected, strict=True)
            ]
            return [(swap_axes(outputs), state) for outputs, state in read]

        return in_compute_dtype(self, self._encode(read_layer, dropout_seed))

    def loop(
        self,
        source_ids: tf.Tensor,
        source_mask: tf.Tensor | None = None,
        token_inputs: Sequence[TokenInput] | None = None,
        look_up: LookUp | None = None,
    ) -> tuple[tf.Tensor, tuple[LSTMState, ...]]:
        """Computes what a call computes, in float32, by :func:`read_loop`.

        Args:
            source_ids, source_mask: As in a call.
            token_inputs: How tokens become inputs, one per LSTM of the first layer,
                such as :meth:`token_tables`; None: :class:`EmbeddedToken`.
            look_up: How n-grams are looked up, such as :meth:`ngram_tables`; None: by
                the layer.
        """
        if not self.built:
            self.build(source_ids.shape)
        if token_inputs is None:
            token_inputs = [
                EmbeddedToken(self.embedding, lstm) for lstm in self._layer(0)
            ]
        source_mask = checked_mask(source_mask)
        if source_mask is None:
            source_mask = tf.ones(tf.shape(source_ids), tf.bool)
        ids_by_time = tf.transpose(source_ids)
        around = self._around(ids_by_time, source_mask, look_up)

        def read_layer(layers, inputs):
            def project(index, time):
                if inputs is not None:
                    return layers[index].project(tf.gather(by_time, time))
                projected = token_inputs[index].project(tf.gather(ids_by_time, time))
                if around is not None:
                    projected += layers[index].multiply(tf.gather(around, time))
                return projected

            by_time = None if inputs is None else swap_axes(inputs)
            return read_loop(layers, project, source_mask)

        return self._encode(read_layer, None)

    def token_tables(self, bits: int = 32) -> tuple[TokenTable, ...]:
        """Returns a :class:`TokenTable` for each LSTM of the first layer.

        Args:
            bits: Per component of a row.
        """
        return tuple(TokenTable(self.embedding, lstm, bits) for lstm in self._layer(0))

    def ngram_tables(self, bits: int = 32) -> LookUp | None:
        """Returns how n-grams are looked up in constants; None: there are none.

        Args:
            bits: Per component of a row.
        """
        return None if self.ngrams is None else self.ngrams.constant(bits)

    def _around(self, ids_by_time, mask, look_up=None):
        """Returns the embeddings of n-grams ``(length, batch, width)``, or None."""
        if self.ngrams is None:
            return None
        if mask is not None:
            ids_by_time = tf.where(tf.transpose(mask), ids_by_time, 0)
        look_up = look_up or self.ngrams.look_up
        return look_up(self.ngrams.numbers(ids_by_time, axis=0))

    def _layer(self, index):
        """Returns the LSTMs of a layer: forward, and backward if bidirectional."""
        return [self.forward[index], *self.backward[index : index + 1]]

    def _encode(self, read_layer, dropout_seed):
        """Runs the layers: ``(its LSTMs, inputs or None) -> [(outputs, state)]``."""
        inputs, states = None, []
        for index in range(self.layers):
            read = read_layer(self._layer(index), inputs)
            outputs = tf.concat([outputs for outputs, _ in read], axis=-1)
            parts = zip(*(state for _, state in read), strict=True)
            states.append(LSTMState(*(tf.concat(part, axis=-1) for part in parts)))
            inputs = variational_dropout(outputs, self.dropout, dropout_seed, index)
        return inputs, tuple(states)

    def get_config(self):
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "embedding_size": self.embedding_size,
            "units": self.units,
            "layers": self.layers,
            "bidirectional": self.bidirectional,
            "dropout": self.dropout,
            "longest_ngram": self.longest_ngram,
            "ngram_rows": self.ngram_rows,
            "ngram_size": self.ngram_size,
            "ngram_bits": self.ngram_bits,
            "product_dtype": self.product_dtype,
        }
