"""Findings: what an analysis shows, in sentences, what matters most first."""

from collections.abc import Iterable, Iterator

import numpy as np
from markupsafe import Markup

from pocketseq.pipeline.analysis.analysis import Analysis
from pocketseq.pipeline.analysis.answers import Answers
from pocketseq.pipeline.analysis.groups import Group, share_interval
from pocketseq.pipeline.reports.page import symbol_html
from pocketseq.pipeline.reports.tables import span

# Groups with fewer examples say little.
_FEWEST = 10


def findings(analysis: Analysis) -> list[Markup]:
    """Returns what an analysis shows as sentences in HTML."""
    if len(analysis.models) > 1:
        return list(_of_two(analysis))
    (model,) = analysis.models
    if not model.wrong.any():
        return [Markup("No output is wrong.")]
    return list(_of_one(analysis, model))


def _of_one(analysis: Analysis, model: Answers) -> Iterator[Markup]:
    yield from _unknown(analysis, model)
    yield from _rare(analysis, model)
    yield from _long(analysis, model)
    yield from _near(model)
    yield from _confused(analysis, model)
    yield from _letter(analysis)
    yield from _rejected(model)
    yield from _overlap(analysis)


def _unknown(analysis: Analysis, model: Answers) -> Iterator[Markup]:
    """Sources with unknown symbols, and references that cannot be written."""
    for symbols, text in (
        (
            analysis.unknown(model),
            "{} of {} sources ({} %) have symbols that the model does not know: {} % "
            "of those are wrong, {} % of the others.",
        ),
        (
            analysis.unseen(model),
            "{} of {} references ({} %) have symbols that the model has never seen: "
            "{} % of those are wrong, {} % of the others.",
        ),
    ):
        if symbols:
            rows = np.unique(np.concatenate([one.rows for one in symbols]))
            yield _apart(analysis, model, rows, text)


def _rare(analysis: Analysis, model: Answers) -> Iterator[Markup]:
    """The rarest symbols that make a clear difference."""
    unknown = {row for one in analysis.unknown(model) for row in one.rows.tolist()}
    for group in analysis.by_frequency[1:] if analysis.training.is_training else ():
        rows = np.flatnonzero(np.array(analysis.frequencies) < group.first)
        if _differ(model, rows) and set(rows.tolist()) != unknown:
            how_often = (
                f"saw fewer than {group.first:,} times"
                if group.first > 1
                else "never saw"
            )
            text = (
                f"{{}} of {{}} sources ({{}} %) have a symbol that training "
                f"{how_often}: {{}} % of those are wrong, {{}} % of the others."
            )
            yield _apart(analysis, model, rows, text)
            return


def _long(analysis: Analysis, model: Answers) -> Iterator[Markup]:
    longest = analysis.by_length[-1]
    if len(analysis.by_length) > 1 and _differ(model, longest.rows):
        text = (
            f"{{}} of {{}} sources ({{}} %) have {longest.first} or more symbols: {{}} "
            f"% of those are wrong, {{}} % of the others."
        )
        yield _apart(analysis, model, longest.rows, text)


def _apart(analysis: Analysis, model: Answers, rows: np.ndarray, text: str) -> Markup:
    """Returns a sentence on how wrong some examples are, and how wrong the others."""
    others = np.setdiff1d(np.arange(analysis.examples), rows)
    return Markup(text).format(
        len(rows),
        analysis.examples,
        _percent(len(rows) / analysis.examples),
        _percent(model.wrong[rows].mean()),
        _percent(model.wrong[others].mean() if len(others) else 0.0),
    )


def _differ(model: Answers, rows: np.ndarray) -> bool:
    """Whether some examples are clearly more, or less, often wrong than the others."""
    others = np.setdiff1d(np.arange(len(model.wrong)), rows)
    if min(len(rows), len(others)) < _FEWEST:
        return False
    (low, high), (other_low, other_high) = (
        share_interval(int(model.wrong[part].sum()), len(part))
        for part in (rows, others)
    )
    return low > other_high or high < other_low


