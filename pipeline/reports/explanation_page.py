"""The page of an explanation: what a model looked at, step by step.

The template shows the numbers as tables, which can be read without a script; the script
lets them be stepped through, and reads them from the page's data.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from markupsafe import Markup

from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.explanation import BeamStep, Branch, Explanation
from pocketseq.pipeline.reports.page import (
    check_place,
    label,
    percent,
    render,
    shade,
    write_page,
)
from pocketseq.pipeline.reports.pictures import attention_picture, check_picture_place
from pocketseq.pipeline.reports.signs import visible
from pocketseq.pipeline.runs import write_atomically

#: The endings of files that :func:`write_explanation` writes.
ENDINGS = (".html", ".png", ".svg")

# What could end a script or a line of it, or would turn around what follows.
_NOT_IN_SCRIPTS = re.compile("[<>&\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")

# The label of the end token, which writes nothing.
_END = "end"

# Cells of the map: of longer texts it shows the rows around a step. Rows of the table
# of steps that tell the likeliest tokens.
_MOST_CELLS, _FEWER_CELLS = 6000, 3000
_MOST_TOLD_STEPS = 120
# Cells that carry their percent; in smaller ones it would be noise.
_MOST_COLUMNS_WITH_PERCENT = 24
# Numbers on a page, so that it stays below a megabyte: up to so many similarities to
# five decimals and weights to six, more to three and four; components of vectors to
# three, and to two; with more of them, vectors are left out.
_MOST_FINE_CELLS = 10_000
_MOST_FINE, _MOST_COARSE = 40_000, 80_000
# Weights in words, and columns of the drawn beam.
_MOST_NAMED = 3
_MOST_BEAM_STEPS = 60


def explanation_page(explanation: Explanation) -> str:
    """Returns the page of an explanation as HTML."""
    models = [explanation]
    if explanation.other is not None:
        models.append(explanation.other)
    return render(
        "explanation.html",
        styles=["shades.css", "explanation.css"],
        scripts=["explanation_parts.js", "explanation.js"],
        views=[_view(one, place, len(models)) for place, one in enumerate(models)],
        explanation=explanation,
        title=visible(f"{explanation.text} → {explanation.translation}"),
        end=_END,
        data=embedded_json(page_data(explanation)),
        questions=list(_questions(explanation)),
    )


# Files.


def check_output(path: str | Path, *, is_comparison: bool = False) -> None:
    """Checks that an explanation can be written to a path without a loss.

    Raises:
        UserError: Its ending is another, its folder does not exist, something else
            stands there, or a picture would have to show two models.
    """
    path = Path(path)
    if path.suffix not in ENDINGS:
        expected = f"{', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}"
        raise UserError(f"--output {path}: expected a file that ends in {expected}")
    if path.suffix == ".html":
        check_place(path)
        return
    if is_comparison:
        raise UserError(f"--compare: a page shows two models, not {path}")
    check_picture_place(path)


def write_explanation(path: str | Path, explanation: Explanation) -> None:
    """Writes a page or a picture; see :meth:`Explanation.save`."""
    path = Path(path)
    check_output(path, is_comparison=explanation.other is not None)
    if path.suffix == ".html":
        write_page(path, explanation_page(explanation))
        return
    if explanation.weights is None:
        raise UserError(
            f"{path}: a SavedModel does not tell what it looked at, expected a run "
            f"folder or a .tflite file"
        )
    picture = attention_picture(
        explanation.source_tokens,
        [one or _END for one in explanation.target_tokens],
        explanation.weights,
        title=f"{explanation.text} → {explanation.translation}",
        format=cast(Literal["png", "svg"], path.suffix[1:]),
    )
    write_atomically(path, picture)


# The data of the script.


def page_data(explanation: Explanation) -> dict[str, Any]:
    """Returns what the page's script reads, of plain lists, numbers and texts.

    Rounded so that rows of weights still sum to 1 within 0.0005, and so that a page
    stays small.
    """
    models = 1 if explanation.other is None else 2
    data = _model_data(explanation, models)
    if explanation.other is not None:
        data["other"] = _model_data(explanation.other, models)
    return data


def _model_data(one: Explanation, models: int) -> dict[str, Any]:
    data: dict[str, Any] = {
        "model": one.model,
        "form": one.form,
        "text": one.text,
        "translation": one.translation,
        "score": _short(one.score),
        "source_tokens": one.source_tokens,
        "target_tokens": one.target_tokens,
        "source_labels": _labels(one.source_tokens),
        "target_labels": _labels(one.target_tokens),
        "weights": None if one.weights is None else _weights(one.weights),
        "attention": one.attention,
    }
    if one.form != "run":
        return data
    similarities = one.similarities
    if similarities is not None:
        decimals = 5 if similarities.size <= _MOST_FINE_CELLS else 3
        data["similarities"] = _rows(similarities, decimals)
    else:
        data["similarities"] = None
    data["scale"] = one.scale if one.scale is None else round(one.scale, 6)
    data["steps"] = [
        {
            "token": label(step.token),
            "probability": _short(step.probability),
            "entropy": round(step.entropy, 4),
            "likeliest": [
                [label(token.text), _short(token.probability)]
                for token in step.likeliest
            ],
        }
        for step in one.steps
    ]
    return data | _vectors(one, models)


def _vectors(one: Explanation, models: int) -> dict[str, Any]:
    """Returns the vectors of a run, or none where they are too many for a page."""
    vectors = {
        "encoder_outputs": one.encoder_outputs,
        "decoder_outputs": one.decoder_outputs,
        "contexts": one.contexts,
        "summary": None if one.summary is None else one.summary[None],
    }
    count = models * sum(rows.size for rows in vectors.values() if rows is not None)
    if count > _MOST_COARSE:
        return dict.fromkeys(vectors)
    decimals = 3 if count <= _MOST_FINE else 2
    found = {
        name: None if rows is None else _rows(rows, decimals)
        for name, rows in vectors.items()
    }
    return found | {"summary": found["summary"] and found["summary"][0]}


def _weights(weights: np.ndarray) -> list[list[float]]:
    """Returns weights as lists whose sums are those of the rows, within 0.0005."""
    if weights.size <= _MOST_FINE_CELLS:
        return [[_short(weight) for weight in row] for row in weights.tolist()]
    # What rounding takes from one cell goes to the next one.
    sums = np.round(np.cumsum(weights, axis=1), 4)
    return _rows(np.diff(sums, axis=1, prepend=0.0), 4)


def _short(value: float) -> float:
    """Returns a number with four digits, and none after the sixth decimal."""
    return _plain(float(f"{round(value, 6):.4g}"))


def _rows(values: np.ndarray, decimals: int) -> list[list[float]]:
    rounded = np.round(np.asarray(values, np.float64), decimals).tolist()
    return [list(map(_plain, row)) for row in rounded]


def _plain(value: float) -> float:
    """Returns whole numbers as int, which JSON writes without ".0"."""
    return int(value) if value.is_integer() else value


def embedded_json(data: Any) -> Markup:
    """Returns JSON that can stand inside a ``<script>``, whatever texts it holds."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(_NOT_IN_SCRIPTS.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


