"""The command line: options in, one call, a few lines out.

TensorFlow and everything above it is imported inside the commands, so that ``--help``
answers at once.
"""

import codecs
import contextlib
import io
import json
import logging
import math
import os
import signal
import sys
import threading
from pathlib import Path

import click

from pocketseq.export.recipes import DEFAULT, RECIPES
from pocketseq.pipeline.configuration import LONGEST_TEXT, WIDEST_BEAM
from pocketseq.pipeline.errors import TrainingStopped, UserError, system_problem

# Exit statuses as shells give them: 128 and the number of the signal.
_INTERRUPTED = 128 + signal.SIGINT
_PIPE_CLOSED = 128 + signal.SIGPIPE


class _Command(click.Command):
    """A command whose values are text that can be printed and saved, and not empty.

    An empty value comes of a variable that is not set, and would mean the default. Only
    of many arguments, the texts to translate, any may be empty.
    """

    def invoke(self, context):
        for parameter in self.params:
            option = isinstance(parameter, click.Option)
            name = (
                parameter.opts[0]
                if option
                else parameter.human_readable_name.strip("[].")
            )
            value = context.params.get(parameter.name)
            for one in value if isinstance(value, tuple) else (value,):
                if one == "" and parameter.nargs == 1:
                    expected = parameter.metavar or name
                    raise UserError(f"{name}: the value is empty, expected {expected}")
                if isinstance(one, str) and not _is_unicode(one):
                    raise UserError(f"{name} {one!a}: expected UTF-8")
        return super().invoke(context)


