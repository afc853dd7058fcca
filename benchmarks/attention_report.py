"""The results of the comparison of attentions as files: JSON, a table and plots."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_COLOURS = {
    "cosine": "#08306b", "bare": "#8cbfe2", "dot": "#d95f02", "scaled_dot": "#e6ab02",
    "general": "#1b9e77", "additive": "#7570b3", "none": "#7b8794",
}  # fmt: skip
_FEEDING = "+feeding"


def write_results(
    report: Mapping[str, Any], more: Mapping[str, bool], folder: Path
) -> None:
    """Writes ``attention.json``, ``attention.md`` and a plot for each task.

    Args:
        report: ``{"tasks": {name: what benchmarks/attention.py finds}}``.
        more: ``{task: whether more of its metric is better}``.
        folder: Is made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report, indent=1, ensure_ascii=False)
    (folder / "attention.json").write_text(text + "\n", encoding="utf-8")
    tables = [table(name, found, more[name]) for name, found in report["tasks"].items()]
    (folder / "attention.md").write_text("\n\n".join(tables) + "\n", encoding="utf-8")
    for name, found in report["tasks"].items():
        plot(name, found, folder / f"attention-{name}.svg")


def table(name: str, found: Mapping[str, Any], more: bool) -> str:
    """Returns the table of a task, the best score first, as Markdown."""
    scores = found["scores"]
    part = "test" if "test" in next(iter(scores.values())) else "dev"
    ordered = sorted(scores, key=lambda s: scores[s][part]["mean"], reverse=more)
    bands = list(next(iter(scores.values()))["bands"])
    head = [
        "score", f"{found['metric'].upper()}, {part}", "float32",
        *(f"from {band} {found['unit']}" for band in bands),
        "places", "scale", "time per update", "time per text",
    ]  # fmt: skip
    rows = [head, ["---"] * len(head)]
    for score in ordered:
        one = scores[score]
        scale = f"{one['scale'][-1][1]:.1f}" if one["scale"] else ""
        rows.append(
            [
                f"`{score}`",
                _with_spread(one[part]),
                f"{one['float32']['mean']:.2f}",
                *("" if x is None else f"{x:.1f}" for x in one["bands"].values()),
                f"{one['places']:.1f}",
                scale,
                _times(found["update_time"].get(score)),
                _times(found["device_time"].get(score)),
            ]
        )
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    title = f"**{name}**, recipe `{found['recipe']}`, {found['seeds']} seeds"
    return "\n".join([title, "", *lines])


def plot(name: str, found: Mapping[str, Any], path: Path) -> None:
    """Draws quality by length, and the path of the learned scale."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4))
    for score, one in found["scores"].items():
        plain = score.removesuffix(_FEEDING)
        style = {
            "color": _COLOURS[plain],
            "linestyle": "--" if score.endswith(_FEEDING) else "-",
            "label": score,
        }
        bands = {k: v for k, v in one["bands"].items() if v is not None}
        left.plot(list(bands), list(bands.values()), marker="o", **style)
        if one["scale"] and score != "bare":
            right.plot(*zip(*one["scale"], strict=True), **style)
    left.set_xlabel(f"source, {found['unit']} from")
    left.set_ylabel(found["metric"].upper())
    left.legend(fontsize=7)
    right.set_xlabel("updates")
    right.set_ylabel("learned scale")
    figure.suptitle(name)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _with_spread(values: Mapping[str, Any]) -> str:
    spread = values["spread"]
    return f"{values['mean']:.2f}" + ("" if spread is None else f" ± {spread:.2f}")


def _times(value: float | None) -> str:
    return "" if value is None else f"× {value:.2f}"
