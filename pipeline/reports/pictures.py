"""Pictures of attention, for people."""

import io
import textwrap
import unicodedata
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from pocketseq.pipeline.reports.page import check_place
from pocketseq.pipeline.reports.signs import visible

# Of matplotlib, which is imported late, and whose types are wider than what is here.
_Figure: TypeAlias = Any
_Axes: TypeAlias = Any
_Axis: TypeAlias = Any

# White is no attention. The steps look even, and a tenth is already visible.
_COLOURS = [
    (0.0, "#ffffff"),
    (0.1, "#d9e8f5"),
    (0.35, "#8cbfe2"),
    (0.65, "#3484bf"),
    (1.0, "#08306b"),
]
_INK, _QUIET_INK, _LINES = "#1f2933", "#7b8794", "#dde3ea"

# By this a picture is known again, so that nothing else is ever replaced by one.
_CREATOR = "Pocketseq"

_DOTS_PER_INCH = 150
# Inches. However many cells there are, they fit into the largest side.
_CELL_WITH_PERCENT, _CELL_WITHOUT, _LARGEST_SIDE = 0.5, 0.32, 13.0
# Points. Labels that would be smaller give way to positions.
_LARGEST_LABEL, _SMALLEST_LABEL = 11.0, 4.4
_NUMBER_EVERY = 25
_LONGEST_LABEL, _LONGEST_TITLE = 20, 200  # characters; the rest is cut
_MOST_WITH_PERCENTS = 20  # rows or columns; with more, percents would be noise
_MOST_WITH_ONE_SIDE = 30  # with more, labels stand on the far sides too

# Those that are installed are used; the first and the last come with matplotlib.
_FONTS = (
    "DejaVu Sans",
    "Noto Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans CJK KR",
    "Noto Sans Arabic",
    "Noto Sans Hebrew",
    "Noto Sans Devanagari",
    "Noto Sans Bengali",
    "Noto Sans Tamil",
    "Noto Sans Telugu",
    "Noto Sans Thai",
    "Noto Sans Ethiopic",
    "Noto Sans Symbols2",
    "Arial Unicode MS",  # macOS: most scripts
    "STIXGeneral",
)


def attention_picture(
    source_labels: Iterable[str],
    target_labels: Iterable[str],
    weights: np.ndarray,
    *,
    title: str = "",
    format: Literal["png", "svg"] = "png",
) -> bytes:
    """Draws attention as a heat map.

    One row per target token, one column per source token; the darker a cell, the more
    the target token looked at the source token. The colours mean the same in all
    pictures: white is 0, the darkest is 1. Few cells carry percents, many a colour bar.
    Labels too many to be read give way to positions, counted from 1.

    Args:
        source_labels: The source tokens, as text: any text.
        target_labels: The target tokens.
        weights: ``(target tokens, source tokens)``, each in [0, 1].
        title: A line above; "": none.
        format: ``"png"`` (at most 3,000 pixels per side) or ``"svg"`` (its text stays
            text, so that a browser finds the fonts).

    Returns:
        The bytes of the file.

    Raises:
        ValueError: The weights have another shape or are not in [0, 1], or the format
            is another.
    """
    # Here, because it takes a while and few need it. Not pyplot: that keeps figures.
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if format not in ("png", "svg"):
        raise ValueError(f"format: expected 'png' or 'svg', received {format!r}")
    source_labels = list(map(_label, source_labels))
    target_labels = list(map(_label, target_labels))
    weights = _checked(weights, (len(target_labels), len(source_labels)))
    with matplotlib.rc_context(), warnings.catch_warnings():
        # A character that no font has is drawn as a box: nothing else can be done.
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from", UserWarning)
        matplotlib.rcdefaults()  # no user's settings
        matplotlib.rcParams.update(_settings())
        figure = Figure(dpi=_DOTS_PER_INCH)
        FigureCanvasAgg(figure)
        axes = _draw_cells(figure, weights)
        _draw_labels(axes, source_labels, target_labels)
        _draw_title_and_scale(axes, _cut(visible(title), _LONGEST_TITLE))
        file = io.BytesIO()
        # Without a date: equal input, equal bytes.
        metadata = {"Creator": _CREATOR, "Date": None}
        if format == "png":
            metadata = {"Software": _CREATOR}
        figure.savefig(
            file, format=format, bbox_inches="tight", pad_inches=0.2, metadata=metadata
        )
    return file.getvalue()


def check_picture_place(path: str | Path) -> None:
    """Checks that a picture can be written to a path without a loss.

    Raises:
        UserError: Its folder does not exist, or something stands there that is not a
            picture of this program.
    """
    check_place(path, what="picture", mark=_CREATOR)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _label(token: str) -> str:
    return _cut(visible(token).replace(" ", "␣"), _LONGEST_LABEL)


