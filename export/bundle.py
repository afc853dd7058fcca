"""The bundle: the files an app ships, and the checks that they must pass first."""

import hashlib
import json
import logging
import shutil
import tempfile
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from string import Template

from pocketseq.export.flatbuffer import (
    finished,
    forbidden_operators,
    minimum_runtime,
    operators,
    vocabulary_text,
)
from pocketseq.export.golden import LEAST, golden_lines
from pocketseq.export.graph import translate_function
from pocketseq.export.metadata import attach_metadata
from pocketseq.export.quantization import RECIPES, quantize_weights
from pocketseq.export.runtime import Translator
from pocketseq.export.saved_model import SavedModelTranslator, save_saved_model
from pocketseq.export.tflite import convert
from pocketseq.export.verification import compare, quality_loss, translate_timed
from pocketseq.pipeline.corpora import Corpus
from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.evaluation import evaluate
from pocketseq.pipeline.preparation import training_corpora

logger = logging.getLogger(__name__)

_OUTPUTS = ["text", "score", "alignment"]

# How many training texts golden lines may be chosen from, behind those of the dev set.
_GOLDEN_SOURCES = 1000

# Runtimes from here on load and compute rightly what --compatible makes.
_COMPATIBLE_RUNTIME = "2.14.0"


@dataclass(frozen=True)
class Options:
    """What to export.

    ``recipes``: names in :data:`pocketseq.export.quantization.RECIPES`, a ``.tflite``
    file each; ``saved_model``: whether to write a SavedModel; ``beam_size``: for the
    signatures that search with a beam, None: there are none; ``lengths``: of source
    texts in code points, the default first, ``()``: as the recipe says;
    ``compatible``: whether the files must run on runtimes back to 2.14; ``max_loss``:
    how many points of the main metric quantization may cost.
    """

    recipes: tuple[str, ...] = ("int8",)
    saved_model: bool = False
    beam_size: int | None = None
    lengths: tuple[int, ...] = ()
    compatible: bool = False
    max_loss: float = 0.5


@dataclass
class FileReport:
    """One row of the table: how large, how good and how fast a model is."""

    name: str
    bytes: int | None = None
    dev: dict = field(default_factory=dict)
    test: dict = field(default_factory=dict)
    loss: float | None = None
    milliseconds: float | None = None


@dataclass
class Report:
    """What an export did: ``failures`` is empty where it wrote the bundle."""

    folder: Path
    metric: str
    files: list[FileReport]
    failures: list[str]
    notes: list[str]

    @property
    def passed(self):
        return not self.failures


def export_bundle(run, options, *, output=None, force=False):
    """Writes the files an app ships, after checking them against the Keras model.

    Args:
        run: :class:`pocketseq.pipeline.runs.Run`.
        options: :class:`Options`.
        output: The folder to write; None: ``export`` in the run folder.
        force: Whether an existing folder may be replaced.

    Returns:
        :class:`Report`. If a check has failed, nothing was written.

    Raises:
        UserError: The folder exists and ``force`` was not given.
    """
    folder = Path(output) if output else run.folder / "export"
    _refuse_to_destroy(folder, force)
    export = _Export(run, options)
    # Beside the folder, or as near as there is one: a failure makes no folders.
    near = next(parent for parent in folder.absolute().parents if parent.is_dir())
    with tempfile.TemporaryDirectory(dir=near, prefix=".export-") as name:
        temporary = Path(name)
        if options.recipes:
            # float32 is made in any case: the gate compares it with Keras.
            for name in dict.fromkeys(["float32", *options.recipes]):
                export.make(name, temporary)
        bundle = temporary / "bundle"
        bundle.mkdir()
        if options.saved_model and not export.failures:
            export.make_saved_model(bundle / "saved_model")
        if not export.failures:
            export.write_bundle(bundle)
        if not export.failures:
            if folder.exists():
                folder.rename(temporary / "replaced")
            folder.parent.mkdir(parents=True, exist_ok=True)
            bundle.rename(folder)
    return Report(
        folder, export.config.metric, export.reports, export.failures, export.notes
    )


def _refuse_to_destroy(folder, force):
    """Replaces nothing unasked, and never what no export has written."""
    if not folder.exists():
        return
    if not force:
        raise UserError(f"{folder}: exists already, expected --force to replace it")
    if not folder.is_dir() or (
        any(folder.iterdir()) and not (folder / "manifest.json").is_file()
    ):
        raise UserError(f"{folder}: no export is in it, expected another --output")


