"""The Keras layers: attention, the LSTM, the encoder and the attentive decoder."""

from pocketseq.layers.attention import (
    ATTENTIONS,
    Attention,
    CosineAttention,
    DotProductAttention,
    NoAttention,
)
from pocketseq.layers.decoder import AttentiveLSTMDecoder, DecoderState, Memory
from pocketseq.layers.dropout import variational_dropout
from pocketseq.layers.encoder import LSTMEncoder
from pocketseq.layers.lstm import LSTM
from pocketseq.layers.recurrence import LSTMState

__all__ = [
    "ATTENTIONS",
    "LSTM",
    "Attention",
    "AttentiveLSTMDecoder",
    "CosineAttention",
    "DecoderState",
    "DotProductAttention",
    "LSTMEncoder",
    "LSTMState",
    "Memory",
    "NoAttention",
    "variational_dropout",
]
