"""Keras layers: attention, the LSTM, the encoder and the attentive decoder."""

import os

# Keras reads it on import. If that has happened already, the check below tells.
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        f"Keras was imported with the backend {keras.backend.backend()} before, "
        f"expected tensorflow: import pocketseq first, or set KERAS_BACKEND=tensorflow"
    )

from pocketseq.layers.attention import (
    ATTENTIONS,
    AdditiveAttention,
    Attention,
    CosineAttention,
    DotProductAttention,
    GeneralAttention,
    NoAttention,
    ScaledDotProductAttention,
)
from pocketseq.layers.decoder import AttentiveLSTMDecoder, DecoderState, Memory
from pocketseq.layers.dropout import variational_dropout
from pocketseq.layers.embedding import (
    EmbeddedToken,
    TokenInput,
    TokenInputs,
    TokenTable,
)
from pocketseq.layers.encoder import LSTMEncoder
from pocketseq.layers.lstm import LSTM
from pocketseq.layers.recurrence import LSTMState

__all__ = [
    "ATTENTIONS",
    "LSTM",
    "AdditiveAttention",
    "Attention",
    "AttentiveLSTMDecoder",
    "CosineAttention",
    "DecoderState",
    "DotProductAttention",
    "EmbeddedToken",
    "GeneralAttention",
    "LSTMEncoder",
    "LSTMState",
    "Memory",
    "NoAttention",
    "ScaledDotProductAttention",
    "TokenInput",
    "TokenInputs",
    "TokenTable",
    "variational_dropout",
]
