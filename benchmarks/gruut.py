"""Trains the lexicons of gruut that are installed, each by the recipe that fits it.

``pocketseq.check`` chooses: ``pronunciation`` for many words, ``pronunciation-small``
for few. Training runs are kept, so that the command can be stopped and goes on, and
another language can be added later. Prints one JSON object, and a table to standard
error:

    python benchmarks/gruut.py
    python benchmarks/gruut.py --minutes 10 de sw

A lexicon of which almost no unseen word is wrong was made by rules, at least in part:
what is measured there is that a model can learn those rules, not that they are right.
The column "rules?" says so below an error rate of 1 %.
"""

from collections.abc import Mapping
from typing import Any

import click

import pocketseq
from common import print_report, say
from pocketseq.pipeline.data.installed import GRUUT_LANGUAGES, installed
from pocketseq.pipeline.errors import UserError
from trials import Plan, plan_options

#: Word error rate in percent, below which a lexicon looks as if rules had made it.
RULE_MADE = 1.0

PARTS = ("train", "dev", "test")


@click.command()
@click.argument("languages", nargs=-1, type=click.Choice(GRUUT_LANGUAGES))
@click.option("--stress", is_flag=True, help="Keep the marks of stress.")
@plan_options("runs/gruut", "")
def main(plan: Plan, languages: tuple[str, ...], stress: bool) -> None:
    """Train and measure LANGUAGES, by default all that are installed."""
    chosen = languages or [one for one in GRUUT_LANGUAGES if is_there(one)]
    if not chosen:
        raise click.ClickException(
            "no lexicon is installed, expected packages such as gruut-lang-sw "
            "(pip install gruut-lang-sw)"
        )
    reports = {}
    for language in chosen:
        reports[language] = language_report(plan, language, stress)
        say(f"{language}: {row(language, reports[language])}")
    say(table(reports))
    print_report({**plan.described(), "stress": stress, "languages": reports})


def is_there(language: str) -> bool:
    """Returns whether the package of a language is installed."""
    corpus = installed(f"gruut:{language}")
    try:
        return corpus is not None and corpus.path().is_file()
    except UserError:
        return False


def language_report(plan: Plan, language: str, stress: bool) -> dict[str, Any]:
    """Returns words, recipe, size and quality of a language, trained if it is not.

    Raises:
        ClickException: A command has failed.
        UserError: The package is not installed.
    """
    lexicon = f"gruut-stress:{language}" if stress else f"gruut:{language}"
    train, dev, test = (f"{lexicon}:{part}" for part in PARTS)
    recipe, settings = plan.recipe, []
    if not recipe:
        fitting = pocketseq.check(train, dev=dev)
        recipe, settings = fitting["recipe"], fitting["settings"]
    trial = plan.trial(
        lexicon.replace(":", "-"), train, dev, recipe=recipe, settings=settings
    )
    report = trial.report(plan.parts(dev, test=test))
    measured = report["int8"]["dev" if plan.dev_only else "test"]
    return {
        "words": {part: words_of(f"{lexicon}:{part}") for part in PARTS},
        "recipe": recipe,
        "settings": settings,
        **report,
        "looks_rule_made": measured["wer"] < RULE_MADE,
    }


def words_of(name: str) -> int:
    """Returns how many different words a part of a lexicon has."""
    corpus = installed(name)
    return len({word for word, _ in corpus.pairs()}) if corpus else 0


_COLUMNS = (
    "language", "words", "dev", "test", "recipe", "WER", "PER", "int8 WER", "int8 PER",
    "int8 kB", "minutes", "rules?",
)  # fmt: skip


def table(reports: Mapping[str, dict[str, Any]]) -> str:
    """Returns the reports of some languages as a table in Markdown."""
    lines = [_COLUMNS, ["---"] * len(_COLUMNS)]
    lines += [row(language, report) for language, report in reports.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def row(language: str, report: Mapping[str, Any]) -> list[str]:
    """Returns the row of a language: the test, or dev where the test was left alone."""
    part = "test" if "test" in report["int8"] else "dev"
    return [
        language,
        *(f"{report['words'][name]:,}" for name in PARTS),
        report["recipe"],
        *(
            f"{report[recipe][part][metric]:.2f}"
            for recipe in ("float32", "int8")
            for metric in ("wer", "per")
        ),
        f"{report['int8']['bytes'] / 1000:.0f}",
        f"{report['minutes']:.1f}",
        "yes" if report["looks_rule_made"] else "",
    ]


if __name__ == "__main__":
    main()