def _is_unicode(text):
    """Whether a text has no surrogates, which stand for bytes that are not UTF-8."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


class _Group(click.Group):
    """Ends every command in one of a few ways, with a line that says why.

    A user's mistake, and what the system refuses: exit status 2. A failed check, and a
    training that cannot go on: 1. Ctrl-C, and the polite request to end: 130. A closed
    pipe, quietly: 141. Any other exception is a fault of ours, and keeps its traceback.
    """

    command_class = _Command

    def main(self, *arguments, **options):
        _speak_utf_8()
        with _exit_statuses():  # of what is printed before there is a command, too
            return super().main(*arguments, **options)

    def invoke(self, context):
        with _exit_statuses(), _interruptible():
            return super().invoke(context)


@contextlib.contextmanager
def _exit_statuses():
    """Turns what ends a command into its last line and exit status."""
    try:
        yield
    except UserError as error:
        _end(2, f"error: {error}")
    except TrainingStopped as error:
        _end(1, f"error: {error}")
    except KeyboardInterrupt:
        _end(_INTERRUPTED, "interrupted")
    except BrokenPipeError:
        _give_up_output()
        _end(_PIPE_CLOSED)
    except OSError as error:
        if error.errno is None:  # not the system's
            raise
        _give_up_output()
        _end(2, f"error: {system_problem(error)}")


def _end(status, line=None):
    if line:
        with contextlib.suppress(OSError):  # nobody listens; the status still counts
            click.echo(line, err=True)
    raise SystemExit(status) from None


def _print(line):
    """Prints a line of results."""
    try:
        click.echo(line)
    except OSError as error:
        error.filename = "standard output"
        raise


def _give_up_output():
    """Lets what cannot be written go nowhere, or Python would try again at its end.

    See the note on SIGPIPE in the documentation of Python's ``signal``.
    """
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


@contextlib.contextmanager
def _interruptible():
    """Lets SIGTERM end a command as Ctrl-C does: what it has begun is tidied up.

    Training has handlers of its own, between these and its last update.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals do not come here
        return

    def interrupt(number, frame):
        # Whoever asks may ask twice, and must not break off the tidying up.
        if not isinstance(sys.exception(), KeyboardInterrupt):
            raise KeyboardInterrupt

    before = {
        number: signal.signal(number, interrupt)
        for number in (signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(number) is not signal.SIG_IGN  # as of a job in a script
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _speak_utf_8():
    """Sets the standard streams to UTF-8, whatever the locale says.

    File names that are not UTF-8 come out as they are.
    """
    for stream, errors in (
        (sys.stdout, "surrogateescape"), (sys.stderr, "backslashreplace"),
    ):  # fmt: skip
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors=errors)


class _Finite(click.FloatRange):
    """A number in a range; no "nan", which is in every range, and no "inf"."""

    def convert(self, value, param, ctx):
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


_BEAM = click.IntRange(1, WIDEST_BEAM)

_model_option = click.option(
    "--model",
    metavar="PATH",
    help="A run folder, a SavedModel folder or a .tflite file. "
    "[default: the newest run under runs/]",
)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pocketseq")
def main():
    """Short text to short text on the phone: train, measure, try out, export.

    Results go to standard output, progress and logs to standard error. A mistake of
    yours is one line and exit status 2; exit status 1 is a failed check.
    """
    _start_logging()


@main.command("train")
@click.argument("recipe", default="pronunciation")
@click.option(
    "--train",
    "train_file",
    metavar="FILE",
    help="Lines source TAB target; .gz and patterns of many files, too.",
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
@click.option(
    "--run",
    "run_folder",
    metavar="DIR",
    help="Where to keep the run. [default: runs/RECIPE-DATE-TIME]",
)
@click.option(
    "--set",
    "settings",
    metavar="SECTION.KEY=VALUE",
    multiple=True,
    help="Change one value of the recipe; may be repeated.",
)
@click.option(
    "--minutes",
    type=_Finite(min=0, min_open=True),
    help="Stop after this long.",
)
@click.option("--resume", is_flag=True, help="Go on with the run in --run.")
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
    help="Count and skip lines that are no pairs, instead of stopping.",
)
@click.option("--quiet", is_flag=True, help="No progress, only warnings and errors.")
def train_command(
    recipe, train_file, train_target, dev_file, dev_target, run_folder, settings,
    minutes, resume, base_folder, skip_bad_lines, quiet,
):  # fmt: skip
    """Train a model by RECIPE: a name, or a path to a .toml file.

    Without arguments: English pronunciations, from the CMU dictionary. With TF_CONFIG
    set, this process is one of the workers that it names.
    """
    from pocketseq.pipeline.configuration import fine_tuned, override, with_files
    from pocketseq.pipeline.runs import Run, new_run_folder, open_run

    if quiet:
        logging.getLogger("pocketseq").setLevel(logging.WARNING)
    base, config = None, None
    if resume:
        if not run_folder:
            raise UserError("--resume: expected --run DIR, the run to go on with")
        _refuse_changes()
        run = Run(Path(run_folder))
    else:
        base = open_run(base_folder) if base_folder else None
        config = _base_config(recipe, base)
        config = with_files(
            config, train_file, train_target, dev_file, dev_target, skip_bad_lines
        )
        config = override(config, settings)
        if base:
            config = fine_tuned(config, base.config(), base_folder)
        run = Run(Path(run_folder) if run_folder else new_run_folder(config.name))
    _import_tensorflow(for_training=True)
    from pocketseq.pipeline.reports.progress import training_progress
    from pocketseq.pipeline.training.cluster import join_cluster, share
    from pocketseq.pipeline.training.loop import train
    from pocketseq.pipeline.training.preparation import start_run

    cluster = join_cluster()
    if not cluster.is_chief:
        logging.getLogger("pocketseq").setLevel(logging.WARNING)

    def prepare():
        if resume:
            open_run(run_folder)
        else:
            _refuse_overwriting(run)
            start_run(run, config, base, workers=cluster.size)
        return {}

    share(cluster, prepare)
    with training_progress(show=not quiet and cluster.is_chief) as on_progress:
        summary = train(run, minutes=minutes, cluster=cluster, on_progress=on_progress)
    if cluster.is_chief and (not quiet or summary.reason == "interrupted"):
        _print(summary.line(run))
    if summary.reason == "interrupted":
        raise SystemExit(_INTERRUPTED)


def _base_config(recipe, base):
    """Returns the configuration to start from: the recipe's, or that of a run.

    A run to fine-tune brings its own recipe, unless another one is named; of that one,
    what it says of the model does not count.
    """
    from pocketseq.pipeline.configuration import load_recipe, model_of, undecided

    if (
        base
        and click.get_current_context().get_parameter_source("recipe")
        is click.core.ParameterSource.DEFAULT
    ):
        return undecided(base.config())
    config = load_recipe(recipe)
    return model_of(base.config(), config) if base else config


def _refuse_overwriting(run):
    if run.folder.exists() and (not run.folder.is_dir() or any(run.folder.iterdir())):
        raise UserError(
            f"{run.folder}: exists already, expected --resume to go on with it, or "
            f"another --run"
        )


@main.command("evaluate")
@_model_option
@click.argument("file")
@click.option(
    "--target", metavar="FILE", help="The target side of FILE, if in a file of its own."
)
@click.option("--beam", type=_BEAM, metavar="K", help="Search with a beam of K.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--errors",
    "errors_file",
    metavar="FILE",
    help="Write what was wrong: source, output, references.",
)
@click.option(
    "--skip-bad-lines",
    is_flag=True,
    help="Count and skip lines that are no pairs, instead of stopping.",
)
def evaluate_command(model, file, target, beam, as_json, errors_file, skip_bad_lines):
    """Measure a model on FILE, or on cmudict:dev or cmudict:test.

    Several lines with the same source are alternative references.
    """
    from pocketseq.pipeline.data.corpora import Corpus
    from pocketseq.pipeline.evaluation import evaluate, write_errors
    from pocketseq.pipeline.reports.progress import translate_all

    corpus = Corpus(file, target, skip_bad_lines=skip_bad_lines)
    translator = _open_model(model)
    if errors_file:
        _refuse_to_overwrite(errors_file, [*corpus.files(), *_model_files(model)])
    corpus.check()
    references = corpus.references()
    found = translate_all(translator, list(references), beam_size=beam)
    texts = [best.text for best, *_ in found]
    accepted = list(references.values())
    target = {
        "kind": translator.target_kind,
        "normalization": translator.target_normalization,
    }
    result = evaluate(accepted, texts, **target)
    if errors_file:
        write_errors(errors_file, list(references), accepted, texts, **target)
    if as_json:
        _print(json.dumps(result))
    else:
        for name, value in result.items():
            _print(
                f"{name:9} {value:.2f}"
                if isinstance(value, float)
                else f"{name:9} {value}"
            )


def _model_files(path):
    """Returns the files of the model that a path names, as far as it names one."""
    from pocketseq.pipeline.runs import Run, newest_run

    if path is None:
        return newest_run().files()
    path = Path(path)
    if (path / "saved_model.pb").is_file():
        return [file for file in path.rglob("*") if file.is_file()]
    return Run(path).files() if path.is_dir() else [path]


def _refuse_to_overwrite(output, inputs):
    """Finds an input under whatever name it is to be written to."""
    for path in inputs:
        if Path(output).exists() and Path(path).samefile(output):
            raise UserError(
                f"--errors {output}: would overwrite {path}, expected another file"
            )


@main.command("translate")
@_model_option
@click.option("--beam", type=_BEAM, metavar="K", help="Search with a beam of K.")
@click.option(
    "--n-best",
    type=_BEAM,
    default=1,
    metavar="N",
    show_default=True,
    help="Print the N best of each.",
)
@click.option("--scores", is_flag=True, help="Print score TAB text.")
@click.option(
    "--alignment", is_flag=True, help="Print JSON objects with the alignment."
)
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
def translate_command(model, beam, n_best, scores, alignment, texts):
    """Translate each TEXT, or each line of standard input."""
    if beam is not None and n_best > beam:
        raise UserError(f"--n-best {n_best}: expected at most the beam, {beam}")
    translator = _open_model(model)
    if alignment and not translator.gives_alignment:
        raise UserError(
            "--alignment: a SavedModel has none, expected a run folder or a "
            ".tflite file"
        )
    for block in [texts] if texts else _input_blocks():
        found = translator.translate(block, beam_size=beam, n_best=n_best)
        for best in found:
            for translation in best:
                _print(_shown(translation, scores, alignment))
            # Lines are counted by who reads them: of an empty text there is one only.
            for _ in range(0 if alignment else n_best - len(best)):
                _print("-inf\t" if scores else "")


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
    help="How many code points a text may have; the first is the default. "
    "[default: as the recipe says]",
)
@click.option(
    "--compatible", is_flag=True, help="Keep to what runtimes back to 2.14 compute."
)
@click.option(
    "--max-loss",
    type=_Finite(min=0),
    default=0.5,
    metavar="X",
    show_default=True,
    help="Points of the main metric that quantization may cost.",
)
@click.option(
    "--output",
    metavar="DIR",
    help="Where to write. [default: export in the run folder]",
)
@click.option("--force", is_flag=True, help="Replace an existing folder.")
def export_command(
    model, saved_model, tflite, quantize, beam, length, compatible, max_loss, output,
    force,
):  # fmt: skip
    """Write the files an app ships, and check them against Keras."""
    from pocketseq.pipeline.runs import newest_run, open_run

    both = saved_model == tflite
    if quantize and not (tflite or both):
        raise UserError("--quantize: expected --tflite with it")
    lengths = _lengths(length)
    run = open_run(model) if model else newest_run()
    _import_tensorflow()
    from pocketseq.export.bundle import Options, export_bundle
    from pocketseq.export.table import report_table

    options = Options(
        recipes=(quantize or (DEFAULT,)) if tflite or both else (),
        saved_model=saved_model or both,
        beam_size=beam,
        lengths=lengths,
        compatible=compatible,
        max_loss=max_loss,
    )
    report = export_bundle(run, options, output=output, force=force)
    _print(report_table(report))
    if not report.passed:
        raise SystemExit(1)