# What the template shows.


@dataclass(frozen=True)
class _Cell:
    percent: int
    shade: int


@dataclass(frozen=True)
class _Row:
    """A row of the map and of the list of steps.

    ``looks_at``: the largest weights in words. ``step``: of a run.
    """

    label: str
    cells: list[_Cell]
    looks_at: list[tuple[str, str]]
    step: Any


@dataclass(frozen=True)
class _View:
    """One model on the page.

    ``sources``: the labels of the source tokens, and whether the model knows each.
    ``map_rows``: those of ``rows`` that the map begins with. ``name``: A or B, of two.
    """

    name: str
    place: int
    one: Explanation
    sources: list[tuple[str, bool]]
    rows: list[_Row]
    map_rows: list[_Row]
    is_long: bool
    is_dense: bool
    beam: "_BeamDrawing | None"

    @property
    def tells_steps(self) -> bool:
        """Whether the table of steps has the likeliest tokens."""
        return 0 < len(self.one.steps) <= _MOST_TOLD_STEPS

    @property
    def kind(self) -> str:
        """The kind of its attention: cosine, score, none, or what a file tells."""
        if self.one.form != "run":
            return "outputs"
        if self.one.similarities is None:
            return "none"
        return "cosine" if self.one.scale is not None else "score"


def _view(one: Explanation, place: int, models: int) -> _View:
    labels = _labels(one.source_tokens)
    weights = np.zeros((0, 0)) if one.weights is None else one.weights
    steps = one.steps or (None,) * len(weights)
    rows = [
        _Row(written, _cells(row), _looks_at(row, labels), step)
        for written, row, step in zip(
            _labels(one.target_tokens), weights, steps, strict=False
        )
    ]
    columns = max(weights.shape[1], 1)
    cells = _MOST_CELLS if weights.size <= _MOST_CELLS else _FEWER_CELLS
    return _View(
        "AB"[place] if models > 1 else "",
        place,
        one,
        [(shown, i not in one.unknown) for i, shown in enumerate(labels)],
        rows,
        rows[: max(cells // columns, 8)],
        max(map(len, labels), default=0) > 2,
        columns > _MOST_COLUMNS_WITH_PERCENT,
        _BeamDrawing.of(one) if one.beam else None,
    )


def _cells(row: np.ndarray) -> list[_Cell]:
    return [_Cell(round(100 * weight), weight_shade(weight)) for weight in row.tolist()]


def weight_shade(weight: float) -> int:
    """Returns the shade of a weight, 0 to 9: 0 where its percent is shown as 0."""
    return 0 if weight < 0.005 else shade(min(weight, 1.0), 1.0)


def _looks_at(row: np.ndarray, labels: Sequence[str]) -> list[tuple[str, str]]:
    best = np.argsort(-row, kind="stable")[:_MOST_NAMED].tolist()
    return [(labels[i], percent(row[i])) for i in best if row[i] >= 0.01] or [
        (labels[i], percent(row[i])) for i in best[:1]
    ]


def _labels(tokens: Sequence[str]) -> list[str]:
    return list(map(label, tokens))


# The beam as a drawing.

_STEP_WIDTH, _SLOT_HEIGHT, _MARGIN = 92, 46, 34


@dataclass(frozen=True)
class _Node:
    """A hypothesis in the drawing; ``path``: a line to it from its parent."""

    x: float
    y: float
    label: str
    log_probability: float
    kind: Literal["best", "kept", "dropped", "stays"]
    path: str
    is_end: bool


@dataclass(frozen=True)
class _BeamDrawing:
    """A beam: its steps from left to right, the best hypotheses above."""

    width: int
    height: int
    nodes: list[_Node]
    border: float
    steps: Sequence[BeamStep]
    left_out: int

    @classmethod
    def of(cls, one: Explanation) -> "_BeamDrawing":
        steps = one.beam[:_MOST_BEAM_STEPS]
        size = max(len(step.kept) for step in steps)
        dropped = max(len(step.dropped) for step in steps)
        nodes = [
            node
            for time, step in enumerate(steps)
            for node in _nodes(time, step, one.path[time], size)
        ]
        return cls(
            width=(len(steps) + 1) * _STEP_WIDTH,
            height=(size + dropped) * _SLOT_HEIGHT + 2 * _MARGIN,
            nodes=sorted(nodes, key=lambda node: node.kind == "best"),
            border=_y(size) - 0.5 * _SLOT_HEIGHT,
            steps=steps,
            left_out=len(one.beam) - len(steps),
        )


def _nodes(time: int, step: BeamStep, best: int, size: int) -> Iterator[_Node]:
    for slot, branch in enumerate(step.kept):
        kind = "stays" if branch.token is None else "kept"
        yield _node(time, slot, branch, "best" if slot == best else kind)
    for slot, branch in enumerate(step.dropped, start=size):
        yield _node(time, slot, branch, "dropped")


def _node(time: int, slot: int, branch: Branch, kind: Any) -> _Node:
    x, y = _x(time + 1), _y(slot)
    start_x, start_y = _x(time), _y(branch.parent if time else 0)
    middle = (start_x + x) / 2
    path = f"M{start_x + 26} {start_y}C{middle} {start_y} {middle} {y} {x - 26} {y}"
    shown = label(branch.token or "")
    return _Node(x, y, shown, branch.log_probability, kind, path, not branch.token)


def _x(time: int) -> float:
    return (time + 0.5) * _STEP_WIDTH


def _y(slot: int) -> float:
    return _MARGIN + (slot + 0.5) * _SLOT_HEIGHT


# Questions.


def _questions(one: Explanation) -> Iterator[tuple[str, str]]:
    """Yields questions about what is on the page, with their answers."""
    if one.weights is None or not one.weights.size:
        return
    columns = one.weights.shape[1]
    yield (
        "Add up a row of the map, then a column. Which one gives 100 %, and why?",
        "Every row does: the softmax of a step shares out 100 % among the source "
        "tokens. A column need not: a source token may be looked at in several steps, "
        "or in none.",
    )
    if one.steps:
        unsure = max(range(len(one.steps)), key=lambda i: one.steps[i].entropy)
        step = one.steps[unsure]
        first, second = (
            f"{token.text or _END} ({percent(token.probability)})"
            for token in (*step.likeliest, *step.likeliest)[:2]
        )
        yield (
            "In which step was the model least sure, and between which tokens?",
            f"In step {unsure + 1}: {first} before {second}. The entropy is "
            f"{step.entropy:.2f} bits, as if it chose among "
            f"{2**step.entropy:.1f} tokens that are equally likely.",
        )
    if one.scale is not None:
        limit = 1 / (1 + (columns - 1) * np.exp(-2))
        yield (
            "At scale 1 no percentage gets large, however alike two outputs are. Why?",
            f"A cosine lies between −1 and 1. Even if one token had the cosine 1 and "
            f"all others −1, e¹ ÷ (e¹ + {columns - 1} · e⁻¹) = {percent(limit)} would "
            f"be the most among {columns} tokens. Times {one.scale:.1f}, the scale "
            f"that this model has learned, the differences are large enough.",
        )
        yield (
            "Two encoder outputs point in the same direction, but one is twice as "
            "long. Which gets more attention from the cosine, and which from a dot "
            "product?",
            "The cosine divides by the lengths, so both get the same. A dot product "
            "doubles with the length: it would prefer the longer one, if the product "
            "is positive.",
        )
    yield (
        "What would a model without attention have to do here?",
        f"Keep all {columns} source tokens in one vector, the encoder's final state, "
        f"and remember them until the last step. With --compare RUN a model that was "
        f"trained with model.attention.score=none stands beside this one.",
    )
