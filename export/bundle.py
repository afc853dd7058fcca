"""The bundle: the files an app ships, and the checks that they must pass first."""

import errno
import hashlib
import json
import logging
import os
import shutil
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import tensorflow as tf

from pocketseq.export.checks.golden import LEAST, golden_lines
from pocketseq.export.checks.verification import compare, quality_loss, translate_timed
from pocketseq.export.graph.translate import translate_function
from pocketseq.export.readme import bundle_readme, choose_example
from pocketseq.export.runtime import Translator
from pocketseq.export.saved_model import SavedModelTranslator, save_saved_model
from pocketseq.export.tflite.conversion import convert
from pocketseq.export.tflite.flatbuffer import (
    finished,
    forbidden_operators,
    minimum_runtime,
    operators,
    vocabulary_text,
)
from pocketseq.export.tflite.metadata import attach_metadata
from pocketseq.export.tflite.quantization import RECIPES, quantize_weights
from pocketseq.pipeline.data.corpora import Corpus
from pocketseq.pipeline.errors import UserError, writing
from pocketseq.pipeline.evaluation import evaluate
from pocketseq.pipeline.training.preparation import training_corpora

logger = logging.getLogger(__name__)

_OUTPUTS = ["text", "score", "alignment"]

# How many training texts golden lines may be chosen from, behind those of the dev set.
_GOLDEN_SOURCES = 1000

# Runtimes from here on load and compute rightly what --compatible makes.
_COMPATIBLE_RUNTIME = "2.14.0"


@dataclass(frozen=True)
class Options:
    """What to export.

    ``recipes``: names in :data:`pocketseq.export.tflite.quantization.RECIPES`, a
    ``.tflite`` file each; ``saved_model``: whether to write a SavedModel;
    ``beam_size``: for the signatures that search with a beam, None: there are none;
    ``lengths``: of source texts in code points, the default first, ``()``: as the
    recipe says;
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
        UserError: The folder exists and ``force`` was not given, holds something else
            than an export, or cannot be written.
    """
    shown = Path(output) if output else run.folder / "export"
    folder = Path(os.path.realpath(shown))  # a link stays, what it leads to is written
    _refuse_to_destroy(folder, force)
    with _workplace(folder) as temporary:
        export = _Export(run, options)
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
            _put(bundle, folder, temporary)
    return Report(
        shown, export.config.metric, export.reports, export.failures, export.notes
    )


# What an export writes into its folder.
_WRITTEN = (
    "manifest.json", "golden*.jsonl", "README.md", "LICENSES.md", "model-*.tflite",
    "saved_model",
)  # fmt: skip

# Where it works; one that was killed may have left such a folder.
_PREFIX = ".export-"

# A file system keeps this at its root.
_NOT_OURS = "lost+found"


def _refuse_to_destroy(folder, force):
    """Replaces nothing unasked, and never what no export has written."""
    if not folder.exists():
        return
    if not force:
        raise UserError(f"{folder}: exists already, expected --force to replace it")
    if not folder.is_dir():
        raise UserError(f"{folder}: no export is in it, expected another --output")
    names = sorted(path.name for path in _contents(folder))
    if names and not _is_manifest(folder / "manifest.json"):
        raise UserError(f"{folder}: no export is in it, expected another --output")
    for name in names:
        if not any(fnmatchcase(name, pattern) for pattern in _WRITTEN):
            raise UserError(
                f"{folder / name}: no export has written it, expected it to be "
                f"elsewhere, or another --output"
            )


def _contents(folder):
    """Yields what is in a folder that an export may replace, but not where it works."""
    for path in folder.iterdir():
        if not path.name.startswith(_PREFIX) and path.name != _NOT_OURS:
            yield path


def _is_manifest(path):
    """Whether a file is the manifest of an export, and not of something else."""
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    match manifest:
        case {"format": 1, "signatures": {}, "models": {}, "recipe": {}}:
            return True
    return False


@contextmanager
def _workplace(folder):
    """Makes a folder to work in that is gone afterwards, and tries to write in it.

    Beside the folder to write, or as near as there is one, so that a failure makes no
    folders; in it, where it is a mount point or nothing may be made beside it.

    Raises:
        UserError: Nothing can be written there.
    """
    near = next(parent for parent in folder.parents if parent.exists())
    if folder.exists() and (os.path.ismount(folder) or not os.access(near, os.W_OK)):
        near = folder
    with ExitStack() as stack:
        with writing(folder):
            name = stack.enter_context(TemporaryDirectory(dir=near, prefix=_PREFIX))
        yield Path(name)


def _put(bundle, folder, temporary):
    """Makes a folder hold a bundle; where that fails, all is as it was before.

    The folder is replaced, or its contents where it cannot be, being a mount point.
    """
    if not folder.exists():
        with writing(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            bundle.rename(folder)
    elif temporary.parent == folder:
        _replace_contents(bundle, folder, temporary)
    else:
        try:
            _move([(folder, temporary / "replaced"), (bundle, folder)])
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.EXDEV):
                raise
            with TemporaryDirectory(dir=folder, prefix=_PREFIX) as inside:
                copy = shutil.copytree(bundle, Path(inside, "bundle"))
                _replace_contents(copy, folder, Path(inside))