@main.command("benchmark")
@click.option(
    "--model",
    metavar="PATH",
    help="A .tflite file, or a run folder with an export in it. "
    "[default: the newest run under runs/]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a file.")
def benchmark_command(model, as_json):
    """Measure exported files: load time, time a text, memory. One thread."""
    from pocketseq.export.checks.benchmark import benchmark_texts, measure

    for path in _exported_files(model):
        texts = benchmark_texts(path)
        with _native_messages_hidden():
            result = measure(path, texts)
        if as_json:
            _print(json.dumps(result))
            continue
        for name, value in result.items():
            _print(f"{name:23} {value:,}" if name == "bytes" else f"{name:23} {value}")


def _exported_files(path):
    """Returns the .tflite files that a path names."""
    from pocketseq.pipeline.runs import newest_run

    if path and not Path(path).exists():
        raise UserError(
            f"{path}: no such model, expected a .tflite file or a run folder"
        )
    if path and Path(path).is_file():
        return [Path(path)]
    folder = Path(path) if path else newest_run().folder
    files = sorted([*folder.glob("*.tflite"), *folder.glob("export/*.tflite")])
    if not files:
        raise UserError(
            f"{folder}: no .tflite file in it or its export folder, expected an "
            f"export (export --model {folder} --tflite)"
        )
    return files


