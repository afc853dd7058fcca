"""The attentive decoder: one step, shared by training, search and export."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from pocketseq.layers.attention import ATTENTIONS, Attention
from pocketseq.layers.dropout import variational_dropout
from pocketseq.layers.embedding import (
    EmbeddedToken,
    TokenInput,
    TokenTable,
    project_tokens,
    token_embedding,
)
from pocketseq.layers.lstm import LSTM
from pocketseq.layers.policy import (
    FLOAT32_WEIGHT,
    checked_mask,
    checked_product_dtype,
    in_compute_dtype,
    in_float32,
    mask_numbers,
    product_dtype_of,
)
from pocketseq.layers.products import product
from pocketseq.layers.recurrence import (
    LookBack,
    LSTMState,
    run_feeding_lstms,
    swap_axes,
)

#: Names by which an export finds the last two products: the readout, and the logits.
READOUT, OUTPUT_PRODUCT = "readout", "output_product"

# Dropout places of the decoder; the encoder's are below.
_DROPOUT_PLACE = 1000


class Memory(NamedTuple):
    """The encoder outputs as the decoder attends to them, made once per text.

    ``keys`` float ``(batch, source_length, units)``, which the attention scores;
    ``values``, likewise, which it sums; ``source_mask`` float32
    ``(batch, source_length)``, 1 = real token, 0 = padding.
    """

    keys: tf.Tensor
    values: tf.Tensor
    source_mask: tf.Tensor


class DecoderState(NamedTuple):
    """State that a step passes to the next one.

    ``lstm`` is a tuple of :class:`LSTMState`, one per layer; ``context`` is float
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

    The textbook form has no readout: ``logits = [context; hidden] E' + b``.

    Without input feeding ("previous context" left out) no step of the LSTM waits for
    the attention: training runs the LSTM over the whole target, then attention as one
    batched product. :meth:`step` and a call give the same numbers either way.

    Encoder outputs or states of another width than ``units``, or from another number of
    layers, pass through a learned projection first.

    Args:
        vocabulary_size: Number of target tokens.
        embedding_size: Width of the token embedding.
        units: Width of the LSTM layers.
        layers: Number of LSTM layers.
        attention: A name in :data:`ATTENTIONS`, or an :class:`Attention` layer.
        input_feeding: Whether a step sees the context of the step before.
        tied_output: Whether the output projection is the target embedding.
        readout: Whether there is a hidden layer before the output projection; without
            one, the projection cannot be tied.
        read_as: ``(token, other)``: the token has the embedding of the other one, as
            where the end token starts a text, too; None: each has its own.
        dropout: Fraction of features dropped between LSTM layers and in the readout.
        encoder_units: Width of the outputs and states of the encoder; None: ``units``.
        encoder_layers: Number of layers of the encoder, each with a state; None:
            ``layers``.
        product_dtype: The dtype that a call rounds the factors of products to; see
            :class:`LSTM`.

    Call arguments:
        target_ids: int32 ``(batch, target_length)``: the start token, then the target.
        memory: :class:`Memory`, from :meth:`memory`.
        state: :class:`DecoderState`, from :meth:`initial_state`.
        dropout_seed: int32 ``(2,)``; None, as in inference, means no dropout.

    Returns:
        Logits ``(batch, target_length, vocabulary_size)`` in the compute dtype of the
        policy of the layer, and ``attention_weights``, float32
        ``(batch, target_length, source_length)``.

    Raises:
        ValueError: The attention or the product dtype is not known, or the output is
            tied without a readout.
        TypeError: A mask that is not boolean, in :meth:`memory`.

    References:
        Luong, Pham and Manning 2015, sections 3.1 and 3.3 (input feeding, here of the
        context); Press and Wolf 2017 (tied embedding).
    """

    def __init__(
        self,
        vocabulary_size: int,
        embedding_size: int,
        units: int,
        *,
        layers: int = 1,
        attention: str | Attention = "cosine",
        input_feeding: bool = False,
        tied_output: bool = True,
        readout: bool = True,
        read_as: tuple[int, int] | None = None,
        dropout: float = 0.0,
        encoder_units: int | None = None,
        encoder_layers: int | None = None,
        product_dtype: str | None = None,
        **kwargs: Any,
    ) -> None:
        # No autocast: :meth:`memory` is float32, and is not rounded on its way in.
        super().__init__(autocast=False, **kwargs)
        if isinstance(attention, str) and attention not in ATTENTIONS:
            raise ValueError(
                f"attention must be one of {', '.join(sorted(ATTENTIONS))}, "
                f"received {attention!r}"
            )
        if tied_output and not readout:
            raise ValueError("tied_output without a readout: expected one of them")
        if isinstance(attention, str):
            attention = ATTENTIONS[attention](name="attention", dtype=self.dtype_policy)
        self.vocabulary_size = vocabulary_size
        self.embedding_size = embedding_size
        self.units = units
        self.layers = layers
        self.attention = attention
        self.input_feeding = input_feeding
        self.tied_output = tied_output
        self.read_as = tuple(read_as) if read_as else None
        self.dropout = dropout
        self.encoder_units = units if encoder_units is None else encoder_units
        self.encoder_layers = layers if encoder_layers is None else encoder_layers
        self.product_dtype = checked_product_dtype(product_dtype)
        self.embedding = token_embedding(vocabulary_size, embedding_size)
        options = {"product_dtype": product_dtype, "dtype": self.dtype_policy}
        self.lstm = [LSTM(units, name=f"lstm_{i}", **options) for i in range(layers)]
        self.readout = None
        if readout:
            self.readout = keras.layers.Dense(
                embedding_size if tied_output else units,
                activation="tanh",
                name=READOUT,
                dtype="float32",
            )

    def build(self, target_ids_shape=None):
        self.embedding.build((None, None))
        width = self.embedding_size + (self.units if self.input_feeding else 0)
        for layer in self.lstm:
            layer.build((None, None, width))
            width = self.units
        if not self.attention.built:  # a loaded one is
            self.attention.build((None, None, self.units), (None, None, self.units))
        read = 2 * self.units if self.attention.gives_context else self.units
        if self.readout is not None:
            self.readout.build((None, read))
        looks_back = self.attention.gives_context or self.input_feeding
        other_units = self.encoder_units != self.units
        self.projection = self._bridge("projection", looks_back and other_units, None)
        other_states = other_units or self.encoder_layers != self.layers
        self.bridges = [
            self._bridge(f"bridge_{i}_{part}", other_states, activation)
            for i in range(self.layers)
            for part, activation in (("hidden", "tanh"), ("cell", None))
        ]
        if not self.tied_output:
            self.output_kernel = self.add_weight(
                name="output_kernel",
                shape=(self.vocabulary_size, self.units if self.readout else read),
                **FLOAT32_WEIGHT,
            )
        self.output_bias = self.add_weight(
            name="output_bias",
            shape=(self.vocabulary_size,),
            initializer="zeros",
            **FLOAT32_WEIGHT,
        )
        self.built = True

    def _build_once(self):
        """Builds a layer that is given encoder outputs before its first call."""
        if not self.built:
            self.build()

    def _bridge(self, name, needed, activation):
        if not needed:
            return None
        bridge = keras.layers.Dense(
            self.units, activation=activation, name=name, dtype="float32"
        )
        bridge.build((None, self.encoder_units))
        return bridge

    def memory(
        self, encoder_outputs: tf.Tensor, source_mask: tf.Tensor | None = None
    ) -> Memory:
        """Returns the :class:`Memory` of encoder outputs.

        Args:
            encoder_outputs: float ``(batch, source_length, encoder_units)``.
            source_mask: bool ``(batch, source_length)``, True = real token, or None:
                all tokens are real.

        Raises:
            TypeError: A mask that is not boolean.
        """
        self._build_once()
        values = in_float32(encoder_outputs)
        if self.projection is not None:
            values = self.projection(values)
        mask = checked_mask(source_mask)
        mask = tf.ones(tf.shape(values)[:2]) if mask is None else mask_numbers(mask)
        return Memory(self.attention.prepare(values), values, mask)

    def initial_state(self, encoder_states: Sequence[LSTMState]) -> DecoderState:
        """Returns the state before the first step.

        Args:
            encoder_states: The final :class:`LSTMState` of each encoder layer,
                ``(batch, encoder_units)``.
        """
        self._build_once()
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

    def step(
        self,
        token_ids: tf.Tensor,
        state: DecoderState,
        memory: Memory,
        token_input: TokenInput | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor, DecoderState]:
        """Takes one step, in float32, for one or more hypotheses about each text.

        Args:
            token_ids: int32 ``(rows,)``, the previous tokens. Each text in ``memory``
                has the same number of rows: its hypotheses, one after the other.
            state: :class:`DecoderState` of tensors ``(rows, ...)``.
            memory: :class:`Memory` of the texts, not repeated for the hypotheses.
            token_input: How tokens become inputs, such as :meth:`token_table`; None:
                :class:`EmbeddedToken`.

        Returns:
            Logits ``(rows, vocabulary_size)``, attention weights, float32
            ``(rows, source_length)``, and the next :class:`DecoderState`.
        """
        if token_input is None:
            token_input = EmbeddedToken(self.embedding, self.lstm[0])
        projected = token_input.project(self._read(token_ids))
        state, context, weights = self._advance(projected, state, memory)
        logits = self._logits(self._readout(context, state.lstm[-1].hidden))
        return logits, weights, state

    def call(self, target_ids, memory, state, dropout_seed=None):
        memory, state = _float32_memory(memory), _float32_state(state)
        dtype = product_dtype_of(self)
        projected = project_tokens(
            self.embedding, self.lstm[0], tf.transpose(self._read(target_ids))
        )
        run = self._run_with_feeding if self.input_feeding else self._run_at_once
        hidden = swap_axes(run(projected, memory, state, dropout_seed))
        context, weights = self.attention.attend(hidden, *memory)
        readout = self._drop(self._readout(context, hidden, dtype), 0, dropout_seed)
        return in_compute_dtype(self, self._logits(readout, dtype)), weights

    def _read(self, token_ids):
        """Returns the tokens as their embeddings are looked up."""
        if self.read_as is None:
            return token_ids
        token, other = self.read_as
        return tf.where(tf.equal(token_ids, token), other, token_ids)

    def _run_at_once(self, projected, memory, state, dropout_seed):
        """Runs the LSTMs over the whole target, layer by layer, without attention."""
        dtype = product_dtype_of(self)
        hidden, _ = self.lstm[0].run(projected, None, state.lstm[0])
        for index in range(1, self.layers):
            inputs = hidden * self._layer_mask(hidden, index, dropout_seed)
            lstm = self.lstm[index]
            hidden, _ = lstm.run(lstm.project(inputs, dtype), None, state.lstm[index])
        return hidden

    def _run_with_feeding(self, projected, memory, state, dropout_seed):
        """Runs them step by step: each context is an input of the next step."""
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
            product_dtype=product_dtype_of(self),
        )

    def _look_back(self, memory):
        variables = self.attention.trainable_weights

        def attend(queries, parts):
            memory, values = parts[:3], parts[3:]
            # The weights of the attention take their values from the arguments: only
            # then do they get a gradient.
            scope = list(zip(variables, values, strict=True))
            with keras.StatelessScope(state_mapping=scope):
                return self.attention.attend(queries, *memory)[0]

        weights = [tf.convert_to_tensor(variable) for variable in variables]
        return LookBack(attend, [*memory, *weights])

    def _layer_mask(self, hidden, index, dropout_seed):
        """Returns the dropout mask of the inputs of a layer, ``(batch, units)``."""
        ones = tf.ones_like(hidden[0])
        return self._drop(ones[:, None], index, dropout_seed)[:, 0]

    def _advance(self, projected, state, memory):
        """Returns the next state, the context and the attention weights.

        Args:
            projected: float ``(rows, 4 * units)``, the projected previous tokens.
            state, memory: As in :meth:`step`.
        """
        first = self.lstm[0]
        if self.input_feeding:
            context_kernel = first.kernel[self.embedding_size :]
            projected += tf.matmul(state.context, context_kernel)
        lstm_states = [first.update(projected, state.lstm[0])]
        for lstm, before in zip(self.lstm[1:], state.lstm[1:], strict=True):
            lstm_states.append(lstm.step(lstm_states[-1].hidden, before))
        hidden = lstm_states[-1].hidden
        # Hypotheses about a text share its memory: they are its queries.
        texts = tf.shape(memory.values)[0]
        query = tf.reshape(hidden, [texts, -1, self.units])
        context, weights = self.attention.attend(query, *memory)
        context = tf.reshape(context, [-1, memory.values.shape[-1]])
        weights = tf.reshape(weights, [-1, tf.shape(memory.values)[1]])
        feed = context if self.input_feeding else ()
        return DecoderState(tuple(lstm_states), feed), context, weights

    def token_table(self, bits: int = 32) -> TokenTable:
        """Returns a :class:`TokenTable` for :meth:`step`.

        Args:
            bits: Per component of a row.
        """
        return TokenTable(self.embedding, self.lstm[0], bits)

    def _readout(self, context, hidden, product_dtype="float32"):
        inputs = hidden
        if self.attention.gives_context:
            inputs = tf.concat([context, hidden], axis=-1)
        if self.readout is None:
            return inputs
        if product_dtype == "float32":
            return self.readout(inputs)
        rows = tf.reshape(inputs, [-1, inputs.shape[-1]])
        bias = in_float32(self.readout.bias)
        readout = tf.tanh(product(rows, self.readout.kernel, product_dtype) + bias)
        shape = tf.concat([tf.shape(hidden)[:-1], [readout.shape[-1]]], axis=0)
        return tf.reshape(readout, shape)

    def _logits(self, readout, product_dtype="float32"):
        kernel = self._output_kernel()
        rows = tf.reshape(readout, [-1, kernel.shape[1]])
        if product_dtype == "float32":
            logits = tf.matmul(rows, tf.transpose(kernel), name=OUTPUT_PRODUCT)
        else:
            logits = product(rows, kernel, product_dtype, transpose_right=True)
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
            "readout": self.readout is not None,
            "read_as": self.read_as,
            "dropout": self.dropout,
            "encoder_units": self.encoder_units,
            "encoder_layers": self.encoder_layers,
            "product_dtype": self.product_dtype,
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
        # Files of version 0.1 have the shape of the encoder here only.
        self.encoder_units = config["encoder_units"]
        self.encoder_layers = config["encoder_layers"]
        self.build()


def _float32_memory(memory: Sequence) -> Memory:
    """Returns a :class:`Memory` in float32, from one that may have lost its names."""
    keys, values, source_mask = memory
    keys, values = in_float32((keys, values))
    return Memory(keys, values, mask_numbers(source_mask))


def _float32_state(state: Sequence) -> DecoderState:
    """Returns a :class:`DecoderState` likewise: a loaded model has lists."""
    lstm, context = in_float32(state)
    return DecoderState(tuple(LSTMState(*one) for one in lstm), context)
