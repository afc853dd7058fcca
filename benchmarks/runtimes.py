"""Runs one model on every runtime within reach, and compares what comes out.

A run is exported by every quantization recipe, with a beam, and once more with
``--compatible``. Each runtime then answers the golden lines of its export: how many
answers are equal, how far scores are off, how long it takes from the bytes of a file to
the answer to a first text, and by how much the peak of memory rises. Prints one JSON
object, and a table to standard error:

    python benchmarks/runtimes.py [RUN] [--only WORD]...

Needs Debian on x86-64 with what ``make test-apps`` installs. Older runtimes of Python
get environments of their own. Of an emulated processor there are no times or sizes.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from answering.c import c_runtimes
from answering.golden import Runtime, compared, read_golden
from answering.python import python_runtimes
from answering.web import web_runtimes
from common import print_report, say
from pocketseq.export.contract import MANIFEST, tflite_name
from pocketseq.export.recipes import RECIPES
from pocketseq.pipeline.runs import find_run
from trials import export_every_recipe

ROOT = Path(__file__).parents[1]

BEAM = 4


@click.command()
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option(
    "--only", "words", multiple=True, metavar="WORD",
    help="Only runtimes whose name has WORD in it; may be repeated.",
)  # fmt: skip
@click.option(
    "--work", default=ROOT / "runs/runtimes", show_default="runs/runtimes",
    type=click.Path(path_type=Path), help="Where exports and environments are kept.",
)  # fmt: skip
def main(run: Path | None, words: tuple[str, ...], work: Path) -> None:
    """Compare the runtimes on RUN, by default the newest under runs/."""
    found = find_run(run).folder
    work = work.resolve()
    bundles = {
        is_old: exported(found, work / found.name, is_old) for is_old in (False, True)
    }
    runtimes = [*python_runtimes(work), *c_runtimes(work), *web_runtimes(work)]
    chosen = [
        one for one in runtimes if not words or any(word in one.name for word in words)
    ]
    reports = {}
    for runtime in chosen:
        reports[runtime.name] = report_of(runtime, bundles[runtime.is_old])
        say(f"{runtime.name}: {reports[runtime.name]}")
    say(table(reports))
    print_report({"run": found.name, "beam": BEAM, "runtimes": reports})


def exported(run: Path, folder: Path, is_old: bool) -> Path:
    """Returns a bundle of the run with all quantization recipes, made where needed."""
    bundle = folder / ("compatible" if is_old else "newest")
    best = run / "best.npz"
    manifest = bundle / MANIFEST
    if manifest.is_file() and manifest.stat().st_mtime > best.stat().st_mtime:
        return bundle
    shutil.rmtree(bundle, ignore_errors=True)
    say(f"exporting {bundle.name}")
    options = [f"--beam={BEAM}", "--apps=none", *["--compatible"] * is_old]
    export_every_recipe(run, bundle, *options)
    return bundle


def report_of(runtime: Runtime, bundle: Path) -> dict[str, Any]:
    """Returns what came of each file of a bundle on a runtime."""
    golden = read_golden(bundle)
    report: dict[str, Any] = {}
    for recipe in RECIPES:
        try:
            found = runtime.answer(bundle, tflite_name(recipe))
        except click.ClickException as error:
            report[recipe] = {"error": error.format_message()}
            continue
        report[recipe] = {
            **compared(golden, found.answers),
            "load_milliseconds": found.load_milliseconds,
            "megabytes": found.megabytes,
        }
    return report


def table(reports: dict[str, Any]) -> str:
    """Returns the reports as a table in Markdown, a line per runtime."""
    lines = [
        f"| runtime | {' | '.join(RECIPES)} | first answer, ms | memory, MB |",
        "|---|" + "---|" * (len(RECIPES) + 2),
    ]
    for name, report in reports.items():
        measured = [
            spread([one.get(key) for one in report.values()])
            for key in ("load_milliseconds", "megabytes")
        ]
        lines.append(
            f"| {name} | {' | '.join(cell(one) for one in report.values())} | "
            f"{' | '.join(measured)} |"
        )
    return "\n".join(lines)


def cell(one: dict[str, Any]) -> str:
    """Returns what came of one file: the equal lines, and how far scores are off."""
    if "error" in one:
        return "fails"
    share = (
        "all" if one["equal"] == one["lines"] else f"{one['equal']} of {one['lines']}"
    )
    return f"{share}, ±{one['score_difference']:.1g}"


def spread(numbers: Sequence[float | None]) -> str:
    """Returns the smallest and the largest of some numbers."""
    there = [number for number in numbers if number is not None]
    return f"{min(there):.0f} to {max(there):.0f}" if there else "–"


if __name__ == "__main__":
    main()
