import io
import subprocess
import sys
import warnings
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.image import imread

from pocketseq.pipeline.reports.pictures import attention_picture

HOSTILE = {
    "emoji": "😀👩‍🔬",
    "formula": "$x^2$",
    "broken formula": "$\\frac{",
    "percent": "%s %(a)d {} {0}",
    "markup": "<b>&amp;</b>]]>",
    "lines": "a\nb\r\nc\u2028d",
    "NUL": "\0",
    "escape": "\x1b[31mred",
    "Hebrew": "שלום",
    "Arabic": "مرحبا",
    "right-to-left override": "\u202eabc",
    "Devanagari": "हिन्दी",
    "Japanese": "日本語",
    "combining": "\u0301",
    "many combining": "a" + "\u0301" * 500,
    "joiner": "\u200d",
    "lone surrogate": "\ud800",
    "no character": "\uffff\U0010ffff",
    "private": "\ue000",
    "long": "x" * 100_000,
    "empty": "",
    "spaces": "   \u00a0\u3000",
}


def pixels(data):
    """Decodes a PNG: brightness in [0, 1], ``(height, width)``."""
    return imread(io.BytesIO(data))[..., :3].mean(axis=-1)


def texts(data):
    """Returns the texts of an SVG, as they are drawn, and where most of them are."""
    found = ElementTree.fromstring(data).iter("{http://www.w3.org/2000/svg}text")
    return [(t.text or "", float(t.get("x", 0)), float(t.get("y", 0))) for t in found]


def words(data):
    return [text for text, _, _ in texts(data)]


def blank_picture(weights):
    rows, columns = np.shape(weights)
    return pixels(attention_picture([""] * columns, [""] * rows, weights))


def place_of_cell(rows, columns, row, column):
    """Finds where a cell lies: where the picture changes with its weight alone.

    Returns its top, bottom, left and right, in pixels, the last ones included.
    """
    weights = np.zeros((rows, columns))
    white = blank_picture(weights)
    weights[row, column] = 1.0
    changed = np.argwhere(blank_picture(weights) != white)
    (top, left), (bottom, right) = changed.min(axis=0), changed.max(axis=0)
    return top, bottom, left, right


# Cells.


@pytest.mark.parametrize(("rows", "columns"), [(3, 4), (2, 22), (24, 2)])
def test_rows_are_targets_from_above_and_columns_are_sources_from_the_left(
    rows, columns
):
    places = {
        (i, j): place_of_cell(rows, columns, i, j)
        for i, j in [(0, 0), (1, 0), (0, 1), (rows - 1, columns - 1)]
    }
    top, bottom, left, right = places[0, 0]
    below, beside = places[1, 0][0] - top, places[0, 1][2] - left
    assert below == pytest.approx(beside, abs=1)  # squares
    for (i, j), place in places.items():
        expected = np.array([top, bottom, left, right], float)
        expected += [i * below, i * below, j * beside, j * beside]
        # A pixel of rounding for each cell at most.
        np.testing.assert_allclose(place, expected, atol=1 + max(i, j))
    assert bottom - top >= 0.9 * below and right - left >= 0.9 * beside


