"""The exported function: code points in, code points out, all of it in one graph."""

from typing import NamedTuple

import keras
import tensorflow as tf

from pocketseq.export.contract import ALIGNMENT, SCORE, TEXT
from pocketseq.export.exceptions import ExceptionTable
from pocketseq.export.graph.composition import compose, mean_rows
from pocketseq.export.graph.exceptions import (
    known_tokens,
    look_up_answers,
    with_symbols,
)
from pocketseq.export.graph.reading import SourceTokens, read
from pocketseq.export.graph.writing import write
from pocketseq.layers import TokenInputs
from pocketseq.pipeline.search import Hypotheses
from pocketseq.pipeline.text.tokenizers import Tokenizer
from pocketseq.pipeline.translator import ModelTranslator

# A short text goes through smaller buffers, so that its work does not grow with the
# longest text that a model takes: an eighth of the length, but at least 16 tokens,
# where that is a quarter at most.
_SHORTER = 8
_LEAST_TOKENS = 16
_WORTH_IT = 4


class _Size(NamedTuple):
    """The number of tokens that the buffers of a search hold, end token included."""

    source: int
    target: int


def search_sizes(translator: ModelTranslator) -> tuple[_Size, _Size]:
    """Returns the buffer sizes of a search: for short texts, and for any text."""
    longest = _Size(
        translator.source_tokenizer.most_tokens, translator.max_target_tokens
    )
    tokens = max(-(-longest.source // _SHORTER), _LEAST_TOKENS)
    if _WORTH_IT * tokens > longest.source:
        return longest, longest
    return _Size(tokens, -(-longest.target * tokens // longest.source)), longest


def translate_function(
    translator: ModelTranslator,
    *,
    beam_size: int | None = None,
    token_inputs: TokenInputs | None = None,
    exceptions: ExceptionTable | None = None,
) -> tf.types.experimental.PolymorphicFunction:
    """Returns the function that an app calls, before conversion.

    Args:
        translator: The Keras model; its tokenizers say how long the texts may be.
        beam_size: How many hypotheses to search with and to return; None: the greedy
            search, and its one translation.
        token_inputs: How tokens become inputs of the LSTMs: what
            :meth:`EncoderDecoder.token_tables` returns; None: by embedding and product.
        exceptions: Texts that are answered from a table; None: there are none.

    Returns:
        A ``tf.function`` of ``text`` int32 ``(1, N)``, code points padded with zeros,
        that returns a dict of ``text`` int32 ``(K, M)``, ``score`` float32 ``(K,)`` and
        ``alignment`` float32 ``(K, M, N)``, best first.
    """
    shorter, longest = search_sizes(translator)
    tokenizer = translator.target_tokenizer
    if exceptions is not None:
        tokenizer = tokenizer.extended(symbol.piece for symbol in exceptions.symbols)
    weights = [(weight, weight.numpy()) for weight in translator.model.weights]

    def translate(text: tf.Tensor) -> dict[str, tf.Tensor]:
        source = read(text[0], translator.source_tokenizer)
        answers = given = None
        if exceptions is not None:
            answers = look_up_answers(
                source.ids,
                exceptions,
                unknown_ids=translator.source_tokenizer.unknown_ids,
                shape=(min(beam_size or 1, exceptions.most_targets), longest.target),
            )
            given = known_tokens(answers, exceptions, len(translator.target_tokenizer))

        def search(size: _Size, length: tf.Tensor) -> Hypotheses:
            # Constants of the branch that uses them: the converter would pass weights
            # from outside into it, where they could not be quantized.
            with keras.StatelessScope(state_mapping=weights):
                found = translator.model.search(
                    source.ids[:, : size.source],
                    length,
                    beam_size=beam_size or 1,
                    token_inputs=token_inputs,
                    given=None if given is None else given[:, :, : size.target],
                    **{**translator.search_options, "max_length": size.target},
                )
            if exceptions is None or answers is None:
                return found
            ids = with_symbols(
                found.token_ids, answers[:, :, : size.target], exceptions
            )
            return found._replace(token_ids=ids)

        def written(found: Hypotheses) -> dict[str, tf.Tensor]:
            return _write(tokenizer, found, source, text[0])

        if shorter == longest:
            return _composed(translator, written(search(longest, source.length)))
        # A search without source tokens takes no step.
        fits = source.length <= shorter.source
        found = search(shorter, tf.where(fits, source.length, 0))
        ended = tf.reduce_max(found.length) < shorter.target
        outputs = tf.cond(
            tf.logical_and(fits[0], ended),
            lambda: written(found),
            lambda: written(search(longest, source.length)),
        )
        return _composed(translator, outputs)

    code_points = translator.source_tokenizer.max_code_points
    signature = [tf.TensorSpec([1, code_points], tf.int32, name=TEXT)]
    return tf.function(translate, input_signature=signature, autograph=False)


def _write(
    target_tokenizer: Tokenizer,
    found: Hypotheses,
    source: SourceTokens,
    text: tf.Tensor,
) -> dict[str, tf.Tensor]:
    """Returns the outputs of a model for its hypotheses, before composition."""
    tokens = found.attention_weights.shape[-1]
    spread = source.spread(tokens)
    outputs = [
        write(
            found.token_ids[0, rank],
            found.length[0, rank],
            found.attention_weights[0, rank],
            spread,
            text,
            target_tokenizer,
        )
        for rank in range(found.length.shape[1])
    ]
    texts, alignments = zip(*outputs, strict=True)
    return {
        TEXT: tf.stack(texts),
        SCORE: found.score[0],
        ALIGNMENT: tf.stack(alignments),
    }


def _composed(
    translator: ModelTranslator, outputs: dict[str, tf.Tensor]
) -> dict[str, tf.Tensor]:
    """Returns the outputs of a model with their texts composed, if they are to be."""
    if translator.composition is None:
        return outputs
    text, places = compose(outputs[TEXT], translator.composition)
    alignment = mean_rows(outputs[ALIGNMENT], places)
    return {**outputs, TEXT: text, ALIGNMENT: alignment}
