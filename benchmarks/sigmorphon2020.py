"""Trains every language of SIGMORPHON 2020's task 1 by one recipe, and measures it.

The folder holds LANGUAGE_train.tsv, _dev.tsv and _test.tsv, lines of word TAB phones.
Trainings are kept, so that the command can be stopped and goes on. Prints one JSON
object:

    python benchmarks/sigmorphon2020.py --data DIR

With ``--together``, one model learns all languages: each word begins with the tag of
its language, such as ``<fre> ``. With ``--teachers N``, N models of as many seeds are
trained for each language, and the one that counts learns from them.

References: Gorman et al. 2020, "The SIGMORPHON 2020 shared task on multilingual
grapheme-to-phoneme conversion".
"""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from common import print_report, say
from trials import RECIPES, Plan, Trial, macro_average, plan_options

SETS = ("train", "dev", "test")


@click.command()
@click.option(
    "--data",
    required=True,
    type=click.Path(exists=True, path_type=Path, file_okay=False),
)
@click.option("--together", is_flag=True, help="One model for all languages.")
@click.option(
    "--teachers", default=0, show_default=True, help="How many models teach one."
)
@plan_options("runs/sigmorphon2020", "pronunciation-small")
def main(plan: Plan, data: Path, together: bool, teachers: int) -> None:
    """Train and measure every language in a folder."""
    languages = sorted(
        path.name.removesuffix("_train.tsv") for path in data.glob("*_train.tsv")
    )
    if not languages:
        raise click.ClickException(f"{data}: no LANGUAGE_train.tsv in it")
    if together:
        data = tagged(data, languages, plan.runs / "tagged")
        files = (data / f"all_{part}.tsv" for part in SETS[:2])
        one = trial_of(plan, teachers, "together", *files)
    reports = {}
    for language in languages:
        train, dev, test = (data / f"{language}_{part}.tsv" for part in SETS)
        parts = plan.parts(dev, test=test)
        trial = one if together else trial_of(plan, teachers, language, train, dev)
        reports[language] = trial.report(parts)
        say(f"{language}: {summary(reports[language], parts)}")
    print_report(
        {
            **plan.described(),
            "together": together,
            "teachers": teachers,
            "languages": reports,
            "macro": macro(list(reports.values()), parts),
        }
    )


def trial_of(plan: Plan, teachers: int, name: str, train: Path, dev: Path) -> Trial:
    """Returns the trial that counts, of the plan's recipe, and its teachers' in it.

    Args:
        plan: The first teacher has its seed, the others have the next ones.
        teachers: How many there are; 0: the trial learns from pairs alone.
        name: Of the trial; what it learns from has similar names.
        train, dev: The pairs.
    """
    if not teachers:
        return plan.trial(name, train, dev)
    seeds = range(plan.seed, plan.seed + teachers)
    others = [
        replace(plan, seed=seed).trial(f"{name}-seed{seed}", train, dev)
        for seed in seeds
    ]
    return plan.student(f"{name}-of-{teachers}", others)


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


def macro(reports: list[dict[str, Any]], parts: Collection[str]) -> dict[str, Any]:
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


def summary(report: dict[str, Any], parts: Collection[str]) -> str:
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