def test_no_attention_is_white_and_more_is_darker():
    # More columns than have percents.
    row = np.linspace(0, 1, 26)[None]
    top, bottom, left, right = place_of_cell(1, 26, 0, 0)
    _, _, last_left, last_right = place_of_cell(1, 26, 0, 25)
    middles = np.linspace(left + right, last_left + last_right, 26) / 2
    brightness = blank_picture(row)[(top + bottom) // 2, middles.astype(int)]
    assert brightness[0] == 1.0
    assert brightness[-1] < 0.3
    assert np.all(np.diff(brightness) < -0.01)


def test_a_colour_means_the_same_in_all_pictures():
    row = np.full((1, 25), 0.04)
    top, bottom, left, right = place_of_cell(1, 25, 0, 3)
    middle = (top + bottom) // 2, (left + right) // 2
    flat = blank_picture(row)[middle]
    for number in (1.0, 0.0):
        row[0, 20] = number
        assert blank_picture(row)[middle] == flat


def test_few_cells_carry_percents_and_need_no_colour_bar():
    weights = np.array([[0.996, 0.004], [0.126, 0.874], [0, 1]])
    found = attention_picture("ab", "xyz", weights, format="svg")
    expected = ["100%", "13%", "87%", "100%"]
    assert [word for word in words(found) if "%" in word] == expected


def test_many_cells_carry_a_colour_bar_and_no_percents():
    weights = np.full((30, 25), 0.04)
    found = words(attention_picture("a" * 25, "b" * 30, weights, format="svg"))
    assert [word for word in found if "%" in word] == ["100 %"]
    assert "attention" in found


@pytest.mark.parametrize("number", [np.nan, -0.1, 1.1, np.inf])
def test_weights_that_are_no_share_are_an_error(number):
    with pytest.raises(ValueError, match=r"expected numbers in \[0, 1\], received"):
        attention_picture("ab", "x", np.array([[0.5, number]]))


def test_the_rounding_of_float32_is_no_error():
    weights = np.array([[1.0000002, -1e-9]], np.float32)
    assert words(attention_picture("ab", "x", weights, format="svg")).count("100%") == 1


@pytest.mark.parametrize("shape", [(2, 3), (3,), (0, 2), (1, 3, 2)])
def test_weights_of_another_shape_are_an_error_that_names_both(shape):
    with pytest.raises(ValueError) as error:
        attention_picture("ab", "xyz", np.zeros(shape))
    assert "(target tokens, source tokens) = (3, 2)" in str(error.value)
    assert f"received {shape}" in str(error.value)


def test_another_format_is_an_error():
    with pytest.raises(ValueError, match="expected 'png' or 'svg', received 'gif'"):
        attention_picture("a", "b", np.ones((1, 1)), format="gif")  # type: ignore[arg-type]


# Labels.


def test_sources_stand_in_a_line_above_and_targets_in_a_column_at_the_left():
    weights = np.full((3, 4), 0.25)
    found = {
        text: (x, y)
        for text, x, y in texts(
            attention_picture("abcd", "xyz", weights, title="T", format="svg")
        )
        if "%" not in text
    }
    sources = np.array([found[label] for label in "abcd"])
    targets = np.array([found[label] for label in "xyz"])
    assert np.all(np.diff(sources[:, 0]) > 30) and np.ptp(sources[:, 1]) < 1
    assert np.all(np.diff(targets[:, 1]) > 30) and np.ptp(targets[:, 0]) < 1
    assert targets[:, 0].max() < sources[:, 0].min()
    assert sources[:, 1].max() < targets[:, 1].min()
    assert found["T"][1] < found["source"][1] < sources[:, 1].min()


def test_labels_of_many_cells_stand_on_both_sides():
    source = [f"s{i}" for i in range(40)]
    target = [f"t{i}" for i in range(50)]
    found = words(attention_picture(source, target, np.zeros((50, 40)), format="svg"))
    for label in source + target:
        assert found.count(label) == 2


def test_labels_too_many_to_be_read_give_way_to_positions():
    weights = np.zeros((256, 384))
    found = words(attention_picture("a" * 384, "b" * 256, weights, format="svg"))
    assert "a" not in found and "b" not in found
    for position in ("1", "25", "375"):
        assert position in found
    assert found.count("250") == 4 and found.count("275") == 2


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        (" ", "␣"),
        ("a b", "a␣b"),
        ("a\nb\tc", "a↵b⇥c"),
        ("\0", "U+0000"),
        ("a\x7f", "aU+007F"),
        ("\u200d", "U+200D"),
        ("\u3000", "U+3000"),
        ("\ud800", "U+D800"),
        ("a\uffff", "aU+FFFF"),
        ("a\ue000", "aU+E000"),
        ("\u0301", "◌\u0301"),
        ("e\u0301", "e\u0301"),
        ("क्\u200dष", "क्\u200dष"),
        ("$x^2$", "$x^2$"),
        ("\\alpha", "\\alpha"),
        ("</s>", "</s>"),
        ("שלום", "שלום"),
        ("x" * 20, "x" * 20),
        ("x" * 21, "x" * 19 + "…"),
    ],
)
def test_a_label_is_taken_literally_and_never_invisible(label, shown):
    found = words(attention_picture([label], ["y"], np.ones((1, 1)), format="svg"))
    assert shown in found
    found = words(attention_picture(["y"], [label], np.ones((1, 1)), format="svg"))
    assert shown in found


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_no_text_raises_or_warns(text):
    weights = np.full((2, 3), 1 / 3)
    labels = [text, "b", text], [text, "y"]
    height, width = pixels(attention_picture(*labels, weights, title=text)).shape
    assert 200 < height < 1500 and 200 < width < 1500
    words(attention_picture(*labels, weights, title=text, format="svg"))


