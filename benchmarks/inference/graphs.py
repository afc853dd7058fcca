"""Graphs of the whole model, of its parts, and of its matrix products alone."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from pocketseq.export.graph.reading import read
from pocketseq.export.graph.translate import search_sizes, translate_function
from pocketseq.export.graph.writing import write
from pocketseq.layers import TokenInputs, TokenTable
from pocketseq.layers.decoder import AttentiveLSTMDecoder
from pocketseq.layers.embedding import TokenInput
from pocketseq.layers.encoder import LSTMEncoder
from pocketseq.layers.lstm import LSTM
from pocketseq.pipeline.text.special import END
from pocketseq.pipeline.translator import ModelTranslator

#: A text, int32 ``(1, code points)``, to something that depends on all of the work.
Graph = Callable[[tf.Tensor], dict[str, tf.Tensor]]


def all_graphs(translator: ModelTranslator, tables: TokenInputs) -> dict[str, Graph]:
    """Returns the graphs to measure, by the names that the report knows.

    Args:
        translator: The whole model.
        tables: Those of an export, where tokens are looked up.
    """
    return {
        "whole": translate_function(translator, token_inputs=tables),
        "reading": reading_function(translator),
        "reading and encoder": encoder_function(translator, tables),
        "reading and writing": writing_function(translator),
        "products": products_function(translator, tables, attention=True),
        "products with weights": products_function(translator, tables, attention=False),
    }


def text_function(
    function: Callable[[tf.Tensor], tf.Tensor], translator: ModelTranslator
) -> Graph:
    """Makes a graph of a function of the text ``(code points,)``."""
    shape = [1, translator.source_tokenizer.max_code_points]
    signature = [tf.TensorSpec(shape, tf.int32, name="text")]
    return tf.function(
        lambda text: {"text": function(text[0])},
        input_signature=signature,
        autograph=False,
    )


def reading_function(
    translator: ModelTranslator,
) -> Graph:
    """From code points to source tokens."""

    def reading(text: tf.Tensor) -> tf.Tensor:
        source = read(text, translator.source_tokenizer)
        size, _ = search_sizes(translator)
        return source.ids[:, : size.source] + source.length

    return text_function(reading, translator)


def encoder_function(translator: ModelTranslator, tables: TokenInputs) -> Graph:
    """From code points to what the decoder looks back at."""

    def encoding(text: tf.Tensor) -> tf.Tensor:
        source = read(text, translator.source_tokenizer)
        size, _ = search_sizes(translator)
        model = translator.model
        mask = tf.sequence_mask(source.length, size.source)
        outputs, states = model.encoder.loop(
            source.ids[:, : size.source], mask, tables.source, tables.ngrams
        )
        memory = model.decoder.memory(outputs, mask)
        parts = [*memory, *model.decoder.initial_state(states).lstm[0]]
        return tf.add_n([tf.reduce_sum(part) for part in parts])

    return text_function(encoding, translator)


def writing_function(
    translator: ModelTranslator,
) -> Graph:
    """From code points to source tokens, and from tokens to code points and alignment.

    As many tokens are written as there are code points.
    """
    size, _ = search_sizes(translator)

    def writing(text: tf.Tensor) -> tf.Tensor:
        tokens = tf.minimum(text, len(translator.target_tokenizer) - 1)
        tokens = tf.concat([tokens, tf.fill([size.target], END)], axis=0)[: size.target]
        length = tf.reduce_sum(tf.cast(text > 0, tf.int32))
        attention = tf.fill(
            [size.target, size.source], 1.0 / tf.cast(length + 1, tf.float32)
        )
        source = read(text, translator.source_tokenizer)
        written, alignment = write(
            tokens,
            length,
            attention,
            source.spread(size.source),
            text,
            translator.target_tokenizer,
        )
        return tf.cast(written, tf.float32) + tf.reduce_sum(alignment)

    return text_function(writing, translator)


# The floor.


def product_rounds(
    translator: ModelTranslator, source_tokens: int, output_tokens: int
) -> np.ndarray:
    """Returns the input of a graph of products: how often each loop runs."""
    row = np.zeros(translator.source_tokenizer.max_code_points, np.int32)
    row[:2] = source_tokens, output_tokens
    return row


def products_function(
    translator: ModelTranslator, tables: TokenInputs, *, attention: bool
) -> Graph:
    """The matrix products alone, of the same shapes, as often as the search runs them.

    Products that an export replaces by a table are left out.

    Args:
        translator: The whole model.
        tables: Those of an export.
        attention: Whether the products of the attention, of a vector with all encoder
            outputs, are among them: they have no weights.
    """
    encoder, decoder = translator.model.encoder, translator.model.decoder
    size, _ = search_sizes(translator)
    source_folded = is_folded(tables.source[0])
    target_folded = is_folded(tables.target)

    def products(text: tf.Tensor) -> tf.Tensor:
        state = encoder_products(encoder, text[0], folded=source_folded)
        looked_at = size.source if attention else 0
        return decoder_products(
            decoder, state, text[1], source_length=looked_at, folded=target_folded
        )

    return text_function(products, translator)


def is_folded(token_input: TokenInput) -> bool:
    """Returns whether the product of embeddings is in the rows of a table."""
    return isinstance(token_input, TokenTable) and token_input.projected


def encoder_products(
    encoder: LSTMEncoder, rounds: tf.Tensor, *, folded: bool
) -> tf.Tensor:
    """Runs the products of the encoder on one row.

    Args:
        encoder: Of the whole model.
        rounds: How many tokens it reads, ``()``.
        folded: Whether products with tokens are in a table.

    Returns:
        ``(1, units)``, to depend on all of them.
    """
    outputs = tf.fill([1, encoder.units], tf.cast(rounds, tf.float32) * 1e-3)
    for index in range(encoder.layers):
        layers = [encoder.forward[index], *encoder.backward[index : index + 1]]

        def body(
            number: tf.Tensor,
            state: tf.Tensor,
            layers: list[LSTM] = layers,
            index: int = index,
            inputs: tf.Tensor = outputs,
        ) -> tuple[tf.Tensor, tf.Tensor]:
            for layer in layers:
                new = tf.matmul(state[:, : layer.units], layer.recurrent_kernel)
                if index or not folded:
                    new += tf.matmul(fitting(inputs, layer.kernel), layer.kernel)
                parts = [new[:, : layer.units], state[:, layer.units :]]
                state = tf.concat(parts, axis=1)
            return number + 1, state

        _, outputs = tf.while_loop(
            lambda number, _: number < rounds, body, [tf.constant(0), outputs]
        )
    return outputs


def decoder_products(
    decoder: AttentiveLSTMDecoder,
    state: tf.Tensor,
    rounds: tf.Tensor,
    *,
    source_length: int,
    folded: bool,
) -> tf.Tensor:
    """Runs the products of the decoder on one row.

    Args:
        decoder: Of the whole model.
        state: ``(1, units)``, to depend on.
        rounds: How many tokens it writes, ``()``.
        source_length: Of what the attention looks back at; 0: no attention.
        folded: Whether products with tokens are in a table; those with the context are
            not.

    Returns:
        ``(1, vocabulary)``, to depend on all of them.
    """
    values = tf.fill([1, source_length, decoder.units], state[0, 0])
    output_kernel = (
        decoder.embedding.embeddings if decoder.tied_output else decoder.output_kernel
    )

    def body(
        number: tf.Tensor, hidden: tf.Tensor, logits: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        for index, layer in enumerate(decoder.lstm):
            gates = tf.matmul(hidden, layer.recurrent_kernel)
            kernel = layer.kernel
            if folded and not index:
                kernel = kernel[decoder.embedding_size :]
            if kernel.shape[0]:
                gates += tf.matmul(fitting(hidden, kernel), kernel)
            hidden = gates[:, : decoder.units]
        context = hidden
        if source_length:
            scores = tf.matmul(hidden[:, None], values, transpose_b=True)
            context = tf.matmul(scores, values)[:, 0]
        if decoder.readout is None:  # comparison_problem has said so before
            raise ValueError("expected a decoder with a readout")
        kernel = decoder.readout.kernel
        readout = fitting(tf.concat([context, hidden], axis=1), kernel)
        readout = tf.matmul(readout, kernel)
        return number + 1, hidden, tf.matmul(readout, tf.transpose(output_kernel))

    logits = tf.fill([1, decoder.vocabulary_size], state[0, 0])
    return tf.while_loop(
        lambda number, *_: number < rounds, body, [tf.constant(0), state, logits]
    )[2]


def fitting(row: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Returns ``(1, rows of the kernel)``: a row, cut, or repeated and cut."""
    size = kernel.shape[0]
    if size > row.shape[1]:
        row = tf.concat([row] * -(-size // row.shape[1]), axis=1)
    return row[:, :size]
