"""The exporter of ``.tflite`` files: one per quantization recipe, each checked."""

import hashlib
import logging
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from tempfile import gettempdir

from pocketseq.export.checks.gate import check_equality, check_loss, dev_loss
from pocketseq.export.checks.verification import translate_timed
from pocketseq.export.contract import (
    OUTPUTS,
    SOURCE_VOCABULARY,
    TARGET_VOCABULARY,
    ModelFile,
    tflite_name,
    version_numbers,
)
from pocketseq.export.exporter import (
    FileReport,
    Options,
    Outcome,
    TrainedModel,
    manifest_of,
    tensorflow_writing,
)
from pocketseq.export.graph.translate import translate_function
from pocketseq.export.recipes import RECIPES, REFERENCE
from pocketseq.export.runtime import Translator
from pocketseq.export.tflite.conversion import convert
from pocketseq.export.tflite.flatbuffer import (
    finished,
    forbidden_operators,
    minimum_runtime,
    operators,
    vocabulary_text,
)
from pocketseq.export.tflite.metadata import attach_metadata
from pocketseq.export.tflite.quantization import quantize_weights
from pocketseq.pipeline.errors import writing

logger = logging.getLogger(__name__)

#: Runtimes from here on load and compute rightly what ``compatible`` makes.
COMPATIBLE_RUNTIME = "2.14.0"


def export_tflite(trained: TrainedModel, options: Options, folder: Path) -> Outcome:
    """Writes a ``.tflite`` file per quantization recipe, and checks each.

    The reference is made in any case, because the gate compares it with Keras; where
    nobody asked for it, only its row of the table stays.
    """
    if not options.recipes:
        return Outcome()
    converted = cache(partial(_converted, trained, options))
    outcome = Outcome()
    for name in dict.fromkeys([REFERENCE, *options.recipes]):
        logger.info("converting to %s", name)
        model = quantize_weights(
            converted(RECIPES[name].int8_rows),
            RECIPES[name],
            compatible=options.compatible,
        )
        outcome += _file(name, model, trained, options, folder)
    if REFERENCE not in options.recipes:
        (folder / tflite_name(REFERENCE)).unlink(missing_ok=True)
    asked = dict.fromkeys(options.recipes)
    models = {name: outcome.models[name] for name in asked if name in outcome.models}
    return replace(outcome, models=models)


def _converted(trained: TrainedModel, options: Options, int8_rows: bool) -> bytes:
    """Returns the float32 model that recipes start from.

    Args:
        trained: The model.
        options: Which signatures it is to have.
        int8_rows: Whether the rows that tokens look up are int8.
    """
    tables = trained.keras.model.token_tables(int8=int8_rows)
    with tensorflow_writing(Path(gettempdir())):  # where the converter works
        # Nothing here keeps the functions, so that their memory can be freed early.
        return convert(
            {
                key.name: translate_function(
                    trained.translators[key.length],
                    beam_size=key.beam_size,
                    token_inputs=tables,
                )
                for key in trained.signature_keys(options)
            }
        )


def _file(
    name: str, model: bytes, trained: TrainedModel, options: Options, folder: Path
) -> Outcome:
    """Writes a quantized model as a file and checks it, if it may be shipped at all."""
    if forbidden := forbidden_operators(model):
        return _refused(f"{name}: operators not allowed: {', '.join(forbidden)}")
    model = finished(model, OUTPUTS)
    needed = minimum_runtime(model)
    too_new = version_numbers(needed) > version_numbers(COMPATIBLE_RUNTIME)
    if options.compatible and too_new:
        return _refused(
            f"{name}: needs runtime {needed}, expected at most {COMPATIBLE_RUNTIME} "
            f"with --compatible"
        )
    path = folder / tflite_name(name)
    keras = trained.keras
    vocabularies = {
        SOURCE_VOCABULARY: vocabulary_text(keras.source_tokenizer.pieces),
        TARGET_VOCABULARY: vocabulary_text(keras.target_tokenizer.pieces),
    }
    attached = attach_metadata(model, manifest_of(trained, options), vocabularies)
    with writing(path):
        path.write_bytes(attached)
    logger.info("checking %s", name)
    return _checked(name, path, trained, options)


def _refused(failure: str) -> Outcome:
    return Outcome(failures=(failure,))


def _checked(name: str, path: Path, trained: TrainedModel, options: Options) -> Outcome:
    """Measures a file, and compares it with Keras."""
    row, actual = FileReport(name, path.stat().st_size), {}
    file = Translator(path, length=trained.default_length)
    for part, (references, _) in trained.sets.items():
        actual[part], milliseconds = translate_timed(file, list(references))
        if part == "dev":
            row.milliseconds = milliseconds
    loss = dev_loss(trained, actual["dev"])
    row.loss = loss.points
    if name == REFERENCE:
        found = _equals_keras(path, trained, options)
    else:
        found = check_loss(name, trained, loss, max_loss=options.max_loss)
    qualities = {part: trained.quality(part, texts) for part, texts in actual.items()}
    row.dev, row.test = qualities["dev"], qualities.get("test", {})
    return Outcome({name: _entry(path, row)}, rows=(row,)) + found


def _equals_keras(path: Path, trained: TrainedModel, options: Options) -> Outcome:
    outcome = Outcome()
    for length in trained.translators:
        for beam_size in options.beams:
            file = Translator(path, length=length)
            outcome += check_equality(
                REFERENCE, trained, file, length=length, beam_size=beam_size
            )
    return outcome


def _entry(path: Path, row: FileReport) -> ModelFile:
    """Returns the manifest's entry for a file."""
    data = path.read_bytes()
    return ModelFile(
        file=path.name,
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        minimum_runtime=minimum_runtime(data),
        operators=operators(data),
        quality=row.dev,
        loss=round(row.loss or 0.0, 4),
        milliseconds=round(row.milliseconds or 0.0, 3),
    )
