"""What ``check`` finds in a corpus: its numbers, a recipe that fits, and advice.

The *upper bound* is what contradictory targets leave: the percent of training pairs
that are right when every source gets one answer, the target that it has most often. A
model gives one answer per source, so none gets more pairs right where each is judged by
its own target alone, as in a test file of single lines drawn like these. ``evaluate``
accepts any target that the measured file lists for a source; on a file that lists all
of them, this bound does not hold.

The upper bound *of the dev file* is under the rule of ``evaluate``: a source for which
training has targets, but none of those of the dev file, is answered wrongly by whoever
has learned the training file.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pocketseq.pipeline.data.corpora import Corpus
from pocketseq.pipeline.data.sightings import Overlap, Repeats
from pocketseq.pipeline.data.survey import Survey, Surveys, TextCounts, quantile
from pocketseq.pipeline.fitting import SIDES, Fit, Side, fitting, symbols_of
from pocketseq.pipeline.text.counts import SELDOM, coverage, percent

# Pairs below which there are too few to make a useful model.
_FEW_PAIRS = 1000

# Words that are this short on average, in code points, may be phones.
_LENGTH_OF_A_PHONE = 2.5

# Percent of a dev set's symbols that may be unknown, and the lowest upper bound.
_UNKNOWN_PERCENT = 1.0
_LOWEST_BOUND = 90.0

# Columns are in another order where at least this percent of the characters of a side
# is unknown to that side of training, and at most that percent to the other side.
_STRANGE_PERCENT = 20.0
_FAMILIAR_PERCENT = 5.0

# How many examples a message names, how long one may be, and how many symbols a list
# has.
_EXAMPLES = 3
_LONGEST_EXAMPLE = 100
_LISTED = 20

_FILES = {"train": "training file", "dev": "dev file"}
_EVALUATE_ACCEPTS = "evaluate accepts any target that its file lists for a source"


class Remark(NamedTuple):
    """Something to know about a corpus; ``is_wrong``: it had better be mended."""

    code: str
    message: str
    is_wrong: bool = False


def check(
    train: Sequence[Corpus], dev: Corpus | None = None, test: Corpus | None = None
) -> dict[str, Any]:
    """Surveys corpora, and returns what ``check --json`` prints.

    Args:
        train: The training corpora, taken as one.
        dev: The dev corpus, or None.
        test: The test corpus, or None.

    Raises:
        UserError: A corpus cannot be read, has broken lines, or no pairs.
    """
    surveys = Surveys(
        Survey(train), Survey([dev]) if dev else None, Survey([test]) if test else None
    )
    fit = fitting(surveys)
    repeats = surveys.train.sightings.repeats()
    overlaps = {name: surveys.overlap(name) for name in ("dev", "test")}
    remarks = sorted(_remarks(surveys, fit, repeats), key=lambda r: not r.is_wrong)
    return {
        "pairs": surveys.train.pairs,
        **{f"{name}_pairs": one.pairs for name, one in surveys.others().items()},
        **{side: _side(side, surveys, fit) for side in SIDES},
        "duplicates": repeats.duplicates,
        "overlap": {
            name: None if overlap is None else overlap.pairs
            for name, overlap in overlaps.items()
        },
        "contradictions": repeats.contradictions,
        "upper_bound": round(100 * repeats.answerable, 3),
        **{
            f"upper_bound_{name}": round(_bound(overlap), 3)
            for name, overlap in overlaps.items()
            if overlap is not None
        },
        "metric": fit.metric,
        "recipe": fit.config.name,
        "settings": list(fit.settings),
        "command": fit.command(surveys),
        "estimate": fit.estimate(surveys.train),
        "wrong": sorted({remark.code for remark in remarks if remark.is_wrong}),
        "advice": [{"code": r.code, "message": r.message} for r in remarks],
    }


def _bound(overlap: Overlap) -> float:
    """Returns the upper bound of the accuracy on a dev or test file, in percent."""
    return 100 * (1 - overlap.contradicted / overlap.sources)


def _side(side: Side, surveys: Surveys, fit: Fit) -> dict[str, Any]:
    """Returns the numbers of the source or of the target."""
    kind = getattr(fit.config, side).tokenizer
    found: dict[str, Any] = {
        "symbols": "words" if kind == "word" else "characters",
        **_numbers(side, surveys, fit, decompose=False),
    }
    if surveys.dev:
        found["only_in_dev"] = _only_in_dev(side, surveys.train, surveys.dev, fit)
    texts: TextCounts = getattr(surveys.train, side)
    if kind != "word" and texts.lengths != texts.decomposed_lengths:
        found["decomposed"] = _numbers(side, surveys, fit, decompose=True)
    return found


def _numbers(
    side: Side, surveys: Surveys, fit: Fit, *, decompose: bool
) -> dict[str, Any]:
    """Returns the numbers that depend on whether texts are decomposed."""
    known = symbols_of(fit.config, side, surveys.train, decompose=decompose)
    unknown = None
    if surveys.dev:
        dev = symbols_of(fit.config, side, surveys.dev, decompose=decompose)
        unknown = round(coverage(known, dev).unknown_percent, 3)
    texts: TextCounts = getattr(surveys.train, side)
    lengths = texts.decomposed_lengths if decompose else texts.lengths
    return {
        "alphabet": len(known),
        "seldom": sum(count < SELDOM for count in known.values()),
        "median": quantile(lengths, 0.5),
        "longest": max(lengths),
        "unknown_in_dev": unknown,
    }


def _only_in_dev(side: Side, train: Survey, dev: Survey, fit: Fit) -> list[str]:
    """Returns the symbols that training lacks, the most frequent first."""
    known = fit.symbols(side, train)
    unknown = [
        symbol
        for symbol, _ in fit.symbols(side, dev).most_common()
        if symbol not in known
    ]
    return unknown[:_LISTED]


def _remarks(surveys: Surveys, fit: Fit, repeats: Repeats) -> Iterator[Remark]:
    yield from _overlaps(surveys)
    yield from _contradictions(surveys, fit, repeats)
    yield from _swapped_columns(surveys)
    for side in SIDES:
        yield from _unknown(side, surveys, fit)
        yield from _decomposition(side, surveys, fit)
        yield from _damage(side, surveys, fit)
    yield from _amounts(surveys, repeats)


def _overlaps(surveys: Surveys) -> Iterator[Remark]:
    for name, known in (("dev", "train"), ("test", "train"), ("test", "dev")):
        overlap = surveys.overlap(name, known)
        if overlap is None or not overlap.pairs:
            continue
        one, other = getattr(surveys, name), getattr(surveys, known)
        yield Remark(
            "overlap",
            f"{name} pairs with a source that the {_FILES[known]} has, too: "
            f"{overlap.pairs:,} of {one.pairs:,}, so that what {name} measures is "
            f"partly memory ({_named(one.known_to(other, _EXAMPLES), overlap.pairs)})",
            is_wrong=True,
        )
        if known == "train" and overlap.contradicted:
            yield Remark(
                "disagreement",
                f"{name} sources for which training has other targets only: "
                f"{overlap.contradicted:,} of {overlap.sources:,}, so that at most "
                f"{percent(_bound(overlap))} of {name} can be right",
                is_wrong=True,
            )


def _contradictions(surveys: Surveys, fit: Fit, repeats: Repeats) -> Iterator[Remark]:
    bound = 100 * repeats.answerable
    if repeats.contradictions:
        examples = [
            f"{source} → {' | '.join(targets)}"
            for source, targets in surveys.train.contradictory(_EXAMPLES)
        ]
        yield Remark(
            "contradictions",
            f"sources with several targets: {repeats.contradictions:,}. A model gives "
            f"one of them, so where each line counts by itself at most "
            f"{percent(bound)} can be right; {_EVALUATE_ACCEPTS} "
            f"({_named(examples, repeats.contradictions, '; ')})",
            is_wrong=bound < _LOWEST_BOUND,
        )
    if not fit.config.source.fold_case:
        return
    folded = surveys.train.sightings.repeats(fold_case=True)
    more = folded.contradictions - repeats.contradictions
    if more > 0:
        yield Remark(
            "case",
            f"the recipe folds the case of sources, which gives {more:,} more of them "
            f"several targets (upper bound {percent(100 * folded.answerable)} instead "
            f"of {percent(bound)}); --set source.fold_case=false keeps them apart",
        )


def _swapped_columns(surveys: Surveys) -> Iterator[Remark]:
    source, target = surveys.train.source, surveys.train.target
    if (
        source.are_symbols
        and source.usual_words > 1
        and source.word_length <= _LENGTH_OF_A_PHONE
        and not target.are_symbols
        and target.usual_words == 1
    ):
        yield Remark(
            "swapped",
            "the sources look like phones and the targets like words: expected "
            "source TAB target, the columns may be swapped",
            is_wrong=True,
        )
    for name, survey in surveys.others().items():
        if _is_swapped(surveys.train, survey):
            yield Remark(
                "swapped",
                f"the columns of the {name} file are in another order than those of "
                f"the training file: its sources look like the targets there",
                is_wrong=True,
            )


def _is_swapped(train: Survey, other: Survey) -> bool:
    def strange(texts: TextCounts, known: TextCounts) -> float:
        return coverage(known.characters, texts.characters).unknown_percent

    as_they_are = (
        strange(other.source, train.source), strange(other.target, train.target)
    )  # fmt: skip
    swapped = strange(other.source, train.target), strange(other.target, train.source)
    return max(as_they_are) >= _STRANGE_PERCENT and max(swapped) <= _FAMILIAR_PERCENT


def _unknown(side: Side, surveys: Surveys, fit: Fit) -> Iterator[Remark]:
    if surveys.dev is None:
        return
    found = coverage(fit.symbols(side, surveys.train), fit.symbols(side, surveys.dev))
    if not found.unknown:
        return
    only = _only_in_dev(side, surveys.train, surveys.dev, fit)
    yield Remark(
        "unknown",
        f"{percent(round(found.unknown_percent, 3))} of dev's {side} "
        f"{_side(side, surveys, fit)['symbols']} are not in training: "
        f"{_named(only[: _EXAMPLES * 3], len(only))}",
        is_wrong=found.unknown_percent >= _UNKNOWN_PERCENT,
    )


def _decomposition(side: Side, surveys: Surveys, fit: Fit) -> Iterator[Remark]:
    if not fit.decomposes[side]:
        return
    numbers = _side(side, surveys, fit)
    parts = numbers["decomposed"]
    text = (
        f"{parts['alphabet']:,} different {side} characters instead of "
        f"{numbers['alphabet']:,}, {parts['seldom']:,} instead of "
        f"{numbers['seldom']:,} of them seen fewer than {SELDOM} times"
    )
    if surveys.dev:
        text += (
            f"; decomposing would leave {percent(parts['unknown_in_dev'])} of "
            f"dev's unknown instead of {percent(numbers['unknown_in_dev'])}"
        )
    setting = f"{side}.decompose=true"
    how = f"--set {setting}" if setting in fit.settings else "the recipe does so"
    yield Remark("decompose", f"decompose (NFD) the {side}: {text} ({how})")


def _damage(side: Side, surveys: Surveys, fit: Fit) -> Iterator[Remark]:
    for name, survey in {"training": surveys.train, **surveys.others()}.items():
        texts: TextCounts = getattr(survey, side)
        if texts.damaged:
            yield Remark(
                "damaged",
                f"{side} texts of the {name} file with U+FFFD or control characters, "
                f"as a wrong encoding leaves them: {texts.damaged:,}",
                is_wrong=True,
            )
        if texts.padded and getattr(fit.config, side).tokenizer == "character":
            yield Remark(
                "spaces",
                f"{side} texts of the {name} file that begin or end with white space, "
                f"which is part of the text: {texts.padded:,}",
            )
    too_long = fit.too_long(side, surveys.train)
    limit = getattr(fit.config, side).max_code_points
    if too_long:
        yield Remark(
            "too_long",
            f"{side} texts longer than {limit} code points, which are left out of "
            f"training: {too_long:,} ({side}.max_code_points)",
        )


def _amounts(surveys: Surveys, repeats: Repeats) -> Iterator[Remark]:
    pairs = surveys.train.pairs
    if repeats.duplicates:
        yield Remark(
            "duplicates",
            f"pairs that repeat an earlier one: {repeats.duplicates:,} "
            f"({percent(100 * repeats.duplicates / pairs)}); training counts each",
        )
    if pairs < _FEW_PAIRS:
        yield Remark(
            "few_pairs",
            f"{pairs:,} pairs: a few hundred show whether a task can be learned, a few "
            f"thousand make a useful model",
        )
    if surveys.dev is None:
        yield Remark(
            "no_dev",
            "no dev file: train sets 5 % of the lines aside, by a hash of the source",
        )


def _named(examples: Sequence[str], count: int, between: str = ", ") -> str:
    """Returns examples as one printable line, which says whether there are more."""
    more = [] if count == len(examples) else ["..."]
    return between.join([*map(_printable, examples), *more])


def _printable(text: str) -> str:
    text = "".join(c if c.isprintable() else "\ufffd" for c in text)
    return text if len(text) <= _LONGEST_EXAMPLE else f"{text[:_LONGEST_EXAMPLE]}..."