def _lengths(text):
    """Reads ``64,256``: different numbers, at least 1."""
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


def _open_model(path):
    """Returns a translator for a run folder, a SavedModel or a .tflite file."""
    from pocketseq.pipeline.runs import newest_run, open_run

    if path and not Path(path).exists():
        raise UserError(
            f"{path}: no such model, expected a run folder, a SavedModel folder or a "
            f".tflite file"
        )
    if path and Path(path).is_file():
        from pocketseq.export.runtime import Translator

        with _native_messages_hidden():
            return Translator(path)
    if path and (Path(path) / "saved_model.pb").is_file():
        _import_tensorflow()
        from pocketseq.export.saved_model import SavedModelTranslator

        return SavedModelTranslator(Path(path))
    run = open_run(path) if path else newest_run()
    _import_tensorflow()
    return run.load()


# What may be said of a run that goes on.
_OF_RESUMING = ("run_folder", "minutes", "resume", "quiet")


def _refuse_changes():
    """A resumed run keeps its configuration; silence would suggest otherwise."""
    context = click.get_current_context()
    given = {
        name
        for name in context.params
        if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT
    }
    if given - set(_OF_RESUMING):
        raise UserError(
            "--resume: the run keeps its own recipe and data, expected no RECIPE, "
            "--train, --dev, --set, --from or --skip-bad-lines"
        )


def _input_blocks():
    """Yields lists of lines of standard input; one line at a time for a person."""
    from itertools import islice

    if sys.stdin is None:
        raise UserError("standard input: closed, expected TEXT or lines of text")
    size = 1 if sys.stdin.isatty() else 1024
    lines = _utf_8_lines(sys.stdin.buffer)
    while block := list(islice(lines, size)):
        yield block


def _utf_8_lines(stream):
    """Yields the lines of a binary stream, without a byte order mark at its start."""
    for number, line in enumerate(stream, start=1):
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        try:
            yield line.removesuffix(b"\n").removesuffix(b"\r").decode()
        except UnicodeDecodeError as error:
            raise UserError(
                f"standard input, line {number}: expected UTF-8: {error}"
            ) from error


def _shown(translation, scores, alignment):
    if alignment:
        return json.dumps(
            {
                "text": translation.source,
                "translation": translation.text,
                "score": round(translation.score, 6),
                "alignment": [
                    [round(float(weight), 5) for weight in row]
                    for row in translation.alignment
                ],
            },
            ensure_ascii=False,
        )
    if scores:
        return f"{translation.score:.4f}\t{translation.text}"
    return translation.text


def _start_logging():
    """Logs of ours to standard error, as plain lines."""
    logger = logging.getLogger("pocketseq")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def _import_tensorflow(*, for_training=False):
    """Imports TensorFlow with its own messages turned down."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_HOME"] = os.devnull  # so that no keras.json has a say
    from pocketseq.pipeline.machine import keep_freed_memory, prepare_for_training

    keep_freed_memory()
    with _native_messages_hidden():
        import tensorflow as tf

        if for_training:
            prepare_for_training()
        if not os.environ.get("TF_CONFIG"):  # a cluster must be joined before that
            tf.config.list_logical_devices()
    tf.get_logger().setLevel("ERROR")


@contextlib.contextmanager
def _native_messages_hidden():
    """Hides what C++ code writes to standard error about the processor it found.

    No setting of TensorFlow's or LiteRT's reaches these lines. Errors are exceptions
    and come through.
    """
    sys.stderr.flush()
    handlers = [
        handler
        for handler in logging.getLogger("pocketseq").handlers
        if isinstance(handler, logging.StreamHandler)
        and handler.stream is sys.__stderr__
    ]
    with os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8") as visible:
        for handler in handlers:  # what we say ourselves is to be seen
            handler.setStream(visible)
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(visible.fileno(), 2)
            for handler in handlers:
                handler.setStream(sys.__stderr__)


if __name__ == "__main__":
    main()
