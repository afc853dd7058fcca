"""Short text to short text on the phone: attention LSTMs in one ``.tflite`` file.

>>> import pocketseq
>>> summary = pocketseq.train("pronunciation", run="runs/english")
>>> pocketseq.export(summary.run)
>>> translator = pocketseq.load("runs/english/export/model-int8.tflite")
>>> translator.translate(["phone"])[0][0].text
'F OW N'

TensorFlow is imported only when it is needed; a ``.tflite`` file never needs it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pocketseq.export.bundle import Report
    from pocketseq.pipeline.runs import Run
    from pocketseq.pipeline.training.loop import Summary
    from pocketseq.pipeline.translation import TextTranslator

__all__ = ["__version__", "evaluate", "export", "load", "train"]

__version__: str


def __getattr__(name: str) -> str:
    if name == "__version__":
        from importlib.metadata import version

        return version("pocketseq")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load(path: str | Path | None = None) -> TextTranslator:
    """Opens a trained model.

    Args:
        path: A run folder, a SavedModel folder or a ``.tflite`` file; None: the newest
            run under ``runs/``.

    Returns:
        A translator: ``translate(texts, beam_size=None, n_best=1)`` returns, for each
        text, its best :class:`pocketseq.pipeline.translation.Translation` first.

    Raises:
        UserError: There is no model at the path, it is damaged, or another program
            made it.
    """
    from pocketseq.pipeline.errors import UserError
    from pocketseq.pipeline.machine import native_messages_hidden, start_tensorflow
    from pocketseq.pipeline.runs import find_run

    if path and not Path(path).exists():
        raise UserError(
            f"{path}: no such model, expected a run folder, a SavedModel folder or a "
            f".tflite file"
        )
    if path and Path(path).is_file():
        from pocketseq.export.runtime import Translator

        with native_messages_hidden():
            return Translator(path)
    if path and (Path(path) / "saved_model.pb").is_file():
        start_tensorflow()
        from pocketseq.export.saved_model import SavedModelTranslator

        return SavedModelTranslator(Path(path))
    run = find_run(path)
    start_tensorflow()
    return run.load()


def train(
    recipe: str | None = None,
    *,
    train: str | Path | None = None,
    train_target: str | Path | None = None,
    dev: str | Path | None = None,
    dev_target: str | Path | None = None,
    run: str | Path | None = None,
    base: str | Path | None = None,
    settings: Iterable[str] = (),
    minutes: float | None = None,
    resume: bool = False,
    skip_bad_lines: bool = False,
    show_progress: bool = False,
) -> Summary:
    """Trains a model, in a run folder with which training can resume.

    With ``TF_CONFIG`` set, this process is one of the workers that it names.

    Args:
        recipe: A name or the path of a TOML file; None: ``pronunciation``, or the
            recipe of ``base``.
        train: The training pairs: a file of lines source TAB target, also ``.gz``, or a
            pattern for many files; None: those of the recipe.
        train_target: The target side of ``train``, if in a file of its own.
        dev: Pairs to measure on while training; None: those of the recipe, or 5 % of
            the training pairs.
        dev_target: The target side of ``dev``, if in a file of its own.
        run: The folder of the run; None: ``runs/RECIPE-DATE-TIME``.
        base: A trained run whose weights and tokenizers to start from (fine-tuning).
        settings: Changes to the recipe, ``section.key=value`` each.
        minutes: Minutes after which to stop; a run that was stopped can resume.
        resume: Whether to resume the run in ``run``, with its own recipe and data.
        skip_bad_lines: Whether to count and skip lines that are not pairs, instead of
            stopping.
        show_progress: Whether to show a progress bar on standard error.

    Returns:
        A summary of the training run; ``summary.run`` is the run.

    Raises:
        UserError: The recipe, the settings, the data or the folder cannot be used.
        TrainingStopped: The loss is not finite, or a worker is lost.
    """
    from pocketseq.pipeline.errors import UserError
    from pocketseq.pipeline.machine import start_tensorflow

    named = train, train_target, dev, dev_target
    if resume:
        if not run:
            raise UserError("--resume: expected --run DIR, the run to go on with")
        if recipe or base or skip_bad_lines or any(named) or list(settings):
            raise UserError(
                "--resume: the run keeps its own recipe and data, expected no RECIPE, "
                "--train, --dev, --set, --from or --skip-bad-lines"
            )
        config, folder = None, Path(run)
    else:
        from pocketseq.pipeline.runs import compose, new_run_folder

        config = compose(
            recipe, named, base=base, settings=settings, skip_bad_lines=skip_bad_lines
        )
        folder = Path(run) if run else new_run_folder(config.name)
    start_tensorflow(for_training=True)
    from pocketseq.pipeline.training.start import start_and_train

    return start_and_train(
        config, folder, base=base, minutes=minutes, show_progress=show_progress
    )


def evaluate(
    model: str | Path | None,
    file: str | Path,
    *,
    target: str | Path | None = None,
    beam_size: int | None = None,
    errors: str | Path | None = None,
    skip_bad_lines: bool = False,
) -> dict[str, Any]:
    """Measures a model on pairs; pairs with the same source are alternative references.

    Args:
        model: As for :func:`load`.
        file: A file of lines source TAB target, or ``cmudict:dev``, ``cmudict:test``.
        target: The target side of ``file``, if in a file of its own.
        beam_size: The width of the search's beam; None: greedy.
        errors: A file to write wrong outputs to, with sources and references.
        skip_bad_lines: Whether to count and skip lines that are not pairs, instead of
            stopping.

    Returns:
        ``{metric: value}``: error rates and exact matches in percent, BLEU and chrF in
        points; ``examples`` is the number of different sources.

    Raises:
        UserError: The model or the file cannot be used, or ``errors`` is one of theirs.
    """
    from pocketseq.pipeline.data.corpora import Corpus
    from pocketseq.pipeline.evaluation import evaluate as measure
    from pocketseq.pipeline.evaluation import write_errors
    from pocketseq.pipeline.reports.progress import translate_all

    corpus = Corpus(
        str(file), str(target) if target else None, skip_bad_lines=skip_bad_lines
    )
    translator = load(model)
    if errors:
        _refuse_to_overwrite(errors, [*corpus.files(), *_model_files(model)])
    corpus.check()
    references = corpus.references()
    found = translate_all(translator, list(references), beam_size=beam_size)
    texts = [best.text for best, *_ in found]
    accepted = list(references.values())
    kind, normalization = translator.target_kind, translator.target_normalization
    if errors:
        write_errors(
            errors,
            list(references),
            accepted,
            texts,
            kind=kind,
            normalization=normalization,
        )
    return measure(accepted, texts, kind=kind, normalization=normalization)


def _model_files(model: str | Path | None) -> list[Path]:
    """Returns the existing files of the model at a path; see :func:`load`."""
    from pocketseq.pipeline.runs import Run, newest_run

    if model is None:
        return newest_run().files()
    path = Path(model)
    if (path / "saved_model.pb").is_file():
        return [file for file in path.rglob("*") if file.is_file()]
    return Run(path).files() if path.is_dir() else [path]


def _refuse_to_overwrite(output: str | Path, inputs: Iterable[str | Path]) -> None:
    """Checks that the output is none of the inputs, even under another name.

    Raises:
        UserError: The output is one of them.
    """
    from pocketseq.pipeline.errors import UserError

    for path in inputs:
        if Path(output).exists() and Path(path).samefile(output):
            raise UserError(
                f"--errors {output}: would overwrite {path}, expected another file"
            )


def export(
    run: Run | str | Path | None = None,
    *,
    recipes: Sequence[str] = ("int8",),
    saved_model: bool = True,
    beam_size: int | None = None,
    lengths: Sequence[int] = (),
    compatible: bool = False,
    max_loss: float = 0.5,
    exceptions: str | Path | bool = False,
    output: str | Path | None = None,
    force: bool = False,
) -> Report:
    """Writes the files that an app ships, and checks them against Keras.

    Args:
        run: A trained run, or its folder; None: the newest run under ``runs/``.
        recipes: Quantization recipes, one ``.tflite`` file per recipe: ``float32``,
            ``float16``, ``int8``, ``int4``.
        saved_model: Whether to write a SavedModel, too.
        beam_size: The width of the beam of additional signatures; None: there are none.
        lengths: The longest texts, in code points, one signature per length, the
            default first; empty: the length of the recipe.
        compatible: Whether the files must work in runtimes back to 2.14.
        max_loss: Points of the main metric that a quantized file may lose.
        exceptions: A dictionary that every ``.tflite`` file must answer exactly: a file
            of lines source TAB target, or True: the training corpus. What a file gets
            wrong goes into a table inside it.
        output: The folder to write; None: ``export`` in the run folder.
        force: Whether to replace an existing folder.

    Returns:
        Sizes, quality and checks; if ``report.passed`` is false, nothing is written.

    Raises:
        UserError: There is no such run, the dictionary cannot be used, or the folder
            cannot be written.
    """
    from pocketseq.pipeline.errors import UserError
    from pocketseq.pipeline.machine import start_tensorflow
    from pocketseq.pipeline.runs import Run, find_run

    if exceptions and not recipes:
        raise UserError("--exceptions: expected --tflite with it, whose files have them")
    if not isinstance(run, Run):
        run = find_run(run)
    start_tensorflow()
    from pocketseq.export.bundle import Options, export_bundle
    from pocketseq.export.exporter import TRAINING_CORPUS

    dictionary = TRAINING_CORPUS if exceptions is True else str(exceptions)
    options = Options(
        recipes=tuple(recipes),
        saved_model=saved_model,
        beam_size=beam_size,
        lengths=tuple(lengths),
        compatible=compatible,
        max_loss=max_loss,
        exceptions=dictionary if exceptions else None,
    )
    return export_bundle(run, options, output=output, force=force)


class _CallablePackage(ModuleType):
    """The package ``pocketseq.export``, which can also be called, as the function."""

    __call__ = staticmethod(export)
    __signature__ = signature(export)


class _Face(ModuleType):
    def __setattr__(self, name: str, value: object) -> None:
        # Importing a package puts it into the place of the function of that name.
        if name == "export" and isinstance(value, ModuleType):
            value.__class__ = _CallablePackage
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face
