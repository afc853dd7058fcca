"""The exported function: code points in, code points out, all of it in one graph."""

import tensorflow as tf

from pocketseq.export.reading import read
from pocketseq.export.writing import write


def translate_function(translator):
    """Returns the function that an app calls, before conversion.

    Args:
        translator: :class:`pocketseq.pipeline.translator.ModelTranslator`.

    Returns:
        A ``tf.function`` of ``text`` int32 ``(1, N)``, code points padded with zeros,
        that returns a dict of ``text`` int32 ``(1, M)``, ``score`` float32 ``(1,)`` and
        ``alignment`` float32 ``(1, M, N)``.
    """
    code_points = translator.source_tokenizer.max_code_points

    def translate(text):
        source = read(text[0], translator.source_tokenizer)
        found = translator.model.search(
            source.ids,
            source.length,
            max_length=translator.max_target_tokens,
            length_penalty=translator.config.search.length_penalty,
        )
        written, alignment = write(
            found.token_ids[0, 0],
            found.length[0, 0],
            found.attention_weights[0, 0],
            source,
            text[0],
            translator.target_tokenizer,
        )
        return {
            "text": written[None],
            "score": found.score[0],
            "alignment": alignment[None],
        }

    signature = [tf.TensorSpec([1, code_points], tf.int32, name="text")]
    return tf.function(translate, input_signature=signature, autograph=False)
