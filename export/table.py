"""The report of an export as a table for people."""

import io

from rich.console import Console
from rich.table import Table

from pocketseq.export.bundle import Report
from pocketseq.pipeline.evaluation import METRICS


def report_table(report: Report) -> str:
    """Returns the report as text: a table, notes and failures."""
    names = [report.metric, METRICS[report.metric].beside]
    parts = ["dev"] + ["test"] * any(file.test for file in report.files)
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for title in [f"{part} {name.upper()}" for part in parts for name in names]:
        table.add_column(title, justify="right")
    for title in ("loss", "bytes", "ms a text"):
        table.add_column(title, justify="right")
    for file in report.files:
        qualities = [getattr(file, part).get(name) for part in parts for name in names]
        table.add_row(
            file.name,
            *(_number(value, ".2f") for value in qualities),
            _number(file.loss, "+.2f"),
            _number(file.bytes, ",d"),
            _number(file.milliseconds, ".2f"),
        )
    text = io.StringIO()
    Console(file=text, width=100).print(table)
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    lines += ["", *report.notes]
    if report.passed:
        lines.append(f"written to {report.folder}")
    else:
        lines += ["", *(f"FAILED {failure}" for failure in report.failures)]
        lines.append("nothing was written")
    return "\n".join(lines)


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
