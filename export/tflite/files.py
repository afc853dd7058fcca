"""The exporter of ``.tflite`` files: one per quantization recipe, each checked."""

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import gettempdir

from pocketseq.export.card import model_card
from pocketseq.export.checks.exactness import (
    check_exactness,
    check_others,
    dictionary_notes,
    find_wrong_words,
)
from pocketseq.export.checks.gate import check_equality, check_loss, dev_loss
from pocketseq.export.checks.verification import translate_timed
from pocketseq.export.contract import (
    MODEL_CARD,
    OUTPUTS,
    SOURCE_VOCABULARY,
    TARGET_VOCABULARY,
    Exceptions,
    ModelFile,
    tflite_name,
    version_numbers,
)
from pocketseq.export.dictionary import Dictionary, exceptions_of
from pocketseq.export.exceptions import ExceptionTable
from pocketseq.export.exporter import (
    FileReport,
    Options,
    Outcome,
    TrainedModel,
    manifest_of,
    tensorflow_writing,
)
from pocketseq.export.graph.translate import translate_function
from pocketseq.export.recipes import RECIPES, REFERENCE, Recipe
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
from pocketseq.pipeline.translation import Translation

logger = logging.getLogger(__name__)

#: Runtimes from here on load and compute rightly what ``compatible`` makes.
COMPATIBLE_RUNTIME = "2.14.0"

# What the checksum inside a file is of.
_HASHED = "The file up to the ZIP that this card is in"

#: Makes the float32 model that a recipe starts from, with exceptions or without.
_Convert = Callable[[Recipe, ExceptionTable | None], bytes]


def export_tflite(trained: TrainedModel, options: Options, folder: Path) -> Outcome:
    """Writes a ``.tflite`` file per quantization recipe, and checks each.

    The reference is made in any case, because the gate compares it with Keras; where
    nobody asked for it, only its row of the table stays.
    """
    if not options.recipes:
        return Outcome()

    @cache
    def plain(**row_bits: int) -> bytes:
        return _converted(trained, options, row_bits)

    def converted(recipe: Recipe, exceptions: ExceptionTable | None) -> bytes:
        if exceptions is None:
            return plain(**recipe.row_bits)
        return _converted(trained, options, recipe.row_bits, exceptions)

    outcome = Outcome(notes=dictionary_notes(trained))
    for name in dict.fromkeys([REFERENCE, *options.recipes]):
        outcome += _File(name, trained, options, folder).export(converted)
    if REFERENCE not in options.recipes:
        (folder / tflite_name(REFERENCE)).unlink(missing_ok=True)
    asked = dict.fromkeys(options.recipes)
    models = {name: outcome.models[name] for name in asked if name in outcome.models}
    return replace(outcome, models=models)


def _converted(
    trained: TrainedModel,
    options: Options,
    row_bits: Mapping[str, int],
    exceptions: ExceptionTable | None = None,
) -> bytes:
    """Returns the float32 model that recipes start from.

    Args:
        trained: The model.
        options: Which signatures it is to have.
        row_bits: Of the rows that tokens look up.
        exceptions: What it answers from a table.
    """
    tables = trained.keras.model.token_tables(**row_bits)
    with tensorflow_writing(Path(gettempdir())):  # where the converter works
        # Nothing here keeps the functions, so that their memory can be freed early.
        return convert(
            {
                key.name: translate_function(
                    trained.translators[key.length],
                    beam_size=key.beam_size,
                    token_inputs=tables,
                    exceptions=exceptions,
                )
                for key in trained.signature_keys(options)
            }
        )


