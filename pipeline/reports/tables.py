"""Results of ``evaluate`` and ``compare`` as lines and tables for a terminal."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pocketseq.pipeline.evaluation import METRICS
from pocketseq.pipeline.reports.signs import visible_spaces, visible_symbol

#: Below this probability a difference is hardly chance.
SIGNIFICANT = 0.05

_WIDTH = 100  # columns
_MOST_CONFUSIONS = 10

_Result = Mapping[str, Any]


def evaluation_text(result: _Result) -> str:
    """Returns how one model is measured, for people.

    Args:
        result: Of :func:`pocketseq.pipeline.analysis.results.evaluation_json`.
    """
    lines = []
    if "alignments" in result:
        lines.append(_alignment_line(result["alignments"]))
    if "examples" not in result:
        return "\n".join(lines)
    for name in ("examples", *METRICS, "signature"):
        if name in result:
            value = result[name]
            shown = f"{value:.2f}" if isinstance(value, float) else value
            ends = result["intervals"].get(name)
            interval = f"   (95 %: {_ends(ends)})" if ends else ""
            lines.append(f"{name:9} {shown}{interval}")
    confidence = result["confidence"]
    for one in confidence["rejections"]:
        if one["caught"] is not None:
            lines.append(
                f"rejecting {one['percent']} % (score below {one['below']:.3f}) "
                f"catches {one['caught']:.1f} % of the wrong outputs"
            )
    if confidence["calibration_error"] is not None:
        lines.append(
            f"calibration error of the probability of whole outputs: "
            f"{confidence['calibration_error']:.1f} points"
        )
    return "\n".join(lines)


def _alignment_line(found: Mapping[str, Any]) -> str:
    """Returns how attention compares with gold alignments."""
    judged = f"{found['right']:,} of {found['texts']:,} outputs are as aligned"
    if found["aligned"] is None:
        return f"alignments: nothing to compare, {judged}"
    return (
        f"alignments: {found['aligned']:.1f} % of {found['symbols']:,} symbols look "
        f"most at their own letters; a straight diagonal: {found['diagonal']:.1f} % "
        f"({judged})"
    )


def comparison_text(result: _Result) -> str:
    """Returns how two models differ, for people.

    Args:
        result: Of :func:`pocketseq.pipeline.analysis.results.comparison_json`.
    """
    a, b = result["a"], result["b"]
    rarest = f"rarest source symbol, times in {visible_spaces(result['counted_in'])}"
    tables = [
        _metrics_table(a, b),
        _counts_table(result),
        _groups_table(result, "by_length", "length of the source"),
        _groups_table(result, "by_frequency", rarest),
        *[_confusions_table(result)] * bool(result["confusions"]),
    ]
    first, *others = map(_text, tables)
    heading = (
        f"A  {a['model']}\nB  {b['model']}\n"
        f"{result['examples']} examples of {result['file']}"
    )
    return "\n\n".join([heading, first, verdict(result), *others])


def verdict(result: _Result) -> str:
    """Returns whether one of two models is better, in a sentence.

    Args:
        result: As for :func:`comparison_text`.
    """
    name, points = result["metric"].upper(), result["difference"]
    if points == 0:
        return f"Both have the same {name}."
    better, sign = ("B", 1) if points > 0 else ("A", -1)
    low, high = sorted(sign * end for end in result["difference_interval"])
    chance = "hardly" if result["p_value"] < SIGNIFICANT else "perhaps"
    return (
        f"{better} is better by {abs(points):.2f} points of {name} (95 %: {low:.2f} to "
        f"{high:.2f}), {chance} by chance (p = {result['p_value']:.4f})."
    )


def span(first: int, last: int | None) -> str:
    """Returns the numbers of a group for people; None: no upper end."""
    if last is None:
        return f"{first} or more"
    return str(first) if first == last else f"{first} to {last}"


def _table(*titles: str) -> Table:
    """Returns an empty table: text on the left, numbers in the other columns."""
    table = Table(box=None, pad_edge=False)
    for place, title in enumerate(titles):
        table.add_column(Text(title), justify="right" if place else "left")
    return table


def _text(table: Table) -> str:
    text = io.StringIO()
    Console(file=text, width=_WIDTH).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def _ends(interval: Sequence[float]) -> str:
    return "{:.1f} to {:.1f}".format(*interval)


def _metrics_table(a: _Result, b: _Result) -> Table:
    table = _table("", "A", "95 %", "B", "95 %", "B - A")
    for name in METRICS:
        if name in a:
            cells = [
                cell
                for one in (a, b)
                for cell in (f"{one[name]:.2f}", _ends(one["intervals"][name]))
            ]
            table.add_row(name.upper(), *cells, f"{b[name] - a[name]:+.2f}")
    return table


def _counts_table(result: _Result) -> Table:
    table = _table("", "examples")
    for name in ("both_right", "only_a_right", "only_b_right", "both_wrong"):
        title = name.replace("_", " ").replace(" a ", " A ").replace(" b ", " B ")
        table.add_row(title, str(result[name]))
    return table


def _groups_table(result: _Result, key: str, title: str) -> Table:
    metric = result["metric"]
    name = metric.upper()
    table = _table(title, "examples", f"{name} A", f"{name} B", "B - A")
    for group in result[key]:
        a, b = (group[model][metric] for model in "ab")
        numbers = f"{a:.1f}", f"{b:.1f}", f"{b - a:+.1f}"
        title = span(group["from"], group["to"])
        table.add_row(title, str(group["examples"]), *numbers)
    return table


def _confusions_table(result: _Result) -> Table:
    table = _table("expected → found", "A", "B", "B - A", "for example")
    table.columns[-1].justify = "left"
    for one in result["confusions"][:_MOST_CONFUSIONS]:
        expected, found = map(visible_symbol, (one["reference"], one["output"]))
        examples = ", ".join(map(visible_spaces, one["examples"]))
        numbers = str(one["a"]), str(one["b"]), f"{one['b'] - one['a']:+d}"
        table.add_row(Text(f"{expected} → {found}"), *numbers, Text(examples))
    return table