def _near(model: Answers) -> Iterator[Markup]:
    """How many of the wrong outputs are nearly right."""
    wrong = np.flatnonzero(model.wrong)
    one_off = sum(len(model.edits[row]) == 1 for row in wrong.tolist())
    if one_off:
        yield Markup("{} of {} wrong outputs ({} %) are one symbol off.").format(
            one_off, len(wrong), _percent(one_off / len(wrong))
        )


def _confused(analysis: Analysis, model: Answers) -> Iterator[Markup]:
    found = analysis.confusions(model)
    total = sum(one.count for one in found)
    if not found:
        return
    first = found[0]
    yield Markup("Most often {}: {} of {} edits ({} %).").format(
        _edit(first.reference, first.output),
        first.count,
        total,
        _percent(first.count / total),
    )
    left_out = sum(one.count for one in found if not one.output)
    added = sum(one.count for one in found if not one.reference)
    if max(left_out, added) >= _FEWEST and max(left_out, added) > 2 * min(
        left_out, added
    ):
        text = "Symbols are left out {} times and added {} times: outputs are too {}."
        too = "short" if left_out > added else "long"
        yield Markup(text).format(left_out, added, too)


def _letter(analysis: Analysis) -> Iterator[Markup]:
    """The source symbol from which the model errs most."""
    (written,) = analysis.written
    first = analysis.symbols[0].text if analysis.symbols else ""
    count, wrong = written.get(first, (0, 0))
    if wrong:
        yield Markup(
            "Of the {} output symbols that were written from {}, {} ({} %) are wrong: "
            "most beyond the usual share of all source symbols."
        ).format(count, symbol_html(first), wrong, _percent(wrong / count))


def _rejected(model: Answers) -> Iterator[Markup]:
    rejection = model.confidence.rejections[1]
    if rejection.caught is not None and rejection.rejected:
        yield Markup(
            "Rejecting the {} % with the lowest scores catches {} % of the wrong "
            "outputs."
        ).format(rejection.percent, round(rejection.caught))


def _overlap(analysis: Analysis) -> Iterator[Markup]:
    """Sources that training had already: measured on them, a model looks too good."""
    count = len(analysis.overlap)
    if count:
        yield Markup(
            "{} of {} sources ({} %) are among the training pairs, {} of them with "
            "another target."
        ).format(
            count,
            analysis.examples,
            _percent(count / analysis.examples),
            len(analysis.contradictions),
        )


def _of_two(analysis: Analysis) -> Iterator[Markup]:
    only_a = len(analysis.rows(False, True))
    only_b = len(analysis.rows(True, False))
    yield Markup("Only A gets {} right, only B gets {} right.").format(only_a, only_b)
    where = "training" if analysis.training.is_training else "this file"
    frequency = f"whose rarest symbol stands {{}} times in {where}"
    yield from _largest_change(analysis, analysis.by_frequency, frequency)
    yield from _largest_change(analysis, analysis.by_length, "of {} symbols")
    for change in [one for one in analysis.changes if one.fewer][:2]:
        yield Markup("{}: {} times with A, {} times with B.").format(
            _edit(change.reference, change.output), *change.counts
        )


def _largest_change(
    analysis: Analysis, groups: Iterable[Group], which: str
) -> Iterator[Markup]:
    """Where the share of wrong outputs differs most between two models."""
    large = [group for group in groups if len(group.rows) >= _FEWEST]
    if len(large) < 2:
        return

    def shares(group: Group) -> list[float]:
        return [float(model.wrong[group.rows].mean()) for model in analysis.models]

    most = max(large, key=lambda group: abs(shares(group)[1] - shares(group)[0]))
    a, b = shares(most)
    if a != b:
        numbers = span(most.first, most.last)
        yield Markup(
            "They differ most on the {} sources {}: A gets {} % wrong, B {} %."
        ).format(len(most.rows), which.format(numbers), _percent(a), _percent(b))


def _edit(reference: str, output: str) -> Markup:
    """Returns a confusion in words."""
    if not output:
        return Markup("{} is left out").format(symbol_html(reference))
    if not reference:
        return Markup("{} is added").format(symbol_html(output))
    return Markup("{} stands for {}").format(
        symbol_html(output), symbol_html(reference)
    )


def _percent(share: float) -> str:
    """Returns a share in percent: two digits that count, at most."""
    return f"{100 * share:.1f}" if 0 < share < 0.02 else f"{100 * share:.0f}"
