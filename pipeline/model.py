"""The model: encoder and decoder, as one Keras model of token ids."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from pocketseq.layers import (
    ATTENTIONS,
    AttentiveLSTMDecoder,
    DecoderState,
    LSTMEncoder,
    TokenInputs,
)
from pocketseq.pipeline.search import Hypotheses, LengthBound, Step, beam_search
from pocketseq.pipeline.text.special import END, START

if TYPE_CHECKING:
    from pocketseq.pipeline.configuration import ModelConfig

# Whatever a keras.json says. The other settings in it concern nothing that is used.
keras.config.set_floatx("float32")


@keras.saving.register_keras_serializable(package="pocketseq")
class EncoderDecoder(keras.Model):
    """Token ids in, scores for target tokens out.

    Args:
        encoder: :class:`LSTMEncoder`.
        decoder: :class:`AttentiveLSTMDecoder`.

    Call arguments:
        source_ids: int32 ``(batch, source_length)``, padded at the right.
        source_length: int32 ``(batch,)``.
        target_ids: int32 ``(batch, target_length)``: the start token, then the target.
        dropout_seed: int32 ``(2,)``; None, as in inference, means no dropout.

    Returns:
        Logits ``(batch, target_length, target vocabulary size)`` and attention weights
        ``(batch, target_length, source_length)``.

    Raises:
        ValueError: The decoder expects an encoder of another shape.
    """

    def __init__(
        self, encoder: LSTMEncoder, decoder: AttentiveLSTMDecoder, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.encoder = encoder
        self.decoder = decoder

    def build(self, *_: Any) -> None:
        encoder = self.encoder.units, self.encoder.layers
        expected = self.decoder.encoder_units, self.decoder.encoder_layers
        if encoder != expected:
            raise ValueError(
                f"the decoder expects encoder_units, encoder_layers = {expected}, "
                f"received an encoder of {encoder}"
            )
        if not self.encoder.built:  # loaded ones are
            self.encoder.build((None, None))
        if not self.decoder.built:
            self.decoder.build()
        self.built = True

    def build_from_config(self, _: Any) -> None:
        self.build()

    def call(
        self,
        source_ids: tf.Tensor,
        source_length: tf.Tensor,
        target_ids: tf.Tensor,
        dropout_seed: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        source_mask = tf.sequence_mask(source_length, tf.shape(source_ids)[1])
        outputs, states = self.encoder(source_ids, source_mask, dropout_seed)
        memory = self.decoder.memory(outputs, source_mask)
        state = self.decoder.initial_state(states)
        return self.decoder(target_ids, memory, state, dropout_seed)

    def decoding(
        self,
        source_ids: tf.Tensor,
        source_length: tf.Tensor,
        token_inputs: TokenInputs | None = None,
    ) -> tuple[Step, DecoderState]:
        """Reads some texts, and returns the decoder's step and its first state.

        Args:
            source_ids, source_length, token_inputs: As for :meth:`search`.
        """
        source_mask = tf.sequence_mask(source_length, _width(source_ids))
        source_inputs, target_input, look_up = token_inputs or (None, None, None)
        outputs, states = self.encoder.loop(
            source_ids, source_mask, source_inputs, look_up
        )
        memory = self.decoder.memory(outputs, source_mask)

        def step(
            token_ids: tf.Tensor, state: DecoderState
        ) -> tuple[tf.Tensor, tf.Tensor, DecoderState]:
            return self.decoder.step(token_ids, state, memory, target_input)

        return step, self.decoder.initial_state(states)

    def search(
        self,
        source_ids: tf.Tensor,
        source_length: tf.Tensor,
        *,
        token_inputs: TokenInputs | None = None,
        length_bound: LengthBound | None = None,
        **options: Any,
    ) -> Hypotheses:
        """Finds the best target sequences of some texts, in float32.

        Args:
            source_ids: int32 ``(batch, source_length)``.
            source_length: int32 ``(batch,)``; 0 gives the empty sequence.
            token_inputs: How tokens become inputs of the LSTMs, such as
                :meth:`token_tables`; None: by embedding and product.
            length_bound: :class:`pocketseq.pipeline.search.LengthBound`, or None.
            options: ``beam_size``, ``max_length``, ``length_penalty``, ``choose``: see
                :func:`beam_search`.

        Returns:
            :class:`pocketseq.pipeline.search.Hypotheses`.
        """
        step, state = self.decoding(source_ids, source_length, token_inputs)
        return _search(step, state, source_ids, source_length, length_bound, options)

    def token_tables(
        self, *, source: int = 32, target: int = 32, ngrams: int = 32
    ) -> TokenInputs:
        """Returns the tokens as constants for :meth:`search` to look up, for an export.

        Args:
            source, target, ngrams: The bits per component of their rows, 32, 8 or 4.
        """
        return TokenInputs(
            self.encoder.token_tables(source),
            self.decoder.token_table(target),
            self.encoder.ngram_tables(ngrams),
        )

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "decoder": keras.saving.serialize_keras_object(self.decoder),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> EncoderDecoder:
        return cls(
            keras.saving.deserialize_keras_object(config["encoder"]),
            keras.saving.deserialize_keras_object(config["decoder"]),
            name=config["name"],
        )


class Ensemble:
    """Several models with the same tokens, as one: the mean of their probabilities.

    It translates as an :class:`EncoderDecoder` does, but cannot be trained or exported.
    Attention weights are means, too.

    Args:
        models: At least one.
    """

    def __init__(self, models: Sequence[EncoderDecoder]) -> None:
        self.models = tuple(models)

    def __call__(
        self, source_ids: tf.Tensor, source_length: tf.Tensor, target_ids: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Scores given targets; see :class:`EncoderDecoder`.

        Returns:
            Log-probabilities and attention weights, shaped as those of one model.
        """
        found = [model(source_ids, source_length, target_ids) for model in self.models]
        logits, weights = zip(*found, strict=True)
        return _log_mean(logits), tf.add_n(weights) / len(weights)

    def search(
        self,
        source_ids: tf.Tensor,
        source_length: tf.Tensor,
        *,
        length_bound: LengthBound | None = None,
        **options: Any,
    ) -> Hypotheses:
        """Finds the best target sequences; see :meth:`EncoderDecoder.search`."""
        steps, states = zip(
            *(model.decoding(source_ids, source_length) for model in self.models),
            strict=True,
        )

        def step(
            token_ids: tf.Tensor, state: Sequence[DecoderState]
        ) -> tuple[tf.Tensor, tf.Tensor, tuple[DecoderState, ...]]:
            found = [one(token_ids, at) for one, at in zip(steps, state, strict=True)]
            logits, weights, after = zip(*found, strict=True)
            return _log_mean(logits), tf.add_n(weights) / len(weights), after

        return _search(step, states, source_ids, source_length, length_bound, options)


