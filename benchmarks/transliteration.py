"""Trains names to Hebrew and Katakana by one recipe, and measures the three best.

The folder holds LANGUAGE_train.tsv.gz, _dev.tsv.gz and _test.tsv.gz, lines of name TAB
name. Trainings are kept, so that the command can be stopped and goes on. Prints one
JSON object:

    python benchmarks/transliteration.py --data DIR

References: Merhav and Ash 2018, "Design challenges in named entity transliteration".
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

import pocketseq
from common import print_report, say
from trials import File, Plan, data_option, plan_options

BEST = 3


@click.command()
@data_option
@plan_options("runs/transliteration", "transliteration")
def main(plan: Plan, data: Path) -> None:
    """Train and measure every language in a folder."""
    paths = sorted(data.glob("*_train.tsv.gz"))
    if not paths:
        raise click.ClickException(f"{data}: no LANGUAGE_train.tsv.gz in it")
    reports: dict[str, Any] = {}
    for path in paths:
        language = path.name.removesuffix("_train.tsv.gz")
        dev, test = (data / f"{language}_{part}.tsv.gz" for part in ("dev", "test"))
        trial = plan.trial(language, path, dev, export=[f"--beam={BEST}"])
        reports[language] = trial.report(plan.parts(dev, test=test), measure)
        say(f"{language}: {reports[language]}")
    print_report({**plan.described(), "languages": reports})


def measure(model: Path, file: File) -> dict[str, Any]:
    """Returns what ``evaluate`` prints, and the accuracy of the best of the beam."""
    return {**pocketseq.evaluate(model, file), **n_best_accuracy(model, file)}


def n_best_accuracy(model: Path, file: File) -> dict[str, float]:
    """Returns in percent how often the right name is among the best of the beam."""
    from pocketseq.pipeline.data.corpora import Corpus

    references = Corpus(str(file)).references()
    translator = pocketseq.load(model)
    found = translator.translate(list(references), beam_size=BEST, n_best=BEST)
    return accuracy_of_best(
        list(references.values()), [[one.text for one in best] for best in found]
    )


def accuracy_of_best(
    references: Sequence[Sequence[str]], best: Sequence[Sequence[str]]
) -> dict[str, float]:
    """Returns ``{"best_1": percent, ...}``.

    Args:
        references: The right answers of each example.
        best: The :data:`BEST` answers given, best first.
    """
    return {
        f"best_{n}": 100
        * sum(
            not set(right).isdisjoint(given[:n])
            for right, given in zip(references, best, strict=True)
        )
        / len(references)
        for n in range(1, BEST + 1)
    }


if __name__ == "__main__":
    main()
