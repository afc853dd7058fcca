"""The page of an analysis: what one model, or each of two, gets wrong, and where."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import regex
from markupsafe import Markup, escape

from pocketseq.pipeline.analysis.analysis import Analysis, Symbol
from pocketseq.pipeline.analysis.answers import Answers
from pocketseq.pipeline.analysis.groups import Group, share_interval
from pocketseq.pipeline.analysis.results import comparison_json
from pocketseq.pipeline.evaluation import metrics_of_kind
from pocketseq.pipeline.reports.findings import findings
from pocketseq.pipeline.reports.heat import heat_maps
from pocketseq.pipeline.reports.page import render
from pocketseq.pipeline.reports.signs import visible, visible_symbol
from pocketseq.pipeline.reports.tables import span, verdict

# Rows of each list on the page.
_MOST_ERRORS = 2000
_MOST_CONFUSIONS = 40
_MOST_SYMBOLS = 30
_MOST_EXAMPLES = 5
_MOST_EDITS = 4

_CLUSTER = regex.compile(r"\X")


def analysis_page(analysis: Analysis) -> str:
    """Returns the page of an analysis as HTML."""
    models = analysis.models
    return render(
        "analysis.html",
        styles=["shades.css", "analysis.css"],
        scripts=["tables.js"],
        analysis=analysis,
        names=["A", "B"] if len(models) > 1 else [""],
        is_comparison=len(models) > 1,
        verdict=verdict(comparison_json(analysis)) if len(models) > 1 else "",
        findings=findings(analysis),
        metrics=[_metric(analysis, name) for name in metrics_of_kind(analysis.kind)],
        lengths=_groups(analysis, analysis.by_length),
        frequencies=_groups(analysis, analysis.by_frequency),
        heat=heat_maps(analysis),
        confusions=_confusions(analysis),
        letters=_letters(analysis),
        reads_attention=any(analysis.written),
        unknown=[_where(analysis, one, analysis.unknown(one)) for one in models],
        unseen=[_where(analysis, one, analysis.unseen(one)) for one in models],
        alternatives=analysis.alternatives[:_MOST_SYMBOLS],
        contradictions=analysis.contradictions[:_MOST_SYMBOLS],
        errors=_errors(analysis),
        errors_left_out=max(0, int(_any_wrong(analysis).sum()) - _MOST_ERRORS),
    )


# Metrics.


@dataclass(frozen=True)
class _Metric:
    name: str
    is_main: bool
    values: list[float]
    intervals: list[tuple[float, float]]


def _metric(analysis: Analysis, name: str) -> _Metric:
    return _Metric(
        name.upper(),
        name == analysis.metric,
        [model.result[name] for model in analysis.models],
        [model.intervals[name] for model in analysis.models],
    )


# Groups.


@dataclass(frozen=True)
class _Bar:
    """A number that a bar shows, from 0 to 100.

    ``interval``: of the number, if it has one. ``beside``: another number.
    """

    value: float
    interval: tuple[float, float] | None = None
    beside: float | None = None


@dataclass(frozen=True)
class _GroupRow:
    title: str
    examples: int
    bars: list[_Bar]


def _groups(analysis: Analysis, groups: Sequence[Group]) -> list[_GroupRow]:
    return [
        _GroupRow(
            span(group.first, group.last),
            len(group.rows),
            [_bar(analysis, model, group.rows) for model in analysis.models],
        )
        for group in groups
    ]


def _bar(analysis: Analysis, model: Answers, rows: np.ndarray) -> _Bar:
    """Returns the bar of a group: the share of wrong outputs, or the main metric.

    Nearly all long texts differ somewhere from their references.
    """
    if analysis.kind == "word":
        return _wrong_bar(model, rows)
    value = model.measure(analysis.metric, rows)
    if analysis.kind == "wordpiece":
        return _Bar(value)
    return replace(_wrong_bar(model, rows), beside=value)


def _wrong_bar(model: Answers, rows: np.ndarray) -> _Bar:
    wrong = int(model.wrong[rows].sum())
    return _Bar(100 * wrong / max(len(rows), 1), share_interval(wrong, len(rows)))


# Confusions.


@dataclass(frozen=True)
class _ConfusionRow:
    """A confusion: how often each model has it, and some sources with the output."""

    reference: str
    output: str
    counts: list[int]
    examples: list[tuple[str, Markup]]


def _confusions(analysis: Analysis) -> list[_ConfusionRow]:
    """Returns the most frequent confusions; of two models, those that differ most."""
    models = analysis.models
    if len(models) > 1:
        return [
            _ConfusionRow(
                change.reference,
                change.output,
                list(change.counts),
                _examples(models[change.fewer < 0], change.examples),
            )
            for change in analysis.changes[:_MOST_CONFUSIONS]
        ]
    (model,) = models
    return [
        _ConfusionRow(
            one.reference, one.output, [one.count], _examples(model, one.examples)
        )
        for one in analysis.confusions(model)[:_MOST_CONFUSIONS]
    ]


def _examples(model: Answers, rows: Sequence[int]) -> list[tuple[str, Markup]]:
    return [(model.sources[row], _output(model, row)) for row in rows]


# Symbols.


@dataclass(frozen=True)
class _Letter:
    """A source symbol: in how many examples, and how many of those are wrong.

    ``seen``: how often training has it. ``wrong``: a bar for each model. ``written``:
    for each model how many output symbols were written looking at it, and how many of
    those are wrong; None where the attention does not tell.
    """

    text: str
    examples: int
    seen: int
    wrong: list[_Bar]
    written: list[tuple[int, int] | None]


def _letters(analysis: Analysis) -> list[_Letter]:
    return [
        _Letter(
            one.text,
            len(one.rows),
            analysis.training.counts[one.text],
            [_wrong_bar(model, one.rows) for model in analysis.models],
            [counts.get(one.text) for counts in analysis.written],
        )
        for one in analysis.symbols[:_MOST_SYMBOLS]
    ]


@dataclass(frozen=True)
class _Where:
    """A symbol that a model does not know, and where it stands."""

    text: str
    examples: int
    wrong: int
    sources: list[str]


def _where(
    analysis: Analysis, model: Answers, symbols: Sequence[Symbol]
) -> list[_Where]:
    return [
        _Where(
            one.text,
            len(one.rows),
            int(model.wrong[one.rows].sum()),
            [analysis.sources[row] for row in one.rows[:_MOST_EXAMPLES]],
        )
        for one in symbols[:_MOST_SYMBOLS]
    ]


# Errors.


@dataclass(frozen=True)
class _Error:
    """An example that a model gets wrong.

    ``outputs``: of each model, with its score, its edits, and whether it is wrong.
    """

    source: str
    expected: Markup
    outputs: list["_Output"]
    seen: int
    right: str


@dataclass(frozen=True)
class _Output:
    text: Markup
    score: float
    is_wrong: bool
    edits: list[tuple[str, str]]
    more_edits: int


def _any_wrong(analysis: Analysis) -> np.ndarray:
    return np.logical_or.reduce([model.wrong for model in analysis.models])


def _errors(analysis: Analysis) -> list[_Error]:
    """Returns the wrong outputs, the surest first.

    Of two models, what only one gets right comes before what both get wrong.
    """
    models = analysis.models
    wrong_models = np.sum([model.wrong for model in models], axis=0)
    rows = np.flatnonzero(_any_wrong(analysis)).tolist()
    rows.sort(key=lambda row: (wrong_models[row], -models[0].scores[row]))
    return [_error(analysis, row) for row in rows[:_MOST_ERRORS]]


def _error(analysis: Analysis, row: int) -> _Error:
    models = analysis.models
    nearest, _ = next(model for model in models if model.wrong[row]).symbols[row]
    edited: set[int] = set()
    if len(models) == 1:
        (model,) = models
        edited = {edit.reference_place for edit in model.edits[row] if edit.reference}
    right = [
        name for name, one in zip("AB", models, strict=False) if not one.wrong[row]
    ]
    return _Error(
        analysis.sources[row],
        marked(nearest, edited, analysis.kind),
        [_output_cell(model, row) for model in models],
        analysis.frequencies[row],
        right[0] if right else "none",
    )


def _output_cell(model: Answers, row: int) -> _Output:
    edits = [(edit.reference, edit.output) for edit in model.edits[row]]
    return _Output(
        _output(model, row),
        float(model.scores[row]),
        bool(model.wrong[row]),
        edits[:_MOST_EDITS],
        max(0, len(edits) - _MOST_EDITS),
    )


def _output(model: Answers, row: int) -> Markup:
    """Returns an output as HTML, with what is wrong in it marked."""
    _, symbols = model.symbols[row]
    edited = {edit.output_place for edit in model.edits[row] if edit.output}
    return marked(symbols, edited, model.kind)


def marked(symbols: Sequence[str], places: Collection[int], kind: str) -> Markup:
    """Returns a text as HTML, with some of its symbols marked.

    A letter and the marks on it are never torn apart.

    Args:
        symbols: Of the text.
        places: Which of them to mark.
        kind: Of the target: what stands between two symbols.
    """
    separator = "" if kind == "character" else " "
    parts = []
    for text, is_marked in _pieces(symbols, places, kind):
        if is_marked:
            shown = visible_symbol(text)
            parts.append(Markup("<mark>{}</mark>").format(shown))
        else:
            parts.append(escape(visible(text)))
    return Markup('<bdi class="text">{}</bdi>').format(Markup(separator).join(parts))


def _pieces(
    symbols: Sequence[str], places: Collection[int], kind: str
) -> Iterator[tuple[str, bool]]:
    """Yields (text, whether it is marked) of parts that can stand by themselves."""
    if kind != "character":
        for place, symbol in enumerate(symbols):
            yield symbol, place in places
        return
    for cluster in _CLUSTER.finditer("".join(symbols)):
        is_marked = any(place in places for place in range(*cluster.span()))
        yield cluster[0], is_marked
