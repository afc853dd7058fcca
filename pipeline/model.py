"""The model: encoder and decoder, as one Keras model of token ids."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from pocketseq.layers import (
    ATTENTIONS,
    AttentiveLSTMDecoder,
    LSTMEncoder,
    TokenInputs,
)
from pocketseq.pipeline.search import Choose, Hypotheses, LengthBound, beam_search

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

    def search(
        self,
        source_ids: tf.Tensor,
        source_length: tf.Tensor,
        *,
        beam_size: int = 1,
        max_length: int,
        length_bound: LengthBound | None = None,
        length_penalty: float = 1.0,
        choose: Choose | None = None,
        given: tf.Tensor | None = None,
        token_inputs: TokenInputs | None = None,
    ) -> Hypotheses:
        """Finds the best target sequences of some texts, in float32.

        Args:
            source_ids: int32 ``(batch, source_length)``.
            source_length: int32 ``(batch,)``; 0 gives the empty sequence.
            length_bound: :class:`pocketseq.pipeline.search.LengthBound`, or None.
            beam_size, max_length, length_penalty, choose, given: See
                :func:`beam_search`.
            token_inputs: How tokens become inputs of the LSTMs, such as
                :meth:`token_tables`; None: by embedding and product.

        Returns:
            :class:`pocketseq.pipeline.search.Hypotheses`.
        """
        width = source_ids.shape[1] or tf.shape(source_ids)[1]
        source_mask = tf.sequence_mask(source_length, width)
        source_inputs, target_input = token_inputs or (None, None)
        outputs, states = self.encoder.loop(source_ids, source_mask, source_inputs)
        memory = self.decoder.memory(outputs, source_mask)
        return beam_search(
            lambda token_ids, state: self.decoder.step(
                token_ids, state, memory, target_input
            ),
            self.decoder.initial_state(states),
            active=source_length > 0,
            source_length=width,
            beam_size=beam_size,
            max_length=max_length,
            limit=None if length_bound is None else length_bound.limit(source_length),
            length_penalty=length_penalty,
            choose=choose,
            given=given,
        )

    def token_tables(self, *, int8: bool) -> TokenInputs:
        """Returns the tokens as constants for :meth:`search` to look up, for an export.

        Args:
            int8: Whether the rows are int8 with one scale each.
        """
        return TokenInputs(
            self.encoder.token_tables(int8=int8), self.decoder.token_table(int8=int8)
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
            dropout=config.dropout,
            encoder_layers=config.encoder_layers,
            product_dtype=product_dtype,
            name="decoder",
        ),
        name="encoder_decoder",  # frozen: it is part of the names in saved weights
    )
    model.build()
    return model