class _Export:
    """One export under way: the Keras model's answers, and the files made so far."""

    def __init__(self, run, options):
        self.run = run
        self.options = options
        self.keras = run.load()
        self.config = self.keras.config
        self.kind = self.config.target.tokenizer
        self.lengths = options.lengths or (self.config.source.max_code_points,)
        #: The Keras model for texts of each length, the default first.
        self.translators = {n: self.keras.resized(n) for n in self.lengths}
        self.keras = self.translators[self.lengths[0]]
        self.train_corpus, dev = training_corpora(self.config)
        self.sets = {"dev": dev.references()}
        if self.config.data.test:
            self.sets["test"] = Corpus(self.config.data.test).references()
        self.expected = {
            name: _best(self.keras.translate(list(references), beam_size=1))
            for name, references in self.sets.items()
        }
        self.failures: list[str] = []
        self.notes: list[str] = []
        self.files: dict[str, Path] = {}
        self.models: dict[str, dict] = {}
        self.reports = [FileReport("Keras", **self._qualities(self.expected))]

    def make(self, name, folder):
        """Converts to one recipe and checks the file."""
        logger.info("converting to %s", name)
        recipe = RECIPES[name]
        copy = self.run.load()  # because tables cannot be undone
        copy.model.use_tables(int8=recipe.int8_rows)
        functions = {
            _signature(n, self.lengths, beam): translate_function(
                copy.resized(n), beam_size=beam
            )
            for n in self.lengths
            for beam in self._beams()
        }
        model = convert(functions)
        compatible = self.options.compatible
        model = quantize_weights(model, recipe, compatible=compatible)
        forbidden = forbidden_operators(model)
        if forbidden:
            self.failures.append(
                f"{name}: operators not allowed: {', '.join(forbidden)}"
            )
            return
        model = finished(model, _OUTPUTS)
        needed = minimum_runtime(model)
        if compatible and _version(needed) > _version(_COMPATIBLE_RUNTIME):
            self.failures.append(
                f"{name}: needs runtime {needed}, expected at most "
                f"{_COMPATIBLE_RUNTIME} with --compatible"
            )
            return
        path = folder / f"model-{name}.tflite"
        path.write_bytes(attach_metadata(model, self._manifest({}), self._attached()))
        self.files[name] = path
        logger.info("checking %s", name)
        self._check(name, model, Translator(path, length=self.lengths[0]))

    def make_saved_model(self, folder):
        """Writes the SavedModel and compares it with Keras."""
        logger.info("writing and checking the SavedModel")
        save_saved_model(
            self.keras,
            folder,
            beam_size=self.options.beam_size,
            manifest=self._manifest({}),
        )
        loaded = SavedModelTranslator(folder)
        for beam in self._beams():
            self._check_equality("SavedModel", self.keras, loaded, beam)

    def _beams(self):
        """The beam sizes of each length: None stands for the greedy search."""
        return (None, self.options.beam_size) if self.options.beam_size else (None,)

    def _check(self, name, model, file):
        report = FileReport(name, self.files[name].stat().st_size)
        actual = {}
        for part, references in self.sets.items():
            actual[part], milliseconds = translate_timed(file, list(references))
            if part == "dev":
                report.milliseconds = milliseconds
        if name == "float32":
            for n, translator in self.translators.items():
                for beam in self._beams():
                    sized = Translator(self.files[name], length=n)
                    self._check_equality("float32", translator, sized, beam)
        loss = self._loss(actual["dev"])
        if name != "float32" and loss.points > self.options.max_loss and loss.is_real:
            self.failures.append(
                f"{name}: loses {loss.points:.2f} points of {self.config.metric} on "
                f"the dev set, which is no chance: expected at most "
                f"{self.options.max_loss}"
            )
        qualities = self._qualities(actual)
        report.dev, report.test = qualities["dev"], qualities.get("test", {})
        report.loss = loss.points
        self.reports.append(report)
        self.models[name] = {
            "minimum_runtime": minimum_runtime(model),
            "operators": operators(model),
            "quality": report.dev,
            "loss": round(loss.points, 4),
            "milliseconds": round(report.milliseconds or 0.0, 3),
        }

    def _check_equality(self, name, translator, file, beam):
        texts = list(self.sets["dev"])
        options = {"beam_size": beam or 1, "n_best": beam or 1}
        expected = translator.translate(texts, **options)
        actual = file.translate(texts, **options)
        equality = compare(translator, expected, actual)
        search = f"with a beam of {beam}" if beam else "greedily"
        length = translator.source_tokenizer.max_code_points
        self.notes.append(
            f"{name} against Keras on {equality.examples} dev texts of up to {length} "
            f"code points, {search}: {len(equality.differences)} differences, "
            f"{equality.near_ties} near ties{self._gain(expected, beam)}"
        )
        if equality.differences:
            shown = "".join(f"\n  {line}" for line in equality.differences[:5])
            self.failures.append(
                f"{name}: {len(equality.differences)} of {equality.examples} dev "
                f"texts differ from Keras:{shown}"
            )

    def _gain(self, translations, beam):
        """What a beam brings, for people who wonder whether to use it."""
        if not beam:
            return ""
        metric = self.config.metric
        quality = self._qualities({"dev": _best(translations)})["dev"][metric]
        return f"; dev {metric} {quality:.2f}"

    def _loss(self, actual):
        references = list(self.sets["dev"].values())
        expected, found = (
            [translation.text for translation in translations]
            for translations in (self.expected["dev"], actual)
        )
        return quality_loss(
            references, expected, found, kind=self.kind, metric=self.config.metric
        )

    def _qualities(self, translations):
        return {
            part: evaluate(
                list(self.sets[part].values()), [t.text for t in found], kind=self.kind
            )
            for part, found in translations.items()
        }

    def _attached(self):
        """The files inside each model, besides its manifest."""
        return {
            "source_vocabulary.txt": vocabulary_text(
                self.keras.source_tokenizer.pieces
            ),
            "target_vocabulary.txt": vocabulary_text(
                self.keras.target_tokenizer.pieces
            ),
        }

    def _manifest(self, models):
        signatures = {
            _signature(n, self.lengths, beam): _tensors(translator, beam or 1)
            for n, translator in self.translators.items()
            for beam in self._beams()
        }
        beam_size = self.options.beam_size
        return {
            "format": 1,
            "name": self.config.name,
            "task": self.config.task,
            "source": _side(self.keras.source_tokenizer),
            "target": _side(self.keras.target_tokenizer),
            **({"beam_size": beam_size} if beam_size else {}),
            "signatures": signatures,
            "models": models,
            "recipe": asdict(self.config),
        }

    def write_bundle(self, folder):
        """Writes the files that were asked for, and what goes with them."""
        models = {}
        for name in dict.fromkeys(self.options.recipes):
            path = Path(shutil.copy(self.files[name], folder))
            models[name] = {
                "file": path.name,
                "bytes": path.stat().st_size,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                **self.models[name],
            }
        if models:
            self._write_golden_lines(folder, models)
            _write(folder / "README.md", _readme(self._manifest(models)))
        _write(folder / "manifest.json", _json(self._manifest(models)))
        _write(folder / "LICENSES.md", _licenses(self.config))

    def _write_golden_lines(self, folder, models):
        files = [
            (
                partial(
                    Translator,
                    folder / model["file"],
                    length=self.lengths[0],
                    xnnpack=xnnpack,
                ),
                RECIPES[name].score_tolerance,
            )
            for name, model in models.items()
            for xnnpack in (True, False)
        ]
        # A small dev set does not give enough: training texts are known to the model,
        # but what is tested with these lines is the app.
        some = (pair.source for pair in islice(self.train_corpus, _GOLDEN_SOURCES))
        sources = list(dict.fromkeys([*self.sets["dev"], *some]))
        lines = golden_lines(self.keras, files, sources)
        if len(lines) < LEAST:
            self.failures.append(
                f"only {len(lines)} golden lines on which Keras and all files agree "
                f"clearly, expected at least {LEAST}: the model is not trained enough"
            )
        _write(folder / "golden.jsonl", "".join(f"{line}\n" for line in lines))
        if beam_size := self.options.beam_size:
            lines = golden_lines(self.keras, files, sources, beam_size=beam_size)
            path = folder / "golden_beam.jsonl"
            _write(path, "".join(f"{line}\n" for line in lines))


