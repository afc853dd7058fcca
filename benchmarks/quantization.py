"""Exports trained runs by every quantization recipe, and compares size, quality, speed.

Prints one JSON object:

    python benchmarks/quantization.py RUN...
"""

import json
from pathlib import Path
from typing import Any

import click

from common import print_report, say
from pocketseq.export.contract import MANIFEST
from trials import export_every_recipe

# In a run folder; an export that is there is not made again.
_FOLDER = "quantization"


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--compatible", is_flag=True, help="As `export --compatible`.")
def main(runs: tuple[Path, ...], compatible: bool) -> None:
    """Compare the files of RUNS, stored in every way there is."""
    reports = {}
    for run in runs:
        folder = run / (_FOLDER + "-compatible" * compatible)
        if not (folder / MANIFEST).is_file():
            export_every_recipe(run, folder, *["--compatible"] * compatible)
        reports[str(run)] = compared(json.loads((folder / MANIFEST).read_text()))
        say(f"{run}: {reports[str(run)]}")
    print_report({"compatible": compatible, "runs": reports})


def compared(manifest: dict[str, Any]) -> dict[str, Any]:
    """Returns size, quality and speed of each file, and what part of float32's it is.

    Args:
        manifest: Of an export; its qualities are those of the dev set.
    """
    models = manifest["models"]
    whole = models["float32"]
    return {
        name: {
            "bytes": model["bytes"],
            "share_of_float32": model["bytes"] / whole["bytes"],
            "quality": model["quality"],
            "loss": model["loss"],
            "milliseconds": model["milliseconds"],
            "time_of_float32": model["milliseconds"] / whole["milliseconds"],
        }
        for name, model in models.items()
    }


if __name__ == "__main__":
    main()
