"""Estimates of what a recipe will take, before any training: weights, bytes, minutes.

Computed from the configuration, without TensorFlow, and scaled by what was measured
with the recipe ``pronunciation``.
"""

from typing import NamedTuple

from pocketseq.pipeline.configuration import (
    AdditiveConfig,
    Config,
    CosineConfig,
    ModelConfig,
)

#: What the minutes rest on.
BASIS = "two cores that multiply float32 matrices at 128 GFLOP/s"

# Operations per second that training came to on those cores: 25,000 tokens per second
# with `pronunciation`, and two thirds of that with the context fed back.
_RATE = 50e9

# An update computes the outputs, and twice as much for the gradient; a product adds.
_OPERATIONS_PER_PRODUCT = 3 * 2

# Bytes of a file besides its weights, and of a piece in the tables that find it.
_OVERHEAD = 100_000
_BYTES_PER_PIECE = 25
_SCALE = 4  # of the row of an n-gram


class Vocabularies(NamedTuple):
    """The numbers of source and target tokens, special ones included."""

    source: int
    target: int


class Tokens(NamedTuple):
    """The mean numbers of source and target tokens in a pair, end tokens included."""

    source: float
    target: float


def count_weights(model: ModelConfig, sizes: Vocabularies) -> int:
    """Returns the number of weights of a model."""
    embeddings = (sizes.source + sizes.target) * model.embedding_size
    embeddings += _ngrams(model, sizes) * _ngram_size(model)
    lstms = sum(_lstm(inputs, units) for inputs, units in _encoder(model))
    lstms += sum(_lstm(inputs, model.units) for inputs in _decoder_inputs(model))
    bridges = 0
    if model.encoder_layers != model.decoder_layers:
        bridges = 2 * model.decoder_layers * (model.units + 1) * model.units
    read, written = _readout(model)
    output = sizes.target * (1 + (0 if model.tied_output else written or read))
    score = _score_weights(model)
    return embeddings + lstms + bridges + (read + 1) * written + output + score


def file_bytes(model: ModelConfig, sizes: Vocabularies, *, pieces: int = 0) -> int:
    """Returns about how large an int8 file is, with one signature.

    A vocabulary no larger than an embedding is wide is stored as the products of its
    embeddings, in place of the factors.

    Args:
        model: The layers.
        sizes: The vocabularies.
        pieces: How many of their tokens are wordpieces, which take tables to find.
    """
    stored = count_weights(model, sizes)
    # A row has bytes, or half as many, and a scale.
    saved = _ngram_size(model) // 2 if model.ngram_bits == 4 else 0
    stored += _ngrams(model, sizes) * (_SCALE - saved)
    width = model.embedding_size
    for size, gates in zip(
        sizes, (_encoder_gates(model), 4 * model.units), strict=True
    ):
        if size <= width:
            stored += size * gates - width * gates
    if sizes.source <= width:
        stored -= sizes.source * width
        if model.longest_ngram > 1:  # their product is not folded
            stored += _ngram_size(model) * _encoder_gates(model)
    if sizes.target <= width and not model.tied_output:
        stored -= sizes.target * width
    return stored + _OVERHEAD + _BYTES_PER_PIECE * pieces


def minutes(config: Config, sizes: Vocabularies, tokens: Tokens, pairs: int) -> float:
    """Returns about how long all updates of a recipe take; see :data:`BASIS`.

    Args:
        config: The recipe.
        sizes: The vocabularies.
        tokens: The lengths of pairs.
        pairs: The number of pairs, of which a batch holds each once at most.
    """
    model, training = config.model, config.training
    encoder = sum(4 * units * (inputs + units) for inputs, units in _encoder(model))
    if model.longest_ngram > 1:
        encoder += _ngram_size(model) * _encoder_gates(model)
    decoder: float = sum(
        4 * model.units * (inputs + model.units) for inputs in _decoder_inputs(model)
    )
    read, written = _readout(model)
    decoder += read * written + (written or read) * sizes.target
    decoder += 2 * model.units * tokens.source
    per_pair = encoder * tokens.source + decoder * tokens.target
    pairs_per_update = min(training.batch_tokens / sum(tokens), pairs)
    products = training.updates * pairs_per_update * per_pair
    return _OPERATIONS_PER_PRODUCT * products / _RATE / 60


def _lstm(inputs: int, units: int) -> int:
    return 4 * units * (inputs + units + 1)


def _encoder(model: ModelConfig) -> list[tuple[int, int]]:
    """Returns (inputs, units) of each LSTM of the encoder."""
    directions = 2 if model.bidirectional else 1
    return [
        (model.units if layer else model.embedding_size, model.units // directions)
        for layer in range(model.encoder_layers)
        for _ in range(directions)
    ]


def _score_weights(model: ModelConfig) -> int:
    """Returns the number of weights of the attention's score."""
    attention = model.attention
    if isinstance(attention, AdditiveConfig):
        return attention.width * (2 * model.units + 1)
    if attention.score == "general":
        return model.units**2
    return int(isinstance(attention, CosineConfig))  # its scale


def _ngrams(model: ModelConfig, sizes: Vocabularies) -> int:
    """Returns the number of rows for n-grams."""
    orders = range(2, model.longest_ngram + 1)
    return sum(min(sizes.source**n, model.ngram_rows) for n in orders)


def _ngram_size(model: ModelConfig) -> int:
    return min(model.ngram_size, model.embedding_size)


def _encoder_gates(model: ModelConfig) -> int:
    """Returns how wide the gates of the first encoder layer are together."""
    directions = 2 if model.bidirectional else 1
    return 4 * (model.units // directions) * directions


def _decoder_inputs(model: ModelConfig) -> list[int]:
    """Returns the width of the input of each LSTM of the decoder."""
    first = model.embedding_size + (model.units if model.input_feeding else 0)
    return [first] + [model.units] * (model.decoder_layers - 1)


def _readout(model: ModelConfig) -> tuple[int, int]:
    """Returns the widths of what the readout reads and writes; 0: there is none."""
    looks_back = model.attention.score != "none"
    read = model.units * (2 if looks_back else 1)
    if not model.readout:
        return read, 0
    return read, model.embedding_size if model.tied_output else model.units
