"""The bundle: the files an app ships, and the checks that they must pass first.

The whole way, from top to bottom: the trained model and its answers, the exporters and
their checks, golden lines and texts that describe the files, the folder.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

from pocketseq.export.apps import write_apps
from pocketseq.export.card import model_card
from pocketseq.export.checks.golden import (
    LEAST,
    GoldenFile,
    exception_lines,
    golden_lines,
)
from pocketseq.export.contract import (
    GOLDEN,
    GOLDEN_BEAM,
    LICENSES,
    MANIFEST,
    MODEL_CARD,
    README,
    Manifest,
)
from pocketseq.export.exporter import (
    FileReport,
    Options,
    Outcome,
    TrainedModel,
    load_trained,
    manifest_of,
    without_folders,
)
from pocketseq.export.folders import put, refuse_to_destroy, workplace
from pocketseq.export.readme import bundle_readme, choose_example
from pocketseq.export.recipes import RECIPES
from pocketseq.export.runtime import Translator
from pocketseq.export.saved_model import export_saved_model
from pocketseq.export.tflite.files import COMPATIBLE_RUNTIME, export_tflite
from pocketseq.pipeline.configuration import Config
from pocketseq.pipeline.errors import writing
from pocketseq.pipeline.runs import Run

# How many training texts golden lines may be chosen from, behind those of the dev set.
_GOLDEN_SOURCES = 1000

#: Each writes one form of the model into a folder, if the options ask for it, and
#: checks it.
EXPORTERS: tuple[Callable[[TrainedModel, Options, Path], Outcome], ...] = (
    export_tflite,
    export_saved_model,
)


@dataclass(frozen=True)
class Report:
    """The results of an export: ``failures`` is empty where it wrote the bundle.

    ``folder``: where the bundle is. ``metric``: the main one. ``files``: the rows of
    the table, Keras first. ``notes`` and ``failures``: lines for people.
    """

    folder: Path
    metric: str
    files: Sequence[FileReport]
    failures: Sequence[str]
    notes: Sequence[str]

    @property
    def passed(self) -> bool:
        """Whether no check has failed."""
        return not self.failures


def export_bundle(
    run: Run, options: Options, *, output: str | Path | None = None, force: bool = False
) -> Report:
    """Writes the files an app ships, after checking them against the Keras model.

    Args:
        run: A run that has been evaluated at least once.
        options: What to export.
        output: The folder to write; None: ``export`` in the run folder.
        force: Whether an existing export may be replaced.

    Returns:
        :class:`Report`. If a check has failed, nothing was written.

    Raises:
        UserError: The folder exists and ``force`` was not given, holds something else
            than an export, or cannot be written; or the run cannot be read.
    """
    shown = Path(output) if output else run.folder / "export"
    folder = Path(os.path.realpath(shown))  # a link stays, what it leads to is written
    refuse_to_destroy(folder, force=force)
    with workplace(folder) as temporary:
        bundle = temporary / "bundle"
        bundle.mkdir()
        report = write_bundle(run, options, bundle)
        if report.passed:
            put(bundle, folder, temporary)
    return replace(report, folder=shown)


def write_bundle(run: Run, options: Options, folder: Path) -> Report:
    """Writes a bundle into an empty folder; after a failure, it is not complete.

    Args:
        run: A run that has been evaluated at least once.
        options: What to export.
        folder: Where to write.
    """
    trained = load_trained(run, options)
    outcome = Outcome(rows=(_keras_row(trained),))
    for export in EXPORTERS:
        if outcome.passed:
            outcome += export(trained, options, folder)
    if outcome.passed and outcome.models:
        outcome += _write_golden_lines(trained, options, outcome, folder)
    if outcome.passed:
        _describe(trained, options, outcome, folder)
    return Report(
        folder, trained.config.metric, outcome.rows, outcome.failures, outcome.notes
    )


def _keras_row(trained: TrainedModel) -> FileReport:
    qualities = {
        part: trained.quality(part, expected)
        for part, (_, expected) in trained.sets.items()
    }
    return FileReport("Keras", dev=qualities["dev"], test=qualities.get("test", {}))


def _write_golden_lines(
    trained: TrainedModel, options: Options, exported: Outcome, folder: Path
) -> Outcome:
    """Writes lines on which Keras and all files agree, under all kernels.

    Exceptions that all files have are among them, although Keras does not know them.
    """
    files: list[GoldenFile] = [
        (
            partial(
                Translator,
                folder / model.file,
                length=trained.default_length,
                xnnpack=xnnpack,
            ),
            RECIPES[name].score_tolerance,
        )
        for name, model in exported.models.items()
        for xnnpack in (True, False)
    ]
    # A small dev set does not give enough: training texts are known to the model, but
    # these lines test the app.
    some = (pair.source for pair in islice(trained.training_corpus, _GOLDEN_SOURCES))
    sources = list(dict.fromkeys([*trained.sets["dev"].references, *some]))
    lines = exception_lines(_shared_exceptions(trained, exported), files)
    is_longest = trained.default_length == max(trained.translators)
    choose = partial(golden_lines, trained.keras, files, sources, is_longest=is_longest)
    lines += choose()
    _write(folder / GOLDEN, _joined(lines))
    if options.beam_size:
        _write(folder / GOLDEN_BEAM, _joined(choose(beam_size=options.beam_size)))
    if len(lines) >= LEAST:
        return Outcome()
    failure = (
        f"only {len(lines)} golden lines on which Keras and all files agree clearly, "
        f"expected at least {LEAST}: the model is not trained enough"
    )
    return Outcome(failures=(failure,))


def _shared_exceptions(
    trained: TrainedModel, exported: Outcome
) -> list[tuple[str, str]]:
    """Returns (text, answer) of the exceptions that all files have."""
    if trained.dictionary is None:
        return []
    words = trained.dictionary.words
    shared = frozenset.intersection(*map(frozenset, exported.exceptions.values()))
    return [
        (words[number].source, words[number].answers[0]) for number in sorted(shared)
    ]


def _describe(
    trained: TrainedModel, options: Options, exported: Outcome, folder: Path
) -> None:
    """Writes the texts that go with the files of a bundle."""
    manifest = manifest_of(trained, options, exported.models)
    hashes = {f"`{one.file}`": one.sha256 for one in manifest.models.values()}
    card = model_card(trained, manifest, exported.rows, hashes)
    _write(folder / MODEL_CARD, card)
    if manifest.models:
        _write(folder / README, _readme(trained, manifest, folder))
        write_apps(manifest, options.apps, folder)
    _write(folder / MANIFEST, manifest.to_json())
    _write(folder / LICENSES, _licenses(without_folders(trained.config)))


def _readme(trained: TrainedModel, manifest: Manifest, folder: Path) -> str:
    # Lines end with \n; texts may hold other line separators.
    golden = (folder / GOLDEN).read_text(encoding="utf-8").split("\n")
    return bundle_readme(
        manifest,
        descriptions={name: RECIPES[name].description for name in manifest.models},
        # The two entries before are not characters: nothing, and U+FFFD.
        alphabet=trained.keras.source_tokenizer.alphabet[2:],
        example=choose_example(filter(None, golden), trained.sets["dev"].references),
        compatible_runtime=COMPATIBLE_RUNTIME,
    )


def _joined(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _write(path: Path, text: str) -> None:
    with writing(path):
        path.write_text(text, encoding="utf-8")


def _licenses(config: Config) -> str:
    return (
        "# Licences\n\n"
        f"The weights were trained on `{config.data.train}`: {config.data.license}.\n"
    )
