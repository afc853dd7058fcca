"""What ``check`` finds, as text for people: at most 80 columns."""

import io
import re
import textwrap
from typing import Any

from rich.console import Console
from rich.table import Table

from pocketseq.pipeline.text.counts import SELDOM, percent

_WIDTH = 80


def findings_text(found: dict[str, Any]) -> str:
    """Returns numbers, a recipe that fits, and advice, what is wrong first.

    Args:
        found: As :func:`pocketseq.pipeline.check.check` returns it.
    """
    return "\n".join([*_numbers(found), "", *_fit(found), *_advice(found)])


def _numbers(found: dict[str, Any]) -> list[str]:
    others = [name for name in ("dev", "test") if f"{name}_pairs" in found]
    table = _table(1 + len(others))
    table.add_row("", "train", *others)
    pairs = (found[key] for key in ("pairs", *(f"{name}_pairs" for name in others)))
    table.add_row("pairs", *map(_count, pairs))
    table.add_row("exact repeats", _count(found["duplicates"]))
    if others:
        overlaps = (found["overlap"][name] for name in others)
        table.add_row("pairs with a source of train", "", *map(_count, overlaps))
    table.add_row("sources with several targets", _count(found["contradictions"]))
    bounds = ("upper_bound", *(f"upper_bound_{name}" for name in others))
    table.add_row("upper bound of accuracy", *(_percent(found[key]) for key in bounds))
    return [*_lines(table), "", *_sides(found)]


def _sides(found: dict[str, Any]) -> list[str]:
    """Returns the table of source and target, and of both decomposed."""
    columns = []
    for side in ("source", "target"):
        columns.append((side, found[side]["symbols"], found[side]))
        if "decomposed" in found[side]:
            columns.append((side, "decomposed", found[side]["decomposed"]))
    table = _table(len(columns))
    table.add_row("", *(side for side, _, _ in columns))
    table.add_row("", *(form for _, form, _ in columns))
    rows = [
        ("alphabet", "alphabet", _count),
        (f"of it seen under {SELDOM} times", "seldom", _count),
        ("unknown in dev", "unknown_in_dev", _percent),
        ("median text, code points", "median", _count),
        ("longest text, code points", "longest", _count),
    ]
    if "dev_pairs" not in found:
        del rows[2]
    for title, key, shown in rows:
        table.add_row(title, *(shown(numbers[key]) for _, _, numbers in columns))
    return _lines(table)


def _table(numbers: int) -> Table:
    """Returns a table of titles and columns of numbers."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    for _ in range(numbers):
        table.add_column(justify="right")
    return table


def _lines(table: Table) -> list[str]:
    text = io.StringIO()
    Console(file=text, width=_WIDTH).print(table)
    return [line.rstrip() for line in text.getvalue().splitlines()]


def _fit(found: dict[str, Any]) -> list[str]:
    """Returns what fits, what it will take, and the command that does it."""
    estimate = found["estimate"]
    settings = "".join(f" --set {setting}" for setting in found["settings"])
    lines = [
        f"fits: recipe {found['recipe']}{settings}, metric {found['metric']}; "
        f"{estimate['weights'] / 1e6:.1f} M weights, about "
        f"{estimate['int8_bytes'] / 1e6:.1f} MB as int8 and {_minutes(estimate)} of "
        f"training on {estimate['minutes_on']}"
    ]
    wrapped = [line for text in lines for line in textwrap.wrap(text, _WIDTH)]
    if found["command"] is None:
        return wrapped
    return [*wrapped, *_command(found["command"])]


def _minutes(estimate: dict[str, Any]) -> str:
    number = max(1, round(estimate["minutes"]))
    return f"{number} minute{'s' * (number != 1)}"


def _command(command: str) -> list[str]:
    """Returns a shell command on lines that continue each other."""
    options = re.split(" (?=--)", command)
    lines = [f"  {options[0]}"]
    for option in options[1:]:
        if len(lines[-1]) + len(option) > _WIDTH - 3:
            lines[-1] += " \\"
            lines.append(f"    {option}")
        else:
            lines[-1] += f" {option}"
    return ["", *lines]


def _advice(found: dict[str, Any]) -> list[str]:
    lines = []
    for remark in found["advice"]:
        mark = "WRONG " if remark["code"] in found["wrong"] else ""
        lines += textwrap.wrap(
            f"{mark}{remark['code']}: {remark['message']}",
            _WIDTH,
            subsequent_indent="  ",
            break_on_hyphens=False,
        )
    return ["", *lines] if lines else ["", "nothing to remark"]


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def _percent(share: float | None) -> str:
    return "" if share is None else percent(share)
