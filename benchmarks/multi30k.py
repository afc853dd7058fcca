"""Trains Multi30k's captions one way by one recipe, and measures BLEU in two forms.

The folder holds train, val and test_2016_flickr, each as NAME.en.gz and NAME.de.gz.
The training run is kept, so that the command can be stopped and goes on. Prints one
JSON object:

    python benchmarks/multi30k.py --data DIR --direction en-de

``bleu``: sacreBLEU with its own tokenizer, 13a, case-insensitive. ``tokenized``: as the
literature on this set reports it, on lower-cased text in the tokens of the Moses
tokenizer. Both by a beam of 4.

References: Elliott et al. 2016, "Multi30K: multilingual English-German image
descriptions"; Caglayan et al. 2017, "LIUM-CVC submissions for WMT17 multimodal
translation task".
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

import pocketseq
from common import print_report, say
from trials import RECIPES, File, Plan, data_option, plan_options, write_pairs

SETS = ("train", "val", "test_2016_flickr")
BEAM = 4


@click.command()
@data_option
@click.option(
    "--direction", default="en-de", show_default=True,
    type=click.Choice(["en-de", "de-en"]),
)  # fmt: skip
@click.option(
    "--lower-case", is_flag=True,
    help="Train on lower-cased text, which is all that either form of BLEU sees.",
)  # fmt: skip
@plan_options("runs/multi30k", "translation")
def main(plan: Plan, data: Path, direction: str, lower_case: bool) -> None:
    """Train and measure one direction."""
    source, target = direction.split("-")
    name = direction + "-lower" * lower_case
    train, val, test = (
        write_pairs(
            plan.runs / f"{name}-data" / f"{one}.tsv",
            parallel(data, one, source, target, lower_case),
        )
        for one in SETS
    )
    trial = plan.trial(name, train, val, export=[f"--beam={BEAM}"])
    parts = plan.parts(val, test=test)
    report = trial.report(parts, partial(measure, language=target))
    print_report(
        {
            **plan.described(),
            "direction": direction,
            "lower_case": lower_case,
            "report": report,
            "lost_by_int8": {part: loss(report, part) for part in parts},
        }
    )
    say(f"{name}: {report}")


def parallel(
    data: Path, name: str, source: str, target: str, lower_case: bool
) -> Iterator[tuple[str, str]]:
    """Yields the pairs of NAME.SOURCE.gz and NAME.TARGET.gz.

    Args:
        data: Their folder.
        name: One of :data:`SETS`.
        source, target: ``en`` or ``de``.
        lower_case: Whether to lower-case them: not case folding, which writes "ss" for
            "ß".
    """
    from pocketseq.pipeline.data.corpora import Corpus

    def text_of(line: str) -> str:
        line = " ".join(line.split())
        return line.lower() if lower_case else line

    one, other = (str(data / f"{name}.{side}.gz") for side in (source, target))
    for pair in Corpus(one, other):
        yield text_of(pair.source), text_of(pair.target)


def measure(model: Path, file: File, *, language: str) -> dict[str, Any]:
    """Returns BLEU of a model's translations in both forms, and its signatures."""
    from pocketseq.pipeline.data.corpora import Corpus

    sources, references = zip(*Corpus(str(file)), strict=True)
    found = pocketseq.load(model).translate(list(sources), beam_size=BEAM)
    return both_forms([best[0].text for best in found], references, language)


def both_forms(
    outputs: Sequence[str], references: Sequence[str], language: str
) -> dict[str, Any]:
    """Returns BLEU in points: ``bleu`` and ``tokenized``, each with a signature.

    Args:
        outputs: Translations.
        references: The right one of each.
        language: Of both, for the Moses tokenizer.
    """
    from sacrebleu.metrics import BLEU
    from sacremoses import MosesTokenizer

    tokenizer = MosesTokenizer(language)

    def tokens(texts: Sequence[str]) -> list[str]:
        return [
            tokenizer.tokenize(text.lower(), return_str=True, escape=False)
            for text in texts
        ]

    found: dict[str, Any] = {}
    for name, scorer, given, right in (
        ("bleu", BLEU(lowercase=True, tokenize="13a"), outputs, references),
        (
            "tokenized",
            BLEU(tokenize="none", force=True),
            tokens(outputs),
            tokens(references),
        ),
    ):
        found[name] = scorer.corpus_score(given, [right]).score
        found[f"{name}_signature"] = str(scorer.get_signature())
    return found


def loss(report: dict[str, Any], part: str) -> float:
    """Returns how many points of BLEU int8 loses of those of float32."""
    float32, int8 = (report[recipe][part]["bleu"] for recipe in RECIPES)
    return float32 - int8


if __name__ == "__main__":
    main()
