"""The attentive decoder: one step, which training, search and export all take."""

from typing import NamedTuple

import keras
import tensorflow as tf

from pocketseq.layers.attention import ATTENTIONS
from pocketseq.layers.dropout import variational_dropout
from pocketseq.layers.embedding import TokenTable, project_tokens, token_embedding
from pocketseq.layers.lstm import LSTM
from pocketseq.layers.policy import (
    FLOAT32_WEIGHT,
    checked_mask,
    in_compute_dtype,
    in_float32,
    mask_numbers,
    products_of,
)
from pocketseq.layers.products import product, product_dtype
from pocketseq.layers.recurrence import (
    LookBack,
    LSTMState,
    run_feeding_lstms,
    swap_axes,
)

#: By these names an export finds the last two products: the readout, and the scores of
#: the tokens.
READOUT, OUTPUT_PRODUCT = "readout", "output_product"

# Dropout places of the decoder; the encoder's are below.
_DROPOUT_PLACE = 1000


class Memory(NamedTuple):
    """What the decoder looks back at, made once a text.

    ``keys`` float ``(batch, source_length, units)``, what the attention scores
    against; ``values``, likewise, what it sums; ``source_mask`` float32
    ``(batch, source_length)``, 1 = real token, 0 = padding.
    """

    keys: tf.Tensor
    values: tf.Tensor
    source_mask: tf.Tensor


class DecoderState(NamedTuple):
    """What a step passes to the next one.

    ``lstm`` is a tuple of :class:`LSTMState`, one a layer; ``context`` is float
    ``(rows, units)`` with input feeding, and ``()`` without.
    """

    lstm: tuple[LSTMState, ...]
    context: tf.Tensor | tuple[()]