def test_what_is_done_with_warnings_elsewhere_stays():
    before = warnings.filters[:]
    attention_picture(["日"], ["本"], np.ones((1, 1)))
    assert warnings.filters == before


@pytest.mark.parametrize(("source", "target"), [("", ""), ("ab", ""), ("", "xyz")])
@pytest.mark.parametrize("format", ["png", "svg"])
def test_empty_texts_give_an_empty_picture(source, target, format):
    for weights in (np.zeros((len(target), len(source))), np.zeros(0)):
        data = attention_picture(source, target, weights, title="T", format=format)
        if format == "svg":
            assert set(source + target) <= set(words(data))
        else:
            assert pixels(data).shape > (100, 100)


def test_a_long_title_does_not_widen_the_picture():
    title = "the quick brown fox " * 50
    plain, titled = (
        pixels(attention_picture("a" * 12, "b" * 12, np.zeros((12, 12)), title=t))
        for t in ("", title)
    )
    assert titled.shape[1] < 1.1 * plain.shape[1]
    assert titled.shape[0] > plain.shape[0]


# The file.


@pytest.mark.parametrize(
    ("rows", "columns"),
    [(1, 1), (14, 12), (40, 40), (60, 70), (128, 160), (384, 256)]
    + [(1, 1000), (1000, 1)],
)
def test_a_picture_is_neither_tiny_nor_huge(rows, columns):
    weights = np.zeros((rows, columns))
    for label in ("", "W" * 50):
        data = attention_picture([label] * columns, [label] * rows, weights)
        height, width = pixels(data).shape
        assert 100 <= height <= 3000 and 100 <= width <= 3000
        assert len(data) < 2e6


def test_more_cells_make_a_larger_picture():
    sizes = [pixels(attention_picture("a" * n, "b" * n, np.zeros((n, n)))).shape
             for n in (3, 6, 12, 20)]  # fmt: skip
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("format", ["png", "svg"])
def test_equal_input_gives_equal_bytes_whatever_the_settings_of_a_user(format):
    def draw():
        return attention_picture(
            ["a", "$b$"], ["x"], np.array([[0.3, 0.7]]), title="t", format=format
        )

    first = draw()
    changed: dict = {
        "axes.grid": True,
        "figure.facecolor": "black",
        "font.size": 30,
        "image.origin": "lower",
        "savefig.transparent": True,
        "text.usetex": True,
    }
    with matplotlib.rc_context(changed):
        before = dict(matplotlib.rcParams)
        assert draw() == first
        assert dict(matplotlib.rcParams) == before


def test_matplotlib_is_imported_only_to_draw_and_pyplot_never():
    code = (
        "import sys;"
        "from pocketseq.pipeline.reports.pictures import attention_picture as draw;"
        "assert 'matplotlib' not in sys.modules; draw('a', 'b', [[1]]);"
        "assert 'matplotlib' in sys.modules;"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
