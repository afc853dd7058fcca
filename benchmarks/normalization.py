"""Trains written numbers to spoken ones, and measures how many unseen ones are exact.

Cardinal and ordinal numbers, years, decimals, dates, times, amounts of money, measures
and telephone numbers, generated with num2words and babel; see ``written_numbers.py``.
No number of the test is in training; ``longer`` has more digits than all but 3 % of the
numbers there. The training run is kept, so that the command can be stopped and goes on.
Prints one JSON object:

    python benchmarks/normalization.py --language en
"""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from common import print_report, say
from trials import RECIPES, File, Plan, plan_options, write_pairs

LICENSE = "generated with num2words (LGPL 2.1) and babel (BSD 3-Clause, Unicode CLDR)"


@click.command()
@click.option("--language", type=click.Choice(["en", "de"]), default="en")
@click.option(
    "--per-kind", default=12_000, show_default=True,
    help="How many examples to generate of each kind of number.",
)  # fmt: skip
@plan_options("runs/normalization", "normalization")
def main(plan: Plan, language: str, per_kind: int) -> None:
    """Train and measure on generated sentences."""
    # Here, because babel and num2words are optional.
    from written_numbers import LANGUAGES, examples

    parts = examples(LANGUAGES[language], plan.seed, per_kind)
    folder = plan.runs / f"{language}-data"
    files = {
        name: write_pairs(folder / f"{name}.tsv", [one[1:] for one in part])
        for name, part in {**parts, **by_kind(parts["test"])}.items()
    }
    train, dev = files.pop("train"), files.pop("dev")
    trial = plan.trial(language, train, dev, settings=[f"data.license={LICENSE}"])
    tests: dict[str, File] = dict(files)
    report = trial.report(plan.parts(dev, **tests))
    say(f"{language}: {exact(report)}")
    print_report(
        {
            **plan.described(),
            "language": language,
            "examples": {name: len(part) for name, part in parts.items()},
            "license": LICENSE,
            "exact": exact(report),
            "report": report,
        }
    )


def by_kind(part: Sequence[Any]) -> dict[str, list[Any]]:
    """Returns examples by the kind of their number."""
    found: dict[str, list[Any]] = {}
    for one in part:
        found.setdefault(one.kind, []).append(one)
    return found


def exact(report: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Returns ``{quantization recipe: {part: percent of exact answers}}``."""
    return {
        recipe: {
            part: measured["exact"]
            for part, measured in report[recipe].items()
            if part != "bytes"
        }
        for recipe in RECIPES
    }


if __name__ == "__main__":
    main()
