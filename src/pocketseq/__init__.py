"""Short text to short text on the phone: attention LSTMs in one ``.tflite`` file.

>>> import pocketseq
>>> translator = pocketseq.load("english-pronunciation")  # a model in the box
>>> summary = pocketseq.train("pronunciation", run="runs/mine")
>>> pocketseq.export(summary.run)
>>> translator = pocketseq.load("runs/mine/export/model-int8.tflite")
>>> translator.translate(["phone"])[0][0].text
'F OW N'
>>> pocketseq.explain("runs/mine", "phone").save("phone.html")

TensorFlow is imported only when it is needed; a ``.tflite`` file never needs it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pocketseq.export.bundle import Report
    from pocketseq.pipeline.analysis.analysis import Analysis
    from pocketseq.pipeline.analysis.answers import Answers
    from pocketseq.pipeline.data.alignments import AlignedPair
    from pocketseq.pipeline.explanation import Explanation
    from pocketseq.pipeline.runs import Run
    from pocketseq.pipeline.training.loop import Summary
    from pocketseq.pipeline.translation import TextTranslator

__all__ = [
    "__version__",
    "check",
    "compare",
    "distill",
    "evaluate",
    "explain",
    "export",
    "load",
    "train",
]

__version__: str


def __getattr__(name: str) -> str:
    if name == "__version__":
        from importlib.metadata import version

        return version("pocketseq")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load(path: str | Path | None = None) -> TextTranslator:
    """Opens a trained model.

    Args:
        path: A run folder, a SavedModel folder, a ``.tflite`` file, a folder that an
            export has written, or the name of a model in the box, such as
            ``english-pronunciation``; None: the newest run under ``runs/``. What exists
            under a name comes before the model in the box.

    Returns:
        A translator: ``translate(texts, beam_size=None, n_best=1)`` returns, for each
        text, its best :class:`pocketseq.pipeline.translation.Translation` first.

    Raises:
        UserError: There is no model at the path, it is damaged, or another program
            made it.
    """
    from pocketseq.export.places import find_model, shipped_file

    place = find_model(path)
    if file := place if place.is_file() else shipped_file(place):
        # No more than this needs anything but NumPy and the runtime.
        from pocketseq.export.runtime import Translator
        from pocketseq.pipeline.machine import native_messages_hidden

        with native_messages_hidden():
            return Translator(file)
    from pocketseq.pipeline.machine import start_tensorflow

    if (place / "saved_model.pb").is_file():
        start_tensorflow()
        from pocketseq.export.saved_model import SavedModelTranslator

        return SavedModelTranslator(place)
    from pocketseq.pipeline.runs import open_run

    run = open_run(place)
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


def check(
    files: str | Path | Sequence[str | Path],
    *,
    target: str | Path | None = None,
    dev: str | Path | None = None,
    dev_target: str | Path | None = None,
    test: str | Path | None = None,
    test_target: str | Path | None = None,
    skip_bad_lines: bool = False,
) -> dict[str, Any]:
    """Finds out what is in a corpus, before any training.

    Args:
        files: The training corpus, or several that are taken as one; each as ``train``
            of :func:`train`.
        target: The target side of ``files``, if in a file of its own.
        dev: The dev corpus; None: there is none.
        dev_target: The target side of ``dev``, if in a file of its own.
        test: The test corpus; None: there is none.
        test_target: The target side of ``test``, if in a file of its own.
        skip_bad_lines: Whether to count and skip lines that are not pairs, instead of
            stopping.

    Returns:
        What ``check --json`` prints: numbers, a recipe that fits, ``advice``, and in
        ``wrong`` the codes of the advice about what had better be mended. What the
        upper bound says stands in :mod:`pocketseq.pipeline.check`.

    Raises:
        UserError: A file cannot be read, has lines that are not pairs, or no pairs.
    """
    from pocketseq.pipeline.check import check as survey_and_advise
    from pocketseq.pipeline.data.corpora import Corpus
    from pocketseq.pipeline.errors import UserError

    def corpus(
        name: str, file: str | Path | None, target: str | Path | None
    ) -> Corpus | None:
        if file is None:
            if target is not None:
                raise UserError(
                    f"--{name}-target {target}: expected --{name} FILE with it"
                )
            return None
        return Corpus(str(file), str(target) if target else None, skip_bad_lines)

    named = [files] if isinstance(files, str | Path) else list(files)
    if not named:
        raise UserError("no files, expected one corpus or more")
    if target and len(named) != 1:
        raise UserError(f"--target {target}: expected one FILE with it")
    other_side = str(target) if target else None
    return survey_and_advise(
        [Corpus(str(file), other_side, skip_bad_lines) for file in named],
        corpus("dev", dev, dev_target),
        corpus("test", test, test_target),
    )


def distill(
    teachers: Sequence[str | Path] = (),
    *,
    recipe: str | None = None,
    words: str | Path | None = None,
    run: str | Path | None = None,
    settings: Iterable[str] = (),
    minutes: float | None = None,
    resume: bool = False,
    show_progress: bool = False,
) -> Summary:
    """Trains a small model to answer as several trained ones do together.

    The teachers say for each token of the training targets, and of their own
    translations of more words, how likely which tokens are; the student learns from
    these probabilities.

    Args:
        teachers: Run folders, trained on the same data.
        recipe: Of the student: a name or the path of a TOML file; its tokenizers and
            data are the teachers'. None: as the first teacher.
        words: Texts without targets to learn from, too: a file of lines, or
            ``wordfreq:LANGUAGE``. Those of the training, dev and test sets are left
            out.
        run: The folder of the run; None: ``runs/RECIPE-DATE-TIME``.
        settings, minutes, resume, show_progress: As for :func:`train`.

    Returns:
        A summary of the training run; ``summary.run`` is the run.

    Raises:
        UserError: A teacher, the recipe, the words or the folder cannot be used.
        TrainingStopped: The loss is not finite.
    """
    from pocketseq.pipeline.errors import UserError
    from pocketseq.pipeline.machine import start_tensorflow

    if resume:
        if not run:
            raise UserError("--resume: expected --run DIR, the run to go on with")
        if list(teachers) or recipe or words or list(settings):
            raise UserError(
                "--resume: the run keeps its own teachers, recipe and words, expected "
                "no RUN, --recipe, --words or --set"
            )
        config, folder = None, Path(run)
    else:
        from pocketseq.pipeline.runs import compose_student, new_run_folder

        config = compose_student(
            teachers, recipe, str(words) if words else None, settings
        )
        folder = Path(run) if run else new_run_folder(config.name)
    start_tensorflow(for_training=True)
    from pocketseq.pipeline.training.start import start_and_train

    return start_and_train(
        config, folder, minutes=minutes, show_progress=show_progress
    )


def evaluate(
    model: str | Path | None,
    file: str | Path | None = None,
    *,
    target: str | Path | None = None,
    beam_size: int | None = None,
    errors: str | Path | None = None,
    report: str | Path | None = None,
    alignments: str | Path | None = None,
    skip_bad_lines: bool = False,
) -> dict[str, Any]:
    """Measures a model on pairs; pairs with the same source are alternative references.

    Args:
        model: As for :func:`load`.
        file: A file of lines source TAB target, or ``cmudict:dev``, ``cmudict:test``;
            None: only ``alignments`` are compared.
        target: The target side of ``file``, if in a file of its own.
        beam_size: The width of the search's beam; None: greedy.
        errors: A file to write wrong outputs to, with sources and references.
        report: A file to write a page to that shows what goes wrong, and where.
        alignments: Gold alignments to compare the attention with: a file of lines
            source TAB alignment (``c|h}x e}ə``), or a name such as ``gruut:it:test``.
        skip_bad_lines: Whether to count and skip lines that are not pairs, instead of
            stopping.

    Returns:
        ``{metric: value}``: error rates and exact matches in percent, BLEU and chrF in
        points; ``examples`` is the number of different sources, ``intervals`` the 95 %
        interval of each metric, ``confidence`` how far scores tell wrong outputs from
        right ones. ``alignments``: see
        :class:`pocketseq.pipeline.analysis.gold.AlignmentResult`.

    Raises:
        UserError: The model or a file cannot be used, ``errors`` or ``report`` is one
            of theirs, or there is nothing to measure on.
    """
    from pocketseq.pipeline.errors import UserError

    if file is None and (alignments is None or target or errors or report):
        raise UserError("no FILE of pairs to measure on, expected one")
    translator = load(model)
    gold = None if alignments is None else _gold(translator, str(alignments))

    def compared() -> dict[str, Any]:
        if gold is None:
            return {}
        return {"alignments": _judged(translator, gold, beam_size)}

    if file is None:
        return compared()
    from pocketseq.pipeline.analysis.analysis import analyse
    from pocketseq.pipeline.analysis.results import evaluation_json
    from pocketseq.pipeline.data.corpora import Corpus
    from pocketseq.pipeline.evaluation import write_errors

    corpus = Corpus(
        str(file), str(target) if target else None, skip_bad_lines=skip_bad_lines
    )
    outputs = {"--errors": errors, "--report": report}
    inputs: list[str | Path] = [*corpus.files(), *_model_files(model)]
    if alignments is not None and Path(alignments).is_file():
        inputs.append(alignments)
    _check_outputs(outputs, inputs)
    corpus.check()
    answers = _answers(model, translator, corpus.references(), beam_size)
    if errors:
        write_errors(
            errors,
            answers.sources,
            answers.references,
            answers.texts,
            kind=answers.kind,
            normalization=translator.target_normalization,
        )
    if report:
        _write_report(report, analyse(str(file), [answers]))
    return {**evaluation_json(answers), **compared()}


def compare(
    a: str | Path,
    b: str | Path,
    file: str | Path,
    *,
    target: str | Path | None = None,
    beam_size: int | None = None,
    report: str | Path | None = None,
    skip_bad_lines: bool = False,
) -> dict[str, Any]:
    """Compares two models on the same pairs.

    Both are measured as the target of ``a`` says.

    Args:
        a, b: As ``model`` for :func:`load`.
        file, target, beam_size, skip_bad_lines: As for :func:`evaluate`.
        report: A file to write a page to that shows the differences.

    Returns:
        A dict with ``examples``, ``a`` and ``b`` (each as :func:`evaluate` returns it),
        ``only_a_right``, ``only_b_right`` (how many), ``p_value`` of a paired bootstrap
        and more; see :func:`pocketseq.pipeline.analysis.results.comparison_json`.

    Raises:
        UserError: A model or the file cannot be used, or ``report`` is one of theirs.
    """
    from pocketseq.pipeline.analysis.analysis import analyse
    from pocketseq.pipeline.analysis.results import comparison_json
    from pocketseq.pipeline.data.corpora import Corpus

    corpus = Corpus(
        str(file), str(target) if target else None, skip_bad_lines=skip_bad_lines
    )
    translators = [load(model) for model in (a, b)]
    files = [*_model_files(a), *_model_files(b), *map(Path, corpus.files())]
    _check_outputs({"--report": report}, files)
    corpus.check()
    references = corpus.references()
    kind = translators[0].target_kind
    analysis = analyse(
        str(file),
        [
            _answers(model, translator, references, beam_size, kind)
            for model, translator in zip((a, b), translators, strict=True)
        ],
    )
    if report:
        _write_report(report, analysis)
    return comparison_json(analysis)


def explain(
    model: str | Path | None,
    text: str,
    *,
    compare: str | Path | None = None,
    beam_size: int | None = None,
) -> Explanation:
    """Translates a text and explains how the model came to its output.

    >>> explanation = pocketseq.explain("runs/mine", "phone")
    >>> explanation.weights  # target tokens by source tokens; rows sum to 1
    >>> explanation.save("phone.html")  # a page; .png and .svg: a picture

    Args:
        model: As for :func:`load`. A run folder tells everything; a ``.tflite`` file
            tells only which code points each one of the output came from, a SavedModel
            only its output.
        text: The text to translate.
        compare: A second model for the same text, to stand beside the first.
        beam_size: The width of the search's beam; None: as the recipe says.

    Returns:
        The :class:`pocketseq.pipeline.explanation.Explanation`; that of ``compare`` is
        its ``other``.

    Raises:
        UserError: A model cannot be used, or there is nothing in the text.
    """
    from pocketseq.export.places import find_model

    def explained(model: str | Path | None) -> Explanation:
        name = str(model or find_model(model))
        return load(model).explain(text, beam_size=beam_size).named(name)

    explanation = explained(model)
    if compare is None:
        return explanation
    return explanation.compared_with(explained(compare))


def _gold(translator: TextTranslator, alignments: str) -> dict[str, list[AlignedPair]]:
    """Returns gold alignments by source.

    Raises:
        UserError: They cannot be read, or the model gives no alignment.
    """
    from pocketseq.pipeline.analysis.gold import by_source
    from pocketseq.pipeline.data.alignments import read_alignments
    from pocketseq.pipeline.errors import UserError

    if not translator.gives_alignment:
        raise UserError("--alignments: the model gives no alignment, expected one")
    return by_source(read_alignments(alignments))


def _judged(
    translator: TextTranslator,
    gold: dict[str, list[AlignedPair]],
    beam_size: int | None,
) -> dict[str, Any]:
    """Returns how the attention of a model compares with gold alignments."""
    from pocketseq.pipeline.analysis.gold import judge_attention
    from pocketseq.pipeline.reports.progress import translate_all

    found = translate_all(translator, list(gold), beam_size=beam_size)
    best = [one for one, *_ in found]
    return judge_attention(best, gold, translator.target_kind).to_json()


def _write_report(path: str | Path, analysis: Analysis) -> None:
    from pocketseq.pipeline.reports.analysis_page import analysis_page
    from pocketseq.pipeline.reports.page import write_page

    write_page(path, analysis_page(analysis))


def _answers(
    model: str | Path | None,
    translator: TextTranslator,
    references: dict[str, list[str]],
    beam_size: int | None,
    kind: str | None = None,
) -> Answers:
    """Returns what a model answers to the sources of a file."""
    from pocketseq.export.places import find_model
    from pocketseq.pipeline.analysis.answers import Answers
    from pocketseq.pipeline.reports.progress import translate_all

    found = translate_all(translator, list(references), beam_size=beam_size)
    return Answers(
        str(model or find_model(model)),
        translator.knowledge,
        list(references),
        list(references.values()),
        [best for best, *_ in found],
        kind=kind,
    )


def _model_files(model: str | Path | None) -> list[Path]:
    """Returns the existing files of the model at a path; see :func:`load`."""
    from pocketseq.export.places import find_model, shipped_file
    from pocketseq.pipeline.runs import Run

    place = find_model(model)
    if place.is_file():
        return [place]
    if (place / "saved_model.pb").is_file() or shipped_file(place):
        return [file for file in place.rglob("*") if file.is_file()]
    return Run(place).files()


def _check_outputs(
    outputs: Mapping[str, str | Path | None], inputs: Iterable[str | Path]
) -> None:
    """Checks that outputs are different files, and none of them one of the inputs.

    Args:
        outputs: ``{option: the file that it names, or None}``.
        inputs: The files that are read.

    Raises:
        UserError: An output is one of the inputs, even under another name, or two
            outputs are the same.
    """
    from pocketseq.pipeline.errors import UserError

    files = list(map(Path, inputs))
    named = {option: Path(path) for option, path in outputs.items() if path}
    for option, output in named.items():
        for path in files:
            if output.exists() and path.samefile(output):
                raise UserError(
                    f"{option} {output}: would overwrite {path}, expected another file"
                )
    if report := named.get("--report"):
        from pocketseq.pipeline.reports.page import check_place

        check_place(report)
    if len({path.resolve() for path in named.values()}) < len(named):
        options = " and ".join(named)
        raise UserError(f"{options} {output}: expected two different files")


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
    apps: str = "all",
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
        apps: The platforms whose wrapper sources to write beside the files, such as
            ``web,android``; ``all`` or ``none``.
        output: The folder to write; None: ``export`` in the run folder.
        force: Whether to replace an existing folder.

    Returns:
        Sizes, quality and checks; if ``report.passed`` is false, nothing is written.

    Raises:
        UserError: There is no such run, the dictionary cannot be used, or the folder
            cannot be written.
    """
    from pocketseq.export.apps import platforms_named
    from pocketseq.pipeline.errors import UserError
    from pocketseq.pipeline.machine import start_tensorflow
    from pocketseq.pipeline.runs import Run, find_run

    platforms = platforms_named(apps)
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
        apps=platforms,
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
