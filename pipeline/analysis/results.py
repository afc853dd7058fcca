"""Results as JSON objects: how one model is measured, and how two differ."""

from collections.abc import Sequence
from typing import Any

from pocketseq.pipeline.analysis.analysis import Analysis, Change
from pocketseq.pipeline.analysis.answers import Answers
from pocketseq.pipeline.analysis.groups import Group

_NAMES = ("a", "b")

# The confusions that are named, those first that differ most.
_MOST_CONFUSIONS = 100


def evaluation_json(answers: Answers) -> dict[str, Any]:
    """Returns how one model is measured as one JSON object.

    The metrics; ``intervals``: the 95 % interval of each; ``confidence``: see
    :class:`pocketseq.pipeline.analysis.confidence.Confidence`.
    """
    intervals = answers.intervals.items()
    return {
        **answers.result,
        "intervals": {name: _rounded(interval) for name, interval in intervals},
        "confidence": answers.confidence.to_json(),
    }


def comparison_json(analysis: Analysis) -> dict[str, Any]:
    """Returns the analysis of two models as one JSON object.

    ``file``, ``examples``; ``a`` and ``b``: ``model`` and what :func:`evaluation_json`
    says of it; ``only_a_right``, ``only_b_right``, ``both_right``, ``both_wrong``: how
    many; ``metric``: the main one; ``difference``, ``difference_interval``: by how many
    points of it b is better; ``p_value``: how probable such a difference is where there
    is none; ``by_length``, ``by_frequency``: the metric by the source, and what the
    symbols were ``counted_in``; ``confusions`` with the counts of both;
    ``differences``: what only one of them gets right.
    """
    models = analysis.models
    difference = analysis.difference
    only_a, only_b = analysis.rows(False, True), analysis.rows(True, False)
    return {
        "file": analysis.file,
        "examples": analysis.examples,
        **{
            name: {"model": model.name, **evaluation_json(model)}
            for name, model in zip(_NAMES, models, strict=True)
        },
        "only_a_right": len(only_a),
        "only_b_right": len(only_b),
        "both_right": len(analysis.rows(False, False)),
        "both_wrong": len(analysis.rows(True, True)),
        "metric": analysis.metric,
        "difference": round(difference.points, 4),
        "difference_interval": _rounded(difference.interval),
        "p_value": round(difference.p_value, 5),
        "by_length": _groups(analysis, analysis.by_length),
        "by_frequency": _groups(analysis, analysis.by_frequency),
        "counted_in": analysis.training.where,
        "confusions": [
            _confusion(analysis, change)
            for change in analysis.changes[:_MOST_CONFUSIONS]
        ],
        "differences": [
            {
                "source": analysis.sources[row],
                "references": analysis.references[row],
                **{n: one.texts[row] for n, one in zip(_NAMES, models, strict=True)},
                "right": "b" if models[0].wrong[row] else "a",
            }
            for row in sorted(only_a + only_b)
        ],
    }


def _groups(analysis: Analysis, groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Returns groups with the main metric and the percent of wrong outputs of each."""
    metric = analysis.metric

    def measured(model: Answers, group: Group) -> dict[str, float]:
        wrong = 100 * float(model.wrong[group.rows].mean())
        value = model.measure(metric, group.rows)
        return {metric: round(value, 4), "wrong": round(wrong, 4)}

    return [
        {
            "from": group.first,
            "to": group.last,
            "examples": len(group.rows),
            **{
                name: measured(model, group)
                for name, model in zip(_NAMES, analysis.models, strict=True)
            },
        }
        for group in groups
    ]


def _confusion(analysis: Analysis, change: Change) -> dict[str, Any]:
    return {
        "reference": change.reference,
        "output": change.output,
        **dict(zip(_NAMES, change.counts, strict=True)),
        "examples": [analysis.sources[row] for row in change.examples],
    }


def _rounded(interval: tuple[float, float]) -> list[float]:
    return [round(end, 4) for end in interval]