def _replace_contents(bundle, folder, temporary):
    replaced = temporary / "replaced"
    replaced.mkdir()
    _move(
        [(path, replaced / path.name) for path in _contents(folder)]
        + [(path, folder / path.name) for path in bundle.iterdir()]
    )


def _move(moves):
    """Renames (from, to) one after the other: all of them, or none."""
    with ExitStack() as undo:
        for path, to in moves:
            path.rename(to)
            undo.callback(to.rename, path)
        undo.pop_all()


class _Export:
    """One export under way: the Keras model's answers, and the files made so far."""

    def __init__(self, run, options):
        self.run = run
        self.options = options
        self.keras = run.load()
        self.config = self.keras.config
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
        self._models_by_rows: dict[bool, bytes] = {}
        self.failures: list[str] = []
        self.notes: list[str] = []
        self.files: dict[str, Path] = {}
        self.models: dict[str, dict] = {}
        self.reports = [FileReport("Keras", **self._qualities(self.expected))]

    def make(self, name, folder):
        """Converts to one recipe and checks the file."""
        logger.info("converting to %s", name)
        recipe = RECIPES[name]
        compatible = self.options.compatible
        model = quantize_weights(
            self._converted(recipe.int8_rows), recipe, compatible=compatible
        )
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
        attached = attach_metadata(model, self._manifest({}), self._attached())
        with writing(path):
            path.write_bytes(attached)
        self.files[name] = path
        logger.info("checking %s", name)
        self._check(name, model, Translator(path, length=self.lengths[0]))

    def _converted(self, int8_rows):
        """Returns the float32 model that recipes start from, converted once for all."""
        if int8_rows not in self._models_by_rows:
            tables = self.keras.model.token_tables(int8=int8_rows)
            with _writing(Path(gettempdir())):  # where the converter works
                # Nothing here keeps the functions, so that they can go on the way.
                self._models_by_rows[int8_rows] = convert(
                    {
                        _signature(n, self.lengths, beam): translate_function(
                            self.translators[n], beam_size=beam, token_inputs=tables
                        )
                        for n in self.lengths
                        for beam in self._beams()
                    }
                )
        return self._models_by_rows[int8_rows]

    def make_saved_model(self, folder):
        """Writes the SavedModel and compares it with Keras."""
        logger.info("writing and checking the SavedModel")
        with _writing(folder):
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
            references, expected, found, metric=self.config.metric,
            normalization=self.keras.target_normalization,
        )  # fmt: skip

    def _qualities(self, translations):
        return {
            part: evaluate(
                list(self.sets[part].values()),
                [t.text for t in found],
                kind=self.keras.target_kind,
                normalization=self.keras.target_normalization,
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
            "recipe": asdict(_without_folders(self.config)),
        }

    def write_bundle(self, folder):
        """Writes the files that were asked for, and what goes with them."""
        models = {}
        for name in dict.fromkeys(self.options.recipes):
            with writing(folder):
                path = Path(shutil.copy(self.files[name], folder))
            models[name] = {
                "file": path.name,
                "bytes": path.stat().st_size,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                **self.models[name],
            }
        if models:
            self._write_golden_lines(folder, models)
            _write(folder / "README.md", self._readme(folder, models))
        _write(folder / "manifest.json", _json(self._manifest(models)))
        _write(folder / "LICENSES.md", _licenses(_without_folders(self.config)))

    def _readme(self, folder, models):
        # Lines end with \n; texts may hold other line separators.
        golden = (folder / "golden.jsonl").read_text(encoding="utf-8").split("\n")
        return bundle_readme(
            self._manifest(models),
            descriptions={name: RECIPES[name].description for name in models},
            # What stands before is no character: nothing, and U+FFFD.
            alphabet=self.keras.source_tokenizer.alphabet[2:],
            example=choose_example(filter(None, golden), self.sets["dev"]),
            compatible_runtime=_COMPATIBLE_RUNTIME,
        )

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
    with writing(path):
        path.write_text(text, encoding="utf-8")


@contextmanager
def _writing(path):
    """Does as :func:`writing`, for what TensorFlow writes."""
    try:
        with writing(path):
            yield
    except tf.errors.OpError as error:
        raise UserError(f"{path}: cannot be written: {error.message}") from error


def _without_folders(config):
    """Returns the configuration for others: files and runs by their names alone.

    Where somebody keeps them is nobody's business, and of no use elsewhere.
    """
    data = config.data
    names = ("train", "train_target", "dev", "dev_target", "test")
    return replace(
        config,
        base=Path(config.base).name,
        data=replace(data, **{name: Path(getattr(data, name)).name for name in names}),
    )


def _licenses(config):
    return (
        "# Licences\n\n"
        f"The weights were trained on `{config.data.train}`: {config.data.license}.\n"
    )
