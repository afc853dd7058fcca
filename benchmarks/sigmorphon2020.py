"""Trains every language of SIGMORPHON 2020's task 1 by one recipe, and measures it.

The folder holds LANGUAGE_train.tsv, _dev.tsv and _test.tsv, lines of word TAB phones.
Trainings are kept, so that the command can be stopped and goes on. Prints one JSON
object:

    python benchmarks/sigmorphon2020.py --data DIR

With ``--together``, one model learns all languages: each word begins with the tag of
its language, such as ``<fre> ``.

References: Gorman et al. 2020, "The SIGMORPHON 2020 shared task on multilingual
grapheme-to-phoneme conversion".
"""

from pathlib import Path
from typing import Any

import click

from common import print_report, say
from trials import RECIPES, Trial, macro_average

SETS = ("train", "dev", "test")


@click.command()
@click.option(
    "--data",
    required=True,
    type=click.Path(exists=True, path_type=Path, file_okay=False),
)
@click.option(
    "--runs", default="runs/sigmorphon2020", show_default=True,
    type=click.Path(path_type=Path), help="Where the trainings are kept.",
)  # fmt: skip
@click.option("--recipe", default="pronunciation-small", show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option(
    "--set", "settings", metavar="SECTION.KEY=VALUE", multiple=True,
    help="Change one value of the recipe, for all languages.",
)  # fmt: skip
@click.option(
    "--dev-only",
    is_flag=True,
    help="Leave the test sets alone, while anything changes.",
)
def main(
    data: Path,
    runs: Path,
    recipe: str,
    seed: int,
    settings: tuple[str, ...],
    together: bool,
    dev_only: bool,
) -> None:
    """Train and measure every language in a folder."""
    languages = sorted(
        path.name.removesuffix("_train.tsv") for path in data.glob("*_train.tsv")
    )
    if not languages:
        raise click.ClickException(f"{data}: no LANGUAGE_train.tsv in it")
    parts = ["dev"] if dev_only else ["dev", "test"]
    changes = [f"training.seed={seed}", *settings]

    def trial_of(name: str, train: Path, dev: Path) -> Trial:
        command = ["train", recipe, "--train", str(train), "--dev", str(dev)]
        command += [word for change in changes for word in ("--set", change)]
        return Trial(name, runs / name, command)

    if together:
        data = tagged(data, languages, runs / "tagged")
        one = trial_of("together", *(data / f"all_{part}.tsv" for part in SETS[:2]))
    reports = {}
    for language in languages:
        train, *measured = (data / f"{language}_{part}.tsv" for part in SETS)
        trial = one if together else trial_of(language, train, measured[0])
        reports[language] = trial.report(dict(zip(parts, measured, strict=False)))
        say(f"{language}: {summary(reports[language], parts)}")
    print_report(
        {
            "recipe": recipe,
            "seed": seed,
            "settings": list(settings),
            "together": together,
            "languages": reports,
            "macro": macro(list(reports.values()), parts),
        }
    )


def tagged(data: Path, languages: list[str], folder: Path) -> Path:
    """Writes the files once more, with tags, and those of all languages together.

    Args:
        data: The folder of LANGUAGE_PART.tsv.
        languages: Their names.
        folder: Where to write.

    Returns:
        The folder; ``all_PART.tsv`` holds the lines of all languages.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for part in SETS:
        together = []
        for language in languages:
            name = f"{language}_{part}.tsv"
            lines = (data / name).read_text(encoding="utf-8").splitlines()
            with_tag = [f"<{language}> {line}\n" for line in lines]
            (folder / name).write_text("".join(with_tag), encoding="utf-8")
            together += with_tag
        path = folder / f"all_{part}.tsv"
        path.write_text("".join(together), encoding="utf-8")
    return folder


def macro(reports: list[dict[str, Any]], parts: list[str]) -> dict[str, Any]:
    """Returns the means over languages, and the largest file and longest training."""
    means = {
        recipe: {
            part: {
                name: macro_average(reports, recipe, part, name)
                for name in ("wer", "per")
            }
            for part in parts
        }
        for recipe in RECIPES
    }
    return {
        **means,
        "largest_int8_bytes": max(report["int8"]["bytes"] for report in reports),
        "longest_minutes": max(report["minutes"] for report in reports),
    }


def summary(report: dict[str, Any], parts: list[str]) -> str:
    """Returns one language's figures in a line."""
    qualities = [
        f"{part} WER {report[recipe][part]['wer']:.2f} {recipe}"
        for part in parts
        for recipe in RECIPES
    ]
    kilobytes = report["int8"]["bytes"] / 1000
    minutes = report["minutes"]
    return f"{', '.join(qualities)}, {kilobytes:.0f} kB, {minutes:.1f} minutes"


if __name__ == "__main__":
    main()
