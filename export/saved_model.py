"""The SavedModel for servers: strings in, strings out, in batches."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text

from pocketseq.export.checks.gate import check_equality
from pocketseq.export.contract import (
    MANIFEST,
    SAVED_MODEL,
    SCORE,
    SERVING_DEFAULT,
    TEXT,
    TRANSLATE_BEAM,
    Manifest,
)
from pocketseq.export.exporter import (
    Options,
    Outcome,
    TrainedModel,
    manifest_of,
    tensorflow_writing,
)
from pocketseq.export.graph.composition import compose
from pocketseq.export.graph.reading import read
from pocketseq.export.graph.writing import write
from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.explanation import Explanation, explain_outputs, one_text
from pocketseq.pipeline.search import Hypotheses
from pocketseq.pipeline.text.special import PAD
from pocketseq.pipeline.translation import (
    NO_SCORE,
    Knowledge,
    Token,
    Translation,
    prepare,
)
from pocketseq.pipeline.translator import ModelTranslator

logger = logging.getLogger(__name__)

# Where a SavedModel keeps files that its loader does not read.
_MANIFEST = f"assets.extra/{MANIFEST}"

# Texts translated at once.
_ROWS = 256


def export_saved_model(
    trained: TrainedModel, options: Options, folder: Path
) -> Outcome:
    """Writes the SavedModel, if it was asked for, and compares it with Keras."""
    if not options.saved_model:
        return Outcome()
    logger.info("writing and checking the SavedModel")
    path = folder / SAVED_MODEL
    with tensorflow_writing(path):
        save_saved_model(
            trained.keras,
            path,
            beam_size=options.beam_size,
            manifest=manifest_of(trained, options),
        )
    loaded = SavedModelTranslator(path)
    outcome = Outcome()
    for beam_size in options.beams:
        outcome += check_equality(
            "SavedModel", trained, loaded,
            length=trained.default_length, beam_size=beam_size,
        )  # fmt: skip
    return outcome


def save_saved_model(
    translator: ModelTranslator,
    folder: Path,
    *,
    beam_size: int | None = None,
    manifest: Manifest,
) -> None:
    """Writes a SavedModel with the signatures of the contract.

    It needs tensorflow-text to be imported where it is loaded, and nothing of ours.

    Args:
        translator: The Keras model.
        folder: Where to write.
        beam_size: With one, there is a signature ``translate_beam``, too.
        manifest: The description of the model, kept beside it as JSON.
    """
    module = tf.Module()
    module.model = translator.model
    module.resources = translator.source_tokenizer.resources()
    signatures = {SERVING_DEFAULT: _serve(translator, None)}
    if beam_size:
        signatures[TRANSLATE_BEAM] = _serve(translator, beam_size)
    tf.saved_model.save(module, str(folder), signatures=signatures)
    path = folder / _MANIFEST
    path.parent.mkdir()
    path.write_text(manifest.to_json(), encoding="utf-8")


def _serve(
    translator: ModelTranslator, beam_size: int | None
) -> tf.types.experimental.PolymorphicFunction:
    """Returns the function from texts ``(batch,)`` to texts and scores.

    Both ``(batch,)``, or ``(batch, K)`` with a beam.
    """
    source_tokenizer = translator.source_tokenizer

    def serve(text: tf.Tensor) -> dict[str, tf.Tensor]:
        code_points = _code_points(text, source_tokenizer.max_code_points)
        ids = source_tokenizer.tokenize(tf.strings.unicode_encode(code_points, "UTF-8"))
        lengths = tf.cast(ids.row_lengths(), tf.int32)
        # At least one column, for a batch of empty texts.
        width = tf.reduce_max(tf.concat([lengths, [1]], axis=0))
        shape = tf.stack([tf.size(lengths), width])
        found = translator.model.search(
            ids.to_tensor(PAD, shape=shape),
            lengths,
            beam_size=beam_size or 1,
            **translator.search_options,
        )
        rows = code_points.to_tensor(0, shape=[None, source_tokenizer.max_code_points])
        texts = _written(translator, rows, found)
        if beam_size:
            return {TEXT: texts, SCORE: found.score}
        return {TEXT: texts[:, 0], SCORE: found.score[:, 0]}

    signature = [tf.TensorSpec([None], tf.string, name=TEXT)]
    return tf.function(serve, input_signature=signature, autograph=False)


def _code_points(texts: tf.Tensor, most: int) -> tf.RaggedTensor:
    """Returns texts as ragged code points in NFC, up to U+0000, at most ``most``.

    Bytes that are not UTF-8 become U+FFFD.
    """
    texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
    texts = tf.strings.regex_replace(texts, r"(?s)\x00.*", "")
    texts = tf_text.normalize_utf8(texts, "NFC")
    return tf.strings.unicode_decode(texts, "UTF-8")[:, :most]


def _written(
    translator: ModelTranslator, code_points: tf.Tensor, found: Hypotheses
) -> tf.Tensor:
    """Returns the texts of the hypotheses, ``(batch, K)``, as the TFLite graph does.

    Args:
        translator: The Keras model.
        code_points: int32 ``(batch, N)``: the source texts, padded with zeros.
        found: What the search has found for them.
    """

    def write_one(inputs: tuple[tf.Tensor, ...]) -> tf.Tensor:
        text, token_ids, lengths, attention = inputs
        source = read(text, translator.source_tokenizer)
        spread = source.spread(translator.source_tokenizer.most_tokens)
        hypotheses = zip(
            tf.unstack(token_ids), tf.unstack(lengths), tf.unstack(attention),
            strict=True,
        )  # fmt: skip
        written = [
            write(*hypothesis, spread, text, translator.target_tokenizer)[0]
            for hypothesis in hypotheses
        ]
        written = tf.stack(written)
        if translator.composition is not None:
            written, _ = compose(written, translator.composition)
        return written

    attention = found.attention_weights
    most = translator.source_tokenizer.most_tokens
    missing = most - tf.shape(attention)[-1]
    attention = tf.pad(attention, [[0, 0], [0, 0], [0, 0], [0, missing]])
    attention = tf.ensure_shape(attention, [*attention.shape[:-1], most])
    rows = tf.map_fn(
        write_one,
        (code_points, found.token_ids, found.length, attention),
        fn_output_signature=tf.TensorSpec(
            [found.length.shape[1], translator.target_tokenizer.max_code_points],
            tf.int32,
        ),
    )
    flat = tf.reshape(rows, [-1, rows.shape[-1]])
    padded = tf.strings.unicode_encode(flat, "UTF-8")
    texts = tf.strings.regex_replace(padded, r"\x00+$", "")
    return tf.reshape(texts, tf.shape(found.length))


class SavedModelTranslator:
    """Translates with a SavedModel that an export has written.

    Args:
        folder: The SavedModel.

    Raises:
        UserError: No export has written it, or its manifest is damaged.
    """

    #: Whether translations come with an alignment.
    gives_alignment = False

    def __init__(self, folder: Path) -> None:
        path = folder / _MANIFEST
        if not path.is_file():
            raise UserError(
                f"{folder}: no {_MANIFEST} in it, expected a SavedModel that an export "
                f"has written"
            )
        try:
            self.manifest = Manifest.from_json(path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{path}: damaged, expected the manifest of an export ({error})"
            ) from error
        self.target_kind = self.manifest.target.tokenizer
        self.target_normalization = self.manifest.target.normalization
        self._loaded = tf.saved_model.load(str(folder))

    @property
    def knowledge(self) -> Knowledge:
        """What the manifest says of the model; it does not tell the vocabularies."""
        return self.manifest.knowledge()

    def translate(
        self, texts: Sequence[str], *, beam_size: int | None = None, n_best: int = 1
    ) -> list[list[Translation]]:
        """Translates some texts; see :class:`TextTranslator`. There are no alignments.

        Raises:
            UserError: The SavedModel holds no search with such a beam.
        """
        signature = self._signature(beam_size, n_best)
        texts = prepare(texts, self.manifest.source.max_code_points)
        results: list[list[Translation]] = []
        for start in range(0, len(texts), _ROWS):
            block = texts[start : start + _ROWS]
            found = signature(text=tf.constant(block, tf.string))
            shape = [len(block), -1]
            for source, *parts in zip(
                block,
                np.reshape(found[TEXT].numpy(), shape),
                np.reshape(found[SCORE].numpy(), shape),
                strict=True,
            ):
                best = list(zip(*parts, strict=True))[:n_best]
                results.append(
                    [
                        Translation(source, text.decode(), float(score), None)
                        for text, score in best
                        if not score < NO_SCORE
                    ]
                )
        return results

    def tokens(self, translations: Sequence[Translation]) -> list[list[Token]]:
        """Returns an empty list: the outputs hold one score for a whole text."""
        return []

    def explain(self, text: str, *, beam_size: int | None = None) -> Explanation:
        """Translates a text and tells the score; see :class:`TextTranslator`."""
        source = one_text(text, self.manifest.source.max_code_points)
        (found,) = self.translate([source], beam_size=beam_size, n_best=beam_size or 1)
        return explain_outputs(
            found, form="saved_model", attention=self.manifest.attention
        )

    def _signature(
        self, beam_size: int | None, n_best: int
    ) -> Callable[..., dict[str, Any]]:
        signatures = self._loaded.signatures
        held = self.manifest.beam_size
        if beam_size is None and self.manifest.preferred_beam_size == held:
            beam_size = held  # what the recipe prefers
        if max(beam_size or 1, n_best) == 1:
            return signatures[SERVING_DEFAULT]
        if held is None or (beam_size or held) != held or n_best > held:
            raise UserError(
                f"this SavedModel holds {_held(held)}: expected --beam and --n-best "
                f"to fit, or a run folder as --model"
            )
        return signatures[TRANSLATE_BEAM]


def _held(beam_size: int | None) -> str:
    return f"a beam of {beam_size}" if beam_size else "the greedy search only"
