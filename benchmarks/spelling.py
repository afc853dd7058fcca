"""Trains a corrector of single words, and measures misspelled words and right ones.

The misspellings are those of codespell's dictionary, the right words its corrections
and the frequent words of wordfreq. A hash of the right word decides whether a pair is
for training, dev or test, so that what is tested corrects to words that were never
seen. With ``--lexicon``, right words are seen wherever they belong, and only the
misspellings of the test are not: what a corrector with a list of words faces. The
training run is kept, so that the command can be stopped and goes on. Prints one JSON
object:

    python benchmarks/spelling.py

Data: codespell's dictionary, CC BY-SA 3.0 (its code, of which nothing runs here, is
GPL 2); wordfreq's list, CC BY-SA 4.0.
"""

import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any

import click

from common import print_report, say
from pocketseq.pipeline.data.installed import part_of
from trials import Plan, plan_options, write_pairs

LICENSE = (
    "misspellings from codespell's dictionary, CC BY-SA 3.0; words from wordfreq, "
    "CC BY-SA 4.0"
)

# The other dictionaries of the package are about words that are right: rare ones, those
# of other regions, names. A corrector that sees one word at a time must leave them.
_DICTIONARY = "codespell_lib/data/dictionary.txt"

#: Misspelled words with their corrections, the likeliest first.
Corrections = Mapping[str, Sequence[str]]


@click.command()
@click.option(
    "--words", "word_count", default=30_000, show_default=True,
    help="How many frequent words are right ones, besides the corrections.",
)  # fmt: skip
@click.option(
    "--lexicon", is_flag=True,
    help="Let training see the right words of the test, too, which the baseline knows.",
)  # fmt: skip
@plan_options("runs/spelling", "spelling")
def main(plan: Plan, word_count: int, lexicon: bool) -> None:
    """Train and measure on the misspellings that codespell knows."""
    corrections = read_corrections(dictionary().read_text(encoding="utf-8"))
    right = right_words(corrections, frequent_words(word_count))
    train, dev, test = (
        (of_part(corrections, part), [word for word in right if part_of(word) == part])
        for part in ("train", "dev", "test")
    )
    name = "lexicon" if lexicon else "unseen"
    seen = right if lexicon else train[1]
    files = {
        part: write_pairs(plan.runs / f"{name}-data" / f"{part}.tsv", pairs)
        for part, pairs in {
            "train": [*likeliest(train[0]), *unchanged(seen)],
            "dev": [*every(dev[0]), *unchanged(dev[1])],
            "misspelled": every(test[0]),
            "right": unchanged(test[1]),
        }.items()
    }
    trial = plan.trial(
        name, files["train"], files["dev"], settings=[f"data.license={LICENSE}"]
    )
    report = trial.report(
        plan.parts(files["dev"], misspelled=files["misspelled"], right=files["right"])
    )
    say(f"spelling: {report}")
    print_report(
        {
            **plan.described(),
            "license": LICENSE,
            "lexicon": lexicon,
            "misspellings": {"train": len(train[0]), "test": len(test[0])},
            "right_words": {"train": len(seen), "test": len(test[1])},
            "report": report,
            "baselines": {} if plan.dev_only else baselines(test[0], right),
        }
    )


def dictionary() -> Path:
    """Returns codespell's dictionary, in its installed package.

    Raises:
        ClickException: The package is not installed.
    """
    try:
        files = metadata.files("codespell") or []
    except metadata.PackageNotFoundError:
        raise click.ClickException(
            "codespell is not installed, expected the package (pip install codespell)"
        ) from None
    return next(
        Path(str(file.locate())) for file in files if file.as_posix() == _DICTIONARY
    )


def read_corrections(text: str) -> dict[str, list[str]]:
    """Returns the corrections of each misspelled word, in lower case.

    A line is ``misspelling->correction``, or ``misspelling->one, another,`` where there
    are several; what follows the last comma is a reason for not choosing by itself.
    """
    found: dict[str, list[str]] = {}
    for line in text.lower().splitlines():
        wrong, _, rest = unicodedata.normalize("NFC", line).partition("->")
        texts = rest.split(",")[:-1] if "," in rest else [rest]
        known = found.setdefault(wrong.strip(), [])
        known += [one for one in map(str.strip, texts) if one not in known]
    return found


def frequent_words(count: int) -> list[str]:
    """Returns the most frequent English words that consist of letters.

    Raises:
        UserError: The package wordfreq is not installed.
    """
    from pocketseq.pipeline.data.words import read_words

    words = read_words("wordfreq:en")
    return list(islice((word for word in words if is_word(word)), count))


def is_word(text: str) -> bool:
    """Returns whether a text is letters, perhaps with an apostrophe inside."""
    return text.replace("'", "").isalpha() and text.strip("'") == text


def right_words(corrections: Corrections, frequent: Iterable[str]) -> list[str]:
    """Returns the words that a corrector must leave alone, frequent ones first.

    Args:
        corrections: Their words are right; those that are corrected are not, however
            frequent they are.
        frequent: More words.
    """
    corrected = [word for several in corrections.values() for word in several]
    both = dict.fromkeys([*frequent, *corrected])
    return [word for word in both if word not in corrections]


def of_part(corrections: Corrections, part: str) -> dict[str, Sequence[str]]:
    """Returns the misspellings whose corrections all belong to a part.

    Those whose corrections belong to several parts, one in eighty, are in none: else a
    right word of the test would be seen in training.
    """
    return {
        wrong: several
        for wrong, several in corrections.items()
        if {part_of(word) for word in several} == {part}
    }


def likeliest(corrections: Corrections) -> Iterator[tuple[str, str]]:
    """Yields one pair for each misspelling."""
    return ((wrong, several[0]) for wrong, several in corrections.items())


def every(corrections: Corrections) -> Iterator[tuple[str, str]]:
    """Yields a pair for each correction, any of which is right."""
    return ((wrong, word) for wrong, several in corrections.items() for word in several)


def unchanged(words: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yields pairs of a right word and itself."""
    return ((word, word) for word in words)


def baselines(misspelled: Corrections, right: Sequence[str]) -> dict[str, Any]:
    """Returns the quality on misspelled words of two ways that learn nothing.

    ``unchanged``: the word as it is. ``nearest``: see :func:`nearest`; it knows the
    right words of the test, which a model sees with ``--lexicon`` only.

    Args:
        misspelled: Those of the test.
        right: All right words, frequent ones first.
    """
    from pocketseq.pipeline.evaluation import evaluate

    answers = {"unchanged": list(misspelled), "nearest": nearest(misspelled, right)}
    return {
        name: evaluate(list(misspelled.values()), given, kind="character")
        for name, given in answers.items()
    }


def nearest(misspelled: Iterable[str], right: Collection[str]) -> list[str]:
    """Returns for each word the right one that takes the fewest edits.

    Insertions, deletions, substitutions and swaps of neighbours; of several words at
    the same distance, the most frequent one.

    Args:
        misspelled: The words.
        right: To choose from, frequent ones first.
    """
    from rapidfuzz.distance import OSA
    from rapidfuzz.process import extractOne

    choices = list(right)
    found = (extractOne(word, choices, scorer=OSA.distance) for word in misspelled)
    return [one[0] for one in found if one is not None]


if __name__ == "__main__":
    main()
