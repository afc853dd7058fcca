"""Makes the models in the box: trains, exports, measures, and writes their cards.

``models/box.toml`` lists them. Runs and exports are kept, so that the command can be
stopped and goes on; what was made by other commands than the table gives is not used.
Prints one JSON object:

    python benchmarks/make_models.py [NAME]... [--data DIR]
"""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

import pocketseq
from box.card import Measured, model_card
from box.entries import Entry, read_entries
from common import print_report, say
from pocketseq.export.contract import MANIFEST, MODEL_CARD, Manifest, tflite_name
from pocketseq.export.folders import put, workplace
from pocketseq.export.recipes import DEFAULT
from pocketseq.pipeline.analysis.analysis import Analysis, analyse
from pocketseq.pipeline.analysis.answers import Answers
from pocketseq.pipeline.data.corpora import Corpus
from pocketseq.pipeline.evaluation import METRICS
from pocketseq.pipeline.runs import Run
from trials import CLI, Trial

ROOT = Path(__file__).parents[1]

#: A folder of the box has fewer bytes, all its files together.
MOST_BYTES = 2_500_000


@click.command()
@click.argument("names", nargs=-1)
@click.option(
    "--data", metavar="DIR",
    type=click.Path(exists=True, path_type=Path, file_okay=False),
    help="Where the files are that are not part of the project.",
)  # fmt: skip
@click.option(
    "--runs", default=ROOT / "runs/models", show_default="runs/models",
    type=click.Path(path_type=Path), help="Where the trainings are kept.",
)  # fmt: skip
@click.option(
    "--table", default=ROOT / "models/box.toml", show_default="models/box.toml",
    type=click.Path(exists=True, path_type=Path, dir_okay=False),
    help="What to make.",
)  # fmt: skip
@click.option(
    "--output", default=ROOT / "models", show_default="models",
    type=click.Path(path_type=Path), help="The box.",
)  # fmt: skip
def main(
    names: tuple[str, ...], data: Path | None, runs: Path, table: Path, output: Path
) -> None:
    """Make the models NAMES, or all."""
    reports = {}
    for entry in chosen(read_entries(table), names, data):
        reports[entry.name] = make(entry, data, runs / entry.name, output)
        say(f"{entry.name}: {reports[entry.name]}")
    print_report({"models": reports})


def chosen(
    entries: Sequence[Entry], names: Sequence[str], data: Path | None
) -> list[Entry]:
    """Returns the entries to make; without names all, but for those without data.

    Raises:
        ClickException: A name is not in the table, or its data are not there.
    """
    known = {entry.name: entry for entry in entries}
    if unknown := [name for name in names if name not in known]:
        raise click.ClickException(
            f"{unknown[0]}: not in the table, expected one of {', '.join(known)}"
        )
    found = []
    for entry in [known[name] for name in names] or entries:
        missing = [
            file for file in entry.files if not data or not (data / file).is_file()
        ]
        if not missing:
            found.append(entry)
            continue
        problem = (
            f"{entry.name}: its data are not part of the project, expected --data DIR "
            f"with {', '.join(missing)}"
        )
        if names:
            raise click.ClickException(problem)
        say(f"{problem}; left out")
    return found


def make(entry: Entry, data: Path | None, run: Path, output: Path) -> dict[str, Any]:
    """Trains a model, exports and measures it, and puts it into the box.

    Returns:
        ``bytes`` of the folder and, for each part, the metrics that ``evaluate`` prints
        of the int8 file, without its dictionary and with it.

    Raises:
        ClickException: A command has failed, the run is another one, or the bundle is
            too large.
    """
    trained = Run(run)
    if trained.config_path.is_file():
        entry.check_run(trained, data)
    Trial(entry.name, run, entry.training_command(data)).train()
    plain = exported(run, "plain", entry.export_command(plain=True))
    bundle = exported(run, "bundle", entry.export_command())
    manifest = Manifest.from_json((bundle / MANIFEST).read_text(encoding="utf-8"))
    measured = measure(entry, trained, plain, bundle, entry.corpora(data))
    commands = entry.training_command(None), entry.export_command()
    card = model_card(entry, manifest, measured, commands)
    shown = {"examples", *METRICS}
    return {
        "bytes": into_box(entry.name, bundle, card, output),
        "without_dictionary": {
            part: analysis.models[0].result for part, analysis in measured.plain.items()
        },
        "with_dictionary": {
            part: {key: value for key, value in result.items() if key in shown}
            for part, result in measured.shipped.items()
        },
    }


