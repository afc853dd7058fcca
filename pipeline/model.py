"""The model: encoder and decoder, as one Keras model of token ids."""

import dataclasses

import keras
import tensorflow as tf

from pocketseq.layers import ATTENTIONS, AttentiveLSTMDecoder, LSTMEncoder
from pocketseq.pipeline.search import beam_search

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
    """

    def __init__(self, encoder, decoder, **kwargs):
        super().__init__(**kwargs)
        self.encoder = encoder
        self.decoder = decoder

    def build(self, *_):
        if not self.encoder.built:  # loaded ones have been
            self.encoder.build((None, None))
        if not self.decoder.built:
            self.decoder.build(self.encoder.units, self.encoder.layers)
        self.built = True

    def build_from_config(self, _):
        self.build()

    def call(self, source_ids, source_length, target_ids, dropout_seed=None):
        source_mask = tf.sequence_mask(source_length, tf.shape(source_ids)[1])
        outputs, states = self.encoder(source_ids, source_mask, dropout_seed)
        memory = self.decoder.memory(outputs, source_mask)
        state = self.decoder.initial_state(states)
        return self.decoder(target_ids, memory, state, dropout_seed)

    def search(
        self,
        source_ids,
        source_length,
        *,
        beam_size=1,
        max_length,
        length_bound=None,
        length_penalty=1.0,
        choose=None,
    ):
        """Finds the best target sequences of some texts.

        Args:
            source_ids: int32 ``(batch, source_length)``.
            source_length: int32 ``(batch,)``; 0 gives the empty sequence.
            length_bound: :class:`pocketseq.pipeline.search.LengthBound`, or None.
            beam_size, max_length, length_penalty, choose: See :func:`beam_search`.

        Returns:
            :class:`pocketseq.pipeline.search.Hypotheses`.
        """
        width = source_ids.shape[1] or tf.shape(source_ids)[1]
        source_mask = tf.sequence_mask(source_length, width)
        outputs, states = self.encoder.loop(source_ids, source_mask)
        memory = self.decoder.memory(outputs, source_mask)
        return beam_search(
            lambda token_ids, state: self.decoder.step(token_ids, state, memory),
            self.decoder.initial_state(states),
            active=source_length > 0,
            source_length=width,
            beam_size=beam_size,
            max_length=max_length,
            limit=None if length_bound is None else length_bound.limit(source_length),
            length_penalty=length_penalty,
            choose=choose,
        )

    def use_tables(self, *, int8):
        """Lets :meth:`search` look tokens up in constants, for an export.

        Args:
            int8: Whether the rows are int8 with one scale each.
        """
        self.encoder.use_tables(int8=int8)
        self.decoder.use_tables(int8=int8)

    def get_config(self):
        return {
            "name": self.name,
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "decoder": keras.saving.serialize_keras_object(self.decoder),
        }

    @classmethod
    def from_config(cls, config):
        return cls(
            keras.saving.deserialize_keras_object(config["encoder"]),
            keras.saving.deserialize_keras_object(config["decoder"]),
            name=config["name"],
        )


def build_model(config, source_vocabulary_size, target_vocabulary_size):
    """Returns a built :class:`EncoderDecoder` with fresh weights.

    Args:
        config: :class:`pocketseq.pipeline.configuration.ModelConfig`.
        source_vocabulary_size, target_vocabulary_size: Numbers of tokens.
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
            name="decoder",
        ),
        name="encoder_decoder",  # frozen: it is part of the names in saved weights
    )
    model.build()
    return model