@dataclass(frozen=True)
class _File:
    """The file of one recipe on its way.

    ``name``: of the recipe. ``folder``: where the file is written.
    """

    name: str
    trained: TrainedModel
    options: Options
    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / tflite_name(self.name)

    @property
    def dictionary(self) -> Dictionary | None:
        """What the file must answer exactly; None: nothing."""
        asked_for = self.name in self.options.recipes
        return self.trained.dictionary if asked_for else None

    def export(self, converted: _Convert) -> Outcome:
        """Writes the file and checks it, if it may be shipped at all.

        Which words of the dictionary are exceptions follows from the answers of the
        file without a table. It also tells quality and loss, as they are for words that
        are in no dictionary.
        """
        model, refused = self._ready(converted, None)
        if not refused.passed:
            return refused
        exceptions = Exceptions(0, 0) if self.dictionary else None
        self._write(model, exceptions)
        row, dev, outcome = self._checked()
        # Once more: the card inside tells what was measured of the file.
        self._write(model, exceptions, row)
        outcome += Outcome({self.name: _entry(self.path, row)}, (row,))
        if outcome.passed and self.dictionary:
            return outcome + self._with_exceptions(
                self.dictionary, converted, len(model), row, dev
            )
        return outcome

    def _with_exceptions(
        self,
        dictionary: Dictionary,
        converted: _Convert,
        plain_size: int,
        row: FileReport,
        dev: Sequence[Translation],
    ) -> Outcome:
        """Replaces the file by one that answers what it gets wrong from a table.

        It is converted a second time: the first has told what is to be in the table.

        Args:
            dictionary: What the file must answer exactly.
            converted: Makes the float32 model.
            plain_size: The size of the model without a table.
            row: The file's row, which is brought up to date.
            dev: Its translations of the dev texts without a table.
        """
        wrong = find_wrong_words(self.path, self.trained, self.options)
        exceptions, outcome = Exceptions(0, 0), Outcome()
        if wrong:
            table = exceptions_of(dictionary, wrong, self.trained.translators)
            model, refused = self._ready(converted, table)
            if not refused.passed:
                return refused
            exceptions = Exceptions(len(wrong), len(model) - plain_size)
            self._write(model, exceptions, row)
            found, row.milliseconds = self._translated([one.source for one in dev])
            outcome += check_others(self.name, self.trained, wrong, dev, found)
        outcome += check_exactness(
            self.name, self.path, self.trained, self.options, exceptions, wrong
        )
        models = {self.name: _entry(self.path, row, exceptions)}
        return outcome + Outcome(models, exceptions={self.name: wrong})

    def _ready(
        self, converted: _Convert, exceptions: ExceptionTable | None
    ) -> tuple[bytes, Outcome]:
        """Returns a quantized model, and a failure if it must not be shipped."""
        recipe = RECIPES[self.name]
        which = "" if exceptions is None else f" with {exceptions.size:,} exceptions"
        logger.info("converting to %s%s", self.name, which)
        compatible = self.options.compatible
        model = quantize_weights(
            converted(recipe, exceptions), recipe, compatible=compatible
        )
        if forbidden := forbidden_operators(model):
            names = ", ".join(forbidden)
            return model, _refused(f"{self.name}: operators not allowed: {names}")
        model = finished(model, OUTPUTS)
        needed = minimum_runtime(model)
        too_new = version_numbers(needed) > version_numbers(COMPATIBLE_RUNTIME)
        if compatible and too_new:
            return model, _refused(
                f"{self.name}: needs runtime {needed}, expected at most "
                f"{COMPATIBLE_RUNTIME} with --compatible"
            )
        return model, Outcome()

    def _write(
        self,
        model: bytes,
        exceptions: Exceptions | None,
        row: FileReport | None = None,
    ) -> None:
        """Writes a model as a file that describes itself.

        Args:
            model: All that a runtime reads of it.
            exceptions: Those in its table; None: it has none.
            row: What was measured of it, which its card tells and which learns its
                size; None: nothing yet, and it has no card.
        """
        keras = self.trained.keras
        files: dict[str, str | Callable[[str], str]] = {
            SOURCE_VOCABULARY: vocabulary_text(keras.source_tokenizer.pieces),
            TARGET_VOCABULARY: vocabulary_text(keras.target_tokenizer.pieces),
        }
        manifest = manifest_of(self.trained, self.options)
        manifest = replace(manifest, exceptions=exceptions)
        if row is not None:
            files[MODEL_CARD] = lambda sha256: model_card(
                self.trained, manifest, [row], {_HASHED: sha256}
            )
        attached = attach_metadata(model, manifest, files)
        with writing(self.path):
            self.path.write_bytes(attached)
        if row is not None:
            row.bytes = len(attached)

    def _translated(self, texts: Sequence[str]) -> tuple[list[Translation], float]:
        """Returns translations of texts, and the milliseconds per text."""
        file = Translator(self.path, length=self.trained.default_length)
        return translate_timed(file, texts)

    def _checked(self) -> tuple[FileReport, list[Translation], Outcome]:
        """Measures the file, and compares it with Keras.

        Returns:
            Its row, its translations of the dev texts, and what was found.
        """
        logger.info("checking %s", self.name)
        trained = self.trained
        row, actual = FileReport(self.name), {}
        for part, (references, _) in trained.sets.items():
            actual[part], milliseconds = self._translated(list(references))
            if part == "dev":
                row.milliseconds = milliseconds
        loss = dev_loss(trained, actual["dev"])
        row.loss = loss.points
        if self.name == REFERENCE:
            found = self._equals_keras()
        else:
            max_loss = self.options.max_loss
            found = check_loss(self.name, trained, loss, max_loss=max_loss)
        qualities = {
            part: trained.quality(part, texts) for part, texts in actual.items()
        }
        row.dev, row.test = qualities["dev"], qualities.get("test", {})
        return row, actual["dev"], found

    def _equals_keras(self) -> Outcome:
        outcome = Outcome()
        for length in self.trained.translators:
            for beam_size in self.options.beams:
                file = Translator(self.path, length=length)
                outcome += check_equality(
                    REFERENCE, self.trained, file, length=length, beam_size=beam_size
                )
        return outcome


def _refused(failure: str) -> Outcome:
    return Outcome(failures=(failure,))


def _entry(
    path: Path, row: FileReport, exceptions: Exceptions | None = None
) -> ModelFile:
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
        exceptions=exceptions,
    )