def exported(run: Path, name: str, command: Sequence[str]) -> Path:
    """Exports a run, unless the same command has done so since its last training.

    Args:
        run: The folder of the run.
        name: Of the folder in it.
        command: The words of the command, without folders.

    Returns:
        The folder of the export.

    Raises:
        ClickException: The command has failed.
    """
    folder, stamp = run / name, run / f"{name}.command"
    line = shlex.join(command)
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == line:
        if stamp.stat().st_mtime > Run(run).best_path.stat().st_mtime:
            return folder
    verb, *options = command
    # The wrappers for apps are beside the box already.
    places = ["--model", str(run), "--output", str(folder), "--force", "--apps", "none"]
    words = [verb, *places, *options]
    say(f"{run.name}: {line}")
    if subprocess.run([sys.executable, str(CLI), *words], stdout=sys.stderr).returncode:
        raise click.ClickException(f"{run.name}: {verb} has failed")
    stamp.write_text(line, encoding="utf-8")
    return folder


def measure(
    entry: Entry, run: Run, plain: Path, bundle: Path, corpora: Mapping[str, str]
) -> Measured:
    """Measures the files of two exports of a run.

    Args:
        entry: The model.
        run: Its run.
        plain: The export without exceptions.
        bundle: The export to ship.
        corpora: ``{"train": corpus, "dev": corpus, "test": corpus}``.
    """
    without, model = (folder / tflite_name(DEFAULT) for folder in (plain, bundle))
    parts = {part: corpora[part] for part in ("dev", "test")}
    texts = {part: len(Corpus(file).references()) for part, file in corpora.items()}
    return Measured(
        texts=texts,
        plain={part: analysis_of(without, file) for part, file in parts.items()},
        shipped={part: pocketseq.evaluate(model, file) for part, file in parts.items()},
        examples=[best for (best,) in pocketseq.load(model).translate(entry.examples)],
        weights=sum(array.size for array in run.load_weights().values()),
    )


def analysis_of(model: Path, file: str) -> Analysis:
    """Returns what a model gets wrong in a file, and where."""
    references = Corpus(file).references()
    translator = pocketseq.load(model)
    found = translator.translate(list(references), beam_size=1)
    answers = Answers(
        str(model),
        translator.knowledge,
        list(references),
        list(references.values()),
        [best for (best,) in found],
    )
    return analyse(file, [answers])


def into_box(name: str, bundle: Path, card: str, output: Path) -> int:
    """Puts a bundle with its card into the box, in the place of what was there.

    Args:
        name: Of the model.
        bundle: The export.
        card: The text of the card.
        output: The box.

    Returns:
        How many bytes its files have.

    Raises:
        ClickException: They have too many; the box is as it was.
    """
    folder = output.resolve() / name
    with workplace(folder) as temporary:
        made = shutil.copytree(bundle, temporary / name)
        (made / MODEL_CARD).write_text(card, encoding="utf-8")
        files = (path for path in made.rglob("*") if path.is_file())
        size = sum(path.stat().st_size for path in files)
        if size >= MOST_BYTES:
            raise click.ClickException(
                f"{name}: {size:,} bytes, expected fewer than {MOST_BYTES:,}"
            )
        put(made, folder, temporary)
    return size


if __name__ == "__main__":
    main()