def _log_mean(logits: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns the logarithm of the mean of the probabilities of some models."""
    each = tf.stack([tf.nn.log_softmax(one) for one in logits])
    return tf.reduce_logsumexp(each, axis=0) - math.log(len(logits))


def _width(source_ids: tf.Tensor) -> int | tf.Tensor:
    return source_ids.shape[1] or tf.shape(source_ids)[1]


def _search(
    step: Step,
    state: Any,
    source_ids: tf.Tensor,
    source_length: tf.Tensor,
    length_bound: LengthBound | None,
    options: dict[str, Any],
) -> Hypotheses:
    return beam_search(
        step,
        state,
        active=source_length > 0,
        source_length=_width(source_ids),
        limit=None if length_bound is None else length_bound.limit(source_length),
        **options,
    )


def build_model(
    config: ModelConfig,
    source_vocabulary_size: int,
    target_vocabulary_size: int,
    *,
    product_dtype: str = "float32",
) -> EncoderDecoder:
    """Returns a built :class:`EncoderDecoder` with fresh weights.

    Args:
        config: :class:`pocketseq.pipeline.configuration.ModelConfig`.
        source_vocabulary_size, target_vocabulary_size: Numbers of tokens.
        product_dtype: The dtype that a call, which is what training does, rounds the
            factors of products to: ``"float32"`` or ``"bfloat16"``. A search is float32
            in any case.
    """
    options = dataclasses.asdict(config.attention)
    attention = ATTENTIONS[options.pop("score")](**options, name="attention")
    model = EncoderDecoder(
        LSTMEncoder(
            source_vocabulary_size,
            config.embedding_size,
            config.units,
            layers=config.encoder_layers,
            bidirectional=config.bidirectional,
            dropout=config.dropout,
            longest_ngram=config.longest_ngram,
            ngram_rows=config.ngram_rows,
            ngram_size=config.ngram_size,
            ngram_bits=config.ngram_bits,
            product_dtype=product_dtype,
            name="encoder",
        ),
        AttentiveLSTMDecoder(
            target_vocabulary_size,
            config.embedding_size,
            config.units,
            layers=config.decoder_layers,
            attention=attention,
            input_feeding=config.input_feeding,
            tied_output=config.tied_output,
            readout=config.readout,
            read_as=(START, END) if config.start_with_end else None,
            dropout=config.dropout,
            encoder_layers=config.encoder_layers,
            product_dtype=product_dtype,
            name="decoder",
        ),
        name="encoder_decoder",  # frozen: it is part of the names in saved weights
    )
    model.build()
    return model