def _best(translations):
    return [best for best, *_ in translations]


def _signature(length, lengths, beam):
    """Returns a signature's name: the first length goes without its number."""
    name = "translate_beam" if beam else "translate"
    return name if length == lengths[0] else f"{name}_{length}"


def _version(text):
    return [int(number) for number in text.split(".")]


def _tensors(translator, hypotheses):
    """Describes the inputs and outputs of a signature."""
    n = translator.source_tokenizer.max_code_points
    m = translator.target_tokenizer.max_code_points
    return {
        "inputs": [_tensor("text", "int32", [1, n])],
        "outputs": [
            _tensor("text", "int32", [hypotheses, m]),
            _tensor("score", "float32", [hypotheses]),
            _tensor("alignment", "float32", [hypotheses, m, n]),
        ],
    }


def _side(tokenizer):
    return {
        "tokenizer": tokenizer.kind,
        "normalization": asdict(tokenizer.normalization),
        "max_code_points": tokenizer.max_code_points,
    }


def _tensor(name, dtype, shape):
    return {"name": name, "dtype": dtype, "shape": shape}


def _json(value):
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"


def _write(path, text):
    path.write_text(text, encoding="utf-8")


def _licenses(config):
    return (
        "# Licences\n\n"
        f"The weights were trained on `{config.data.train}`: {config.data.license}.\n"
    )


def _readme(manifest):
    models = "\n".join(
        f"| `{model['file']}` | {model['bytes']:,} | {RECIPES[name].description} |"
        for name, model in manifest["models"].items()
    )
    signatures = "\n".join(
        f"| `{name}` | "
        + " | ".join(
            str(tensor["shape"]) for tensor in (*sides["inputs"], *sides["outputs"])
        )
        + " |"
        for name, sides in manifest["signatures"].items()
    )
    template = Path(__file__).with_name("bundle_readme.md").read_text(encoding="utf-8")
    return Template(template).substitute(
        name=manifest["name"],
        task=manifest["task"],
        models=models,
        signatures=signatures,
        n=manifest["source"]["max_code_points"],
        m=manifest["target"]["max_code_points"],
        length_penalty=f"{manifest['recipe']['search']['length_penalty']:g}",
        file=next(iter(manifest["models"].values()))["file"],
    )
