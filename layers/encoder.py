"""The encoder: source tokens to one output a token, and a final state."""

import keras
import tensorflow as tf

from pocketseq.layers.dropout import variational_dropout
from pocketseq.layers.embedding import TokenTable, project_tokens, token_embedding
from pocketseq.layers.lstm import LSTM, read_loop
from pocketseq.layers.policy import checked_mask, in_compute_dtype, products_of
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
        dropout: Share of features dropped after each layer.

    Call arguments:
        source_ids: int32 ``(batch, source_length)``, padded at the right.
        source_mask: bool ``(batch, source_length)``, True = real token, or None: all
            are real.
        dropout_seed: int32 ``(2,)``; None, as in inference, means no dropout.

    Returns:
        Outputs ``(batch, source_length, units)``, 0 on padding, and a tuple with the
        final :class:`LSTMState` of each layer, ``(batch, units)``: where bidirectional,
        the forward state at the last token beside the backward one at the first. All
        are in the compute dtype of the layer's policy.

    Raises:
        ValueError: An odd number of units for two directions.
        TypeError: A mask that is not boolean.

    References:
        Schuster and Paliwal 1997 (bidirectional); Bahdanau, Cho and Bengio 2015,
        section 3.2.
    """

    def __init__(
        self,
        vocabulary_size,
        embedding_size,
        units,
        *,
        layers=1,
        bidirectional=True,
        dropout=0.0,
        **kwargs,
    ):
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
        self.embedding = token_embedding(vocabulary_size, embedding_size)
        width = units // 2 if bidirectional else units
        policy = self.dtype_policy
        self.forward = [
            LSTM(width, name=f"forward_{i}", dtype=policy) for i in range(layers)
        ]
        self.backward = [
            LSTM(width, reverse=True, name=f"backward_{i}", dtype=policy)
            for i in range(layers if bidirectional else 0)
        ]
        self.token_tables: tuple[TokenTable, ...] = ()

    def build(self, source_ids_shape, *_):
        self.embedding.build(source_ids_shape)
        width = self.embedding_size
        for index, layer in enumerate(self.forward):
            layer.build((None, None, width))
            if self.bidirectional:
                self.backward[index].build((None, None, width))
            width = self.units

    def call(self, source_ids, source_mask=None, dropout_seed=None):
        source_mask = checked_mask(source_mask)
        # Ids change places for time-major inputs, because they are the least to move.
        ids_by_time = tf.transpose(source_ids)

        def read_layer(layers, inputs):
            if inputs is None:
                projected = [
                    project_tokens(self.embedding, lstm, ids_by_time) for lstm in layers
                ]
            else:
                by_time = swap_axes(inputs)
                projected = [lstm.project(by_time) for lstm in layers]
            read = [
                lstm.run(one, source_mask)
                for lstm, one in zip(layers, projected, strict=True)
            ]
            return [(swap_axes(outputs), state) for outputs, state in read]

        with products_of(self):
            return in_compute_dtype(self, self._encode(read_layer, dropout_seed))

    def loop(self, source_ids, source_mask=None):
        """Computes what a call computes, in float32, by :func:`read_loop`."""
        source_mask = checked_mask(source_mask)
        if source_mask is None:
            source_mask = tf.ones(tf.shape(source_ids), tf.bool)
        ids_by_time = tf.transpose(source_ids)

        def read_layer(layers, inputs):
            def project(number, time):
                if inputs is None:
                    ids = tf.gather(ids_by_time, time)
                    if self.token_tables:
                        return self.token_tables[number].project(ids)
                    return layers[number].project(self.embedding(ids))
                return layers[number].project(tf.gather(by_time, time))

            by_time = None if inputs is None else swap_axes(inputs)
            return read_loop(layers, project, source_mask)

        return self._encode(read_layer, None)

    def use_tables(self, *, int8):
        """Lets :meth:`loop` look tokens up in constants; see :class:`TokenTable`.

        For a copy that is about to be exported.
        """
        self.token_tables = tuple(
            TokenTable(self.embedding, lstm, int8=int8) for lstm in self._layer(0)
        )

    def _layer(self, index):
        """The LSTMs of one layer: forward, and backward where there are two."""
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
        }
