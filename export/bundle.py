"""The bundle: the files an app ships, and the checks that they must pass first."""

import hashlib
import json
import logging
import shutil
import tempfile
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from string import Template

from pocketseq.export.flatbuffer import (
    attach_files,
    forbidden_operators,
    minimum_runtime,
    operators,
    order_outputs,
    vocabulary_text,
)
from pocketseq.export.golden import LEAST, golden_lines
from pocketseq.export.graph import translate_function
from pocketseq.export.quantization import (
    RECIPES,
    quantize_embeddings,
    quantize_weights,
)
from pocketseq.export.runtime import Translator
from pocketseq.export.tflite import convert
from pocketseq.export.verification import compare, quality_loss, translate_timed
from pocketseq.pipeline.corpora import Corpus
from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.evaluation import evaluate
from pocketseq.pipeline.training import training_corpora

logger = logging.getLogger(__name__)

_OUTPUTS = ["text", "score", "alignment"]
_SCORE_TOLERANCE = {"float32": 1e-3}
_QUANTIZED_SCORE_TOLERANCE = 0.05

# How many training texts golden lines may be chosen from, behind those of the dev set.
_GOLDEN_SOURCES = 1000


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


def export_bundle(run, *, recipes=("int8",), output=None, force=False, max_loss=0.5):
    """Writes the files an app ships, after checking them against the Keras model.

    Args:
        run: :class:`pocketseq.pipeline.runs.Run`.
        recipes: Names in :data:`pocketseq.export.quantization.RECIPES`.
        output: The folder to write; None: ``export`` in the run folder.
        force: Whether an existing folder may be replaced.
        max_loss: How many points of the main metric quantization may cost.

    Returns:
        :class:`Report`. If a check has failed, nothing was written.

    Raises:
        UserError: The folder exists and ``force`` was not given.
    """
    folder = Path(output) if output else run.folder / "export"
    _refuse_to_destroy(folder, force)
    export = _Export(run, max_loss)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".export-") as name:
        temporary = Path(name)
        # float32 is made in any case: the gate compares it with Keras.
        for name in dict.fromkeys(["float32", *recipes]):
            export.make(name, temporary)
        if not export.failures:
            export.write_bundle(temporary / "bundle", recipes)
        if not export.failures:
            if folder.exists():
                folder.rename(temporary / "replaced")
            (temporary / "bundle").rename(folder)
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

    def __init__(self, run, max_loss):
        self.run = run
        self.max_loss = max_loss
        self.keras = run.load()
        self.config = self.keras.config
        self.kind = self.config.target.tokenizer
        self.train_corpus, dev = training_corpora(self.config)
        self.sets = {"dev": dev.references()}
        if self.config.data.test:
            self.sets["test"] = Corpus(self.config.data.test).references()
        self.expected = {
            name: [best for (best,) in self.keras.translate(list(references))]
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
        translator = self.keras
        if recipe.int8_embeddings:
            translator = self.run.load()  # a copy, because int8 cannot be undone
            quantize_embeddings(translator.model)
        model = convert({"translate": translate_function(translator)})
        if name != "float32":
            model = quantize_weights(model)
        model = order_outputs(model, _OUTPUTS)
        forbidden = forbidden_operators(model)
        if forbidden:
            self.failures.append(
                f"{name}: operators not allowed: {', '.join(forbidden)}"
            )
            return
        path = folder / f"model-{name}.tflite"
        path.write_bytes(attach_files(model, self._attached()))
        self.files[name] = path
        logger.info("checking %s", name)
        self._check(name, model, Translator(path))

    def _check(self, name, model, file):
        report = FileReport(name, self.files[name].stat().st_size)
        actual = {}
        for part, references in self.sets.items():
            actual[part], milliseconds = translate_timed(file, list(references))
            if part == "dev":
                report.milliseconds = milliseconds
        if name == "float32":
            self._check_equality(actual)
        loss = self._loss(actual["dev"])
        if name != "float32" and loss.points > self.max_loss and loss.is_real:
            self.failures.append(
                f"{name}: loses {loss.points:.2f} points of {self.config.metric} on "
                f"the dev set, which is no chance: expected at most {self.max_loss}"
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

    def _check_equality(self, actual):
        equality = compare(self.keras, self.expected["dev"], actual["dev"])
        self.notes.append(
            f"float32 against Keras on {equality.examples} dev texts: "
            f"{len(equality.differences)} differences, {equality.near_ties} near ties"
        )
        if equality.differences:
            shown = "".join(f"\n  {line}" for line in equality.differences[:5])
            self.failures.append(
                f"float32: {len(equality.differences)} of {equality.examples} dev "
                f"texts differ from Keras:{shown}"
            )

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
        """The files inside each model."""
        return {
            "manifest.json": _json(self._manifest({})),
            "source_vocabulary.txt": vocabulary_text(
                self.keras.source_tokenizer.pieces
            ),
            "target_vocabulary.txt": vocabulary_text(
                self.keras.target_tokenizer.pieces
            ),
        }

    def _manifest(self, models):
        source, target = self.keras.source_tokenizer, self.keras.target_tokenizer
        n, m = source.max_code_points, target.max_code_points
        return {
            "format": 1,
            "name": self.config.name,
            "task": self.config.task,
            "source": _side(source),
            "target": _side(target),
            "signatures": {
                "translate": {
                    "inputs": [_tensor("text", "int32", [1, n])],
                    "outputs": [
                        _tensor("text", "int32", [1, m]),
                        _tensor("score", "float32", [1]),
                        _tensor("alignment", "float32", [1, m, n]),
                    ],
                }
            },
            "models": models,
            "recipe": asdict(self.config),
        }

    def write_bundle(self, folder, recipes):
        """Writes the files that were asked for, and what goes with them."""
        folder.mkdir()
        models = {}
        for name in dict.fromkeys(recipes):
            path = Path(shutil.copy(self.files[name], folder))
            models[name] = {
                "file": path.name,
                "bytes": path.stat().st_size,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                **self.models[name],
            }
        files = [
            (
                Translator(folder / model["file"]),
                _SCORE_TOLERANCE.get(name, _QUANTIZED_SCORE_TOLERANCE),
            )
            for name, model in models.items()
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
            return
        _write(folder / "golden.jsonl", "".join(f"{line}\n" for line in lines))
        _write(folder / "manifest.json", _json(self._manifest(models)))
        _write(folder / "README.md", _readme(self._manifest(models)))
        _write(folder / "LICENSES.md", _licenses(self.config))


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
    template = Path(__file__).with_name("bundle_readme.md").read_text(encoding="utf-8")
    return Template(template).substitute(
        name=manifest["name"],
        task=manifest["task"],
        models=models,
        n=manifest["source"]["max_code_points"],
        m=manifest["target"]["max_code_points"],
        file=next(iter(manifest["models"].values()))["file"],
    )