def _checked(weights: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Returns the weights as an array if they are attention of that shape.

    Raises:
        ValueError: They are not.
    """
    weights = np.asarray(weights, np.float64)
    if 0 in shape and weights.size == 0:
        return np.zeros(shape)
    if weights.shape != shape:
        raise ValueError(
            f"weights: expected the shape (target tokens, source tokens) = {shape}, "
            f"received {weights.shape}"
        )
    # Sums of rounded numbers may leave [0, 1] by a hair; NaN may not.
    if not np.all((weights >= -1e-3) & (weights <= 1 + 1e-3)):
        raise ValueError(
            f"weights: expected numbers in [0, 1], received some from "
            f"{weights.min():.4g} to {weights.max():.4g}"
        )
    return weights


def _settings() -> dict[Any, Any]:
    """Returns the settings of matplotlib for these pictures."""
    from matplotlib.font_manager import fontManager

    installed = set(fontManager.get_font_names())
    return {
        "font.family": [name for name in _FONTS if name in installed],
        "text.parse_math": False,  # "$" is a token like any other
        "text.color": _INK,
        "axes.edgecolor": _LINES,
        "axes.labelcolor": _QUIET_INK,
        "xtick.labelcolor": _INK,
        "ytick.labelcolor": _INK,
        "svg.fonttype": "none",
        "svg.hashsalt": "attention",
    }


def _draw_cells(figure: _Figure, weights: np.ndarray) -> _Axes:
    """Makes the figure just as large as its cells, and draws them."""
    from matplotlib.colors import LinearSegmentedColormap

    rows, columns = (max(size, 1) for size in weights.shape)
    few = max(rows, columns) <= _MOST_WITH_PERCENTS
    cell = _CELL_WITH_PERCENT if few else _CELL_WITHOUT
    cell = min(cell, _LARGEST_SIDE / max(rows, columns))
    figure.set_size_inches(columns * cell, rows * cell)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(
        weights if weights.size else np.zeros((rows, columns)),
        cmap=LinearSegmentedColormap.from_list("attention", _COLOURS),
        vmin=0.0,
        vmax=1.0,
        aspect="auto",
        interpolation="none",
    )
    if cell * 72 >= _SMALLEST_LABEL:  # lines closer together would hide the cells
        axes.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
        axes.grid(which="minor", color=_LINES, linewidth=min(0.8, cell * 2))
    if few:
        for (row, column), weight in np.ndenumerate(weights):
            if weight >= 0.005:
                axes.text(
                    column,
                    row,
                    f"{weight:.0%}",
                    size=8.5,
                    ha="center",
                    va="center_baseline",
                    color="white" if weight > 0.6 else _INK,
                )
    axes.tick_params(which="both", length=0)
    return axes


def _draw_labels(
    axes: _Axes, source_labels: Sequence[str], target_labels: Sequence[str]
) -> None:
    """Writes the tokens, or their positions, at the edges."""
    columns, rows = len(source_labels), len(target_labels)
    cell = axes.figure.get_figwidth() / max(columns, 1) * 72  # points
    size = min(_LARGEST_LABEL, 0.75 * cell)
    if size < _SMALLEST_LABEL:
        for axis, count in ((axes.xaxis, columns), (axes.yaxis, rows)):
            positions = [1, *range(_NUMBER_EVERY, count + 1, _NUMBER_EVERY)]
            axis.set_ticks([p - 1 for p in positions], positions, size=8)
    else:
        axes.set_xticks(range(columns), source_labels, size=size)
        axes.set_yticks(range(rows), target_labels, size=size)
        if max(map(_width, source_labels), default=0) * size > 0.9 * cell:
            _turn(axes.xaxis, slanted=cell > 2 * size)
    axes.tick_params(
        labeltop=True,
        labelbottom=rows > _MOST_WITH_ONE_SIDE,
        labelleft=True,
        labelright=columns > _MOST_WITH_ONE_SIDE,
    )
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("source", size=9, loc="left")
    axes.set_ylabel("target", size=9, loc="top")


def _turn(axis: _Axis, *, slanted: bool) -> None:
    """Turns the labels of the columns, so that each begins or ends at its column."""
    for tick in axis.get_major_ticks():
        below, above = tick.label1, tick.label2
        if slanted:
            above.set(rotation=45, ha="left", va="bottom", rotation_mode="anchor")
            below.set(rotation=45, ha="right", va="top", rotation_mode="anchor")
        else:
            above.set(rotation=90, va="bottom")
            below.set(rotation=90, va="top")


def _width(label: str) -> float:
    """Returns about how wide a label is, as a multiple of its font size."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in label)
    return 0.62 * len(label) + 0.38 * wide


def _draw_title_and_scale(axes: _Axes, title: str) -> None:
    """Adds the title above and, where there are many cells, a colour bar below."""
    figure = axes.figure
    box = axes.get_tightbbox(figure.canvas.get_renderer())
    box = box.transformed(figure.transFigure.inverted())
    inch = 1 / figure.get_figheight()
    if title:
        letters = box.width * figure.get_figwidth() / 0.1  # in a line; inches each
        title = textwrap.fill(title, max(30, int(letters)))
        figure.text(box.x0, box.y1 + 0.12 * inch, title, size=12, va="bottom")
    if max(axes.images[0].get_array().shape) > _MOST_WITH_PERCENTS:
        width, height = 2.0 / figure.get_figwidth(), 0.12 * inch
        place = (0, box.y0 - 0.15 * inch - height, width, height)
        bar = figure.colorbar(
            axes.images[0], cax=figure.add_axes(place), orientation="horizontal"
        )
        bar.set_ticks([0, 0.25, 0.5, 0.75, 1], labels=["0", "25", "50", "75", "100 %"])
        bar.ax.tick_params(labelsize=8, length=0)
        bar.set_label("attention", size=9, loc="left")