@keras.saving.register_keras_serializable(package="pocketseq")
class AttentiveLSTMDecoder(keras.layers.Layer):
    """Writes a target text, looking back at every encoder output at each step.

    One step, from the previous token to scores for the next::

        hidden, state = lstm([embedding(token); previous context], state)
        context, attention_weights = attention(hidden, encoder outputs)
        readout = tanh([context; hidden] W)
        logits = readout E' + b        (E: the target embedding, if tied)

    Without input feeding ("previous context" left out) no step of the LSTM waits for
    the attention: training runs the LSTM over the whole target, then attention as one
    batched product. :meth:`step` and a call give the same numbers either way.

    Encoder outputs or states of another width than ``units`` pass through a learned
    projection first.

    Args:
        vocabulary_size: Number of target tokens.
        embedding_size: Width of the token embedding.
        units: Width of the LSTM layers.
        layers: Number of LSTM layers.
        attention: A name in :data:`ATTENTIONS`, or an :class:`Attention` layer.
        input_feeding: Whether a step sees the context of the step before.
        tied_output: Whether the output projection is the target embedding.
        dropout: Share of features dropped between LSTM layers and in the readout.

    Call arguments:
        target_ids: int32 ``(batch, target_length)``: the start token, then the target.
        memory: :class:`Memory`, from :meth:`memory`.
        state: :class:`DecoderState`, from :meth:`initial_state`.
        dropout_seed: int32 ``(2,)``; None, as in inference, means no dropout.

    Returns:
        Logits ``(batch, target_length, vocabulary_size)`` in the compute dtype of the
        layer's policy, and ``attention_weights``, float32
        ``(batch, target_length, source_length)``.

    Raises:
        ValueError: The attention is not known.
        TypeError: A mask that is not boolean, in :meth:`memory`.

    References:
        Luong, Pham and Manning 2015, sections 3.1 and 3.3 (input feeding, here of the
        context); Press and Wolf 2017 (tied embedding).
    """

    def __init__(
        self,
        vocabulary_size,
        embedding_size,
        units,
        *,
        layers=1,
        attention="cosine",
        input_feeding=False,
        tied_output=True,
        dropout=0.0,
        **kwargs,
    ):
        # What :meth:`memory` has prepared in float32 is not rounded on its way in.
        super().__init__(autocast=False, **kwargs)
        if isinstance(attention, str) and attention not in ATTENTIONS:
            raise ValueError(
                f"attention must be one of {', '.join(sorted(ATTENTIONS))}, "
                f"received {attention!r}"
            )
        if isinstance(attention, str):
            attention = ATTENTIONS[attention](name="attention", dtype=self.dtype_policy)
        self.vocabulary_size = vocabulary_size
        self.embedding_size = embedding_size
        self.units = units
        self.layers = layers
        self.attention = attention
        self.input_feeding = input_feeding
        self.tied_output = tied_output
        self.dropout = dropout
        self.embedding = token_embedding(vocabulary_size, embedding_size)
        self.token_table = None
        self.lstm = [
            LSTM(units, name=f"lstm_{i}", dtype=self.dtype_policy)
            for i in range(layers)
        ]
        self.readout = keras.layers.Dense(
            embedding_size if tied_output else units,
            activation="tanh",
            name=READOUT,
            dtype="float32",
        )

    def build(self, encoder_units, encoder_layers=1):
        """Creates the weights.

        Args:
            encoder_units: Width of the encoder's outputs and states.
            encoder_layers: Number of encoder layers, each with a state.
        """
        self.encoder_units = encoder_units
        self.encoder_layers = encoder_layers
        self.embedding.build((None, None))
        width = self.embedding_size + (self.units if self.input_feeding else 0)
        for layer in self.lstm:
            layer.build((None, None, width))
            width = self.units
        if not self.attention.built:  # a loaded one has been
            self.attention.build((None, None, self.units))
        read = 2 * self.units if self.attention.gives_context else self.units
        self.readout.build((None, read))
        looks_back = self.attention.gives_context or self.input_feeding
        other_units = encoder_units != self.units
        self.projection = self._bridge("projection", looks_back and other_units, None)
        other_states = other_units or encoder_layers != self.layers
        self.bridges = [
            self._bridge(f"bridge_{i}_{part}", other_states, activation)
            for i in range(self.layers)
            for part, activation in (("hidden", "tanh"), ("cell", None))
        ]
        if not self.tied_output:
            self.output_kernel = self.add_weight(
                name="output_kernel",
                shape=(self.vocabulary_size, self.units),
                **FLOAT32_WEIGHT,
            )
        self.output_bias = self.add_weight(
            name="output_bias",
            shape=(self.vocabulary_size,),
            initializer="zeros",
            **FLOAT32_WEIGHT,
        )
        self.built = True

    def _bridge(self, name, needed, activation):
        if not needed:
            return None
        bridge = keras.layers.Dense(
            self.units, activation=activation, name=name, dtype="float32"
        )
        bridge.build((None, self.encoder_units))
        return bridge

    def memory(self, encoder_outputs, source_mask=None):
        """Returns the :class:`Memory` of encoder outputs ``(batch, length, units)``.

        Args:
            encoder_outputs: float ``(batch, source_length, units)``.
            source_mask: bool ``(batch, source_length)``, True = real token, or None:
                all are real.

        Raises:
            TypeError: A mask that is not boolean.
        """
        values = in_float32(encoder_outputs)
        if self.projection is not None:
            values = self.projection(values)
        mask = checked_mask(source_mask)
        mask = tf.ones(tf.shape(values)[:2]) if mask is None else mask_numbers(mask)
        return Memory(self.attention.prepare(values), values, mask)

    def initial_state(self, encoder_states):
        """Returns the state before the first step, from the encoder's final states."""
        lstm = tuple(LSTMState(*in_float32(state)) for state in encoder_states)
        if self.bridges[0] is not None:
            top = lstm[-1]
            lstm = tuple(
                LSTMState(hidden(top.hidden), cell(top.cell))
                for hidden, cell in zip(
                    self.bridges[::2], self.bridges[1::2], strict=True
                )
            )
        context = tf.zeros_like(lstm[0].hidden) if self.input_feeding else ()
        return DecoderState(lstm, context)

    def step(self, token_ids, state, memory):
        """Takes one step for each of some hypotheses about each text.

        Args:
            token_ids: int32 ``(rows,)``, the tokens before. There are as many rows for
                each text in ``memory``, its hypotheses one after the other.
            state: :class:`DecoderState` of tensors ``(rows, ...)``.
            memory: :class:`Memory` of the texts, not repeated for the hypotheses.

        Returns:
            Logits ``(rows, vocabulary_size)``, attention weights, float32
            ``(rows, source_length)``, and the next :class:`DecoderState`.
        """
        state, context, weights = self._advance(
            self._project_token(token_ids), state, memory
        )
        logits = self._logits(self._readout(context, state.lstm[-1].hidden))
        return logits, weights, state

    def call(self, target_ids, memory, state, dropout_seed=None):
        memory, state = _float32_memory(memory), _float32_state(state)
        with products_of(self):
            projected = project_tokens(
                self.embedding, self.lstm[0], tf.transpose(target_ids)
            )
            run = self._run_with_feeding if self.input_feeding else self._run_at_once
            hidden = swap_axes(run(projected, memory, state, dropout_seed))
            context, weights = self.attention.attend(hidden, *memory)
            readout = self._drop(self._readout(context, hidden), 0, dropout_seed)
            logits = self._logits(readout)
        return in_compute_dtype(self, logits), weights

    def _run_at_once(self, projected, memory, state, dropout_seed):
        """The LSTMs over the whole target, layer by layer, no attention between."""
        hidden, _ = self.lstm[0].run(projected, None, state.lstm[0])
        for index in range(1, self.layers):
            inputs = hidden * self._layer_mask(hidden, index, dropout_seed)
            lstm = self.lstm[index]
            hidden, _ = lstm.run(lstm.project(inputs), None, state.lstm[index])
        return hidden

    def _run_with_feeding(self, projected, memory, state, dropout_seed):
        """Step after step, because each context is an input of the next step."""
        inputs = [self.lstm[0].kernel[self.embedding_size :]]
        inputs += [lstm.kernel for lstm in self.lstm[1:]]
        kernels = [
            tf.concat([lstm.recurrent_kernel, kernel], axis=0)
            for lstm, kernel in zip(self.lstm, inputs, strict=True)
        ]
        masks = [
            self._layer_mask(projected[:, :, : self.units], index, dropout_seed)
            for index in range(1, self.layers)
        ]
        return run_feeding_lstms(
            projected,
            state.lstm,
            state.context,
            kernels,
            [tf.convert_to_tensor(lstm.bias) for lstm in self.lstm[1:]],
            masks,
            self._look_back(memory),
        )

    def _look_back(self, memory):
        variables = self.attention.trainable_weights

        def attend(queries, parts):
            memory, values = parts[:3], parts[3:]
            # The attention's weights by their given values: a gradient needs to see
            # them come in.
            scope = list(zip(variables, values, strict=True))
            with keras.StatelessScope(state_mapping=scope):
                return self.attention.attend(queries, *memory)[0]

        weights = [tf.convert_to_tensor(variable) for variable in variables]
        return LookBack(attend, [*memory, *weights])

    def _layer_mask(self, hidden, index, dropout_seed):
        """What dropout multiplies a layer's inputs by, ``(batch, units)``."""
        ones = tf.ones_like(hidden[0])
        return self._drop(ones[:, None], index, dropout_seed)[:, 0]

    def _project_token(self, token_ids):
        """From token ids ``(rows,)`` to what they add to the first LSTM's gates."""
        if self.token_table is not None:
            return self.token_table.project(token_ids)
        return self.lstm[0].project(self.embedding(token_ids))

    def _advance(self, projected, state, memory):
        """From projected tokens ``(rows, 4 * units)`` to the next state."""
        first = self.lstm[0]
        if self.input_feeding:
            context_kernel = first.kernel[self.embedding_size :]
            projected += tf.matmul(state.context, context_kernel)
        lstm_states = [first.update(projected, state.lstm[0])]
        for lstm, before in zip(self.lstm[1:], state.lstm[1:], strict=True):
            lstm_states.append(lstm.step(lstm_states[-1].hidden, before))
        hidden = lstm_states[-1].hidden
        # Hypotheses about one text share its memory: they are its queries.
        texts = tf.shape(memory.values)[0]
        query = tf.reshape(hidden, [texts, -1, self.units])
        context, weights = self.attention.attend(query, *memory)
        context = tf.reshape(context, [-1, memory.values.shape[-1]])
        weights = tf.reshape(weights, [-1, tf.shape(memory.values)[1]])
        feed = context if self.input_feeding else ()
        return DecoderState(tuple(lstm_states), feed), context, weights

    def use_tables(self, *, int8):
        """Lets :meth:`step` look tokens up in constants; see :class:`TokenTable`.

        For a copy that is about to be exported.
        """
        self.token_table = TokenTable(self.embedding, self.lstm[0], int8=int8)

    def _readout(self, context, hidden):
        inputs = hidden
        if self.attention.gives_context:
            inputs = tf.concat([context, hidden], axis=-1)
        if product_dtype() == tf.float32:
            return self.readout(inputs)
        rows = tf.reshape(inputs, [-1, inputs.shape[-1]])
        bias = in_float32(self.readout.bias)
        readout = tf.tanh(product(rows, self.readout.kernel) + bias)
        shape = tf.concat([tf.shape(hidden)[:-1], [readout.shape[-1]]], axis=0)
        return tf.reshape(readout, shape)

    def _logits(self, readout):
        kernel = self._output_kernel()
        rows = tf.reshape(readout, [-1, kernel.shape[1]])
        if product_dtype() == tf.float32:
            logits = tf.matmul(rows, tf.transpose(kernel), name=OUTPUT_PRODUCT)
        else:
            logits = product(rows, kernel, transpose_right=True)
        logits += self.output_bias
        shape = tf.concat([tf.shape(readout)[:-1], [self.vocabulary_size]], axis=0)
        return tf.reshape(logits, shape)

    def _output_kernel(self):
        kernel = self.embedding.embeddings if self.tied_output else self.output_kernel
        return in_float32(kernel)

    def _drop(self, inputs, place, dropout_seed):
        return variational_dropout(
            inputs, self.dropout, dropout_seed, _DROPOUT_PLACE + place
        )

    def get_config(self):
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "embedding_size": self.embedding_size,
            "units": self.units,
            "layers": self.layers,
            "attention": keras.saving.serialize_keras_object(self.attention),
            "input_feeding": self.input_feeding,
            "tied_output": self.tied_output,
            "dropout": self.dropout,
        }

    @classmethod
    def from_config(cls, config):
        attention = keras.saving.deserialize_keras_object(config["attention"])
        return cls(**{**config, "attention": attention})

    def get_build_config(self):
        return {
            "encoder_units": self.encoder_units,
            "encoder_layers": self.encoder_layers,
        }

    def build_from_config(self, config):
        self.build(**config)


def _float32_memory(memory):
    """Returns a :class:`Memory` in float32, from one that may have lost its names."""
    keys, values, source_mask = memory
    keys, values = in_float32((keys, values))
    return Memory(keys, values, mask_numbers(source_mask))


def _float32_state(state):
    """Returns a :class:`DecoderState` likewise: a loaded model has lists."""
    lstm, context = in_float32(state)
    return DecoderState(tuple(LSTMState(*one) for one in lstm), context)
