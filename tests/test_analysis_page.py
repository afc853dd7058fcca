"""Tests of the page of an analysis, and of what all pages share."""

import base64
import hashlib
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
from test_analysis import EXAMPLES, WRONG_A, answers, diagonal, knowledge

from pocketseq.pipeline.analysis.analysis import analyse
from pocketseq.pipeline.data.corpora import Corpus
from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.reports import page as pages
from pocketseq.pipeline.reports.analysis_page import analysis_page, marked
from pocketseq.pipeline.reports.findings import findings
from pocketseq.pipeline.reports.heat import heat_maps, heat_symbols
from pocketseq.pipeline.reports.page import check_place, render, shade, write_page

HOSTILE = [
    ("<script>alert(1)</script>", ["A <b> &amp;"], "A </script>", "A"),
    ("\"'>&", ["Q"], "<!-- K", "]]>"),
    ("שלום", ["\u05e9\u05c1 B"], "\u05c1 B", "B"),
    (" \u202e a\u0000", ["A"], "\u202e", ""),
]

VOID = {"meta", "link", "br", "input", "rect", "line", "circle", "polyline"}


class Page(HTMLParser):
    """A page as a browser reads it: elements, ids, texts; every tag must be closed."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.html = html
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        assert len({name for name, _ in attributes}) == len(attributes), attributes
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag, self.getpos()

    def handle_data(self, data):
        for tag in dict.fromkeys(self._open):
            self.texts[tag][-1] += data

    def attributes(self, name):
        return [found[name] for _, found in self.elements if name in found]

    def all(self, tag):
        return [found for name, found in self.elements if name == tag]


@pytest.fixture(scope="module", autouse=True)
def _few_resamples():
    """Intervals are tested elsewhere; here they only have to be there."""
    with pytest.MonkeyPatch.context() as patch:
        name = "pocketseq.pipeline.analysis.significance._RESAMPLES"
        patch.setattr(name, 50)
        yield


@pytest.fixture(scope="module")
def one():
    model = answers(2, alignment=diagonal)
    return Page(analysis_page(analyse("file.tsv", [model])))


@pytest.fixture(scope="module")
def two():
    models = [answers(2, alignment=diagonal), answers(3, alignment=diagonal)]
    return Page(analysis_page(analyse("file.tsv", models)))


@pytest.fixture(scope="module")
def hostile():
    models = [answers(2, examples=HOSTILE), answers(3, examples=HOSTILE)]
    return Page(analysis_page(analyse("<file>&.tsv", models)))


@pytest.fixture(scope="module", params=["one", "two", "hostile"])
def any_page(request):
    return request.getfixturevalue(request.param)


# What holds for every page.


def test_a_page_loads_nothing(any_page):
    tags = {tag for tag, _ in any_page.elements}
    assert not tags & {"link", "img", "iframe", "object", "embed", "base", "form"}
    assert any_page.attributes("src") == []
    for link in any_page.attributes("href"):
        assert link.startswith("#")
    assert "@import" not in any_page.html and "url(" not in any_page.html


def test_the_policy_allows_what_stands_in_the_page_and_nothing_else(any_page):
    (policy,) = [
        found["content"]
        for found in any_page.all("meta")
        if found.get("http-equiv") == "Content-Security-Policy"
    ]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    for rule, tag in (("style-src", "style"), ("script-src", "script")):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", any_page.html, re.S)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    inline = {n for _, found in any_page.elements for n in found if n[:2] == "on"}
    assert inline == set() and any_page.attributes("style") == []


def test_names_of_places_are_unique_and_every_reference_to_one_leads_there(any_page):
    places = Counter(any_page.attributes("id"))
    assert set(places.values()) == {1}
    named = [link[1:] for link in any_page.attributes("href")]
    named += any_page.attributes("aria-labelledby")
    named += any_page.attributes("data-table")
    assert set(named) <= set(places)


def test_tables_can_be_read_and_scrolled_without_eyes_and_mouse(any_page):
    for head in any_page.all("th"):
        assert head["scope"] in ("col", "row")
    for found in [f for f in any_page.all("div") if f.get("class") == "scroll"]:
        assert found["tabindex"] == "0" and found["role"] == "region"
        assert found.get("aria-label") or found.get("aria-labelledby")
    for drawing in any_page.all("svg"):
        assert drawing.get("aria-hidden") == "true" or drawing["aria-label"]


def test_headings_go_down_one_level_at_a_time(any_page):
    levels = [
        int(tag[1]) for tag, _ in any_page.elements if re.fullmatch("h[1-6]", tag)
    ]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b <= a + 1 for a, b in zip(levels, levels[1:], strict=False))


def test_without_scripts_everything_is_there_but_the_tools(one):
    tools = [f for f in one.all("div") if "tools" in f.get("class", "").split()]
    assert len(tools) == 1 and all("hidden" in found for found in tools)
    assert not any("hidden" in found for found in one.all("tr"))
    assert one.all("button") == []


def test_texts_cannot_become_markup(hostile):
    assert len(hostile.all("script")) == 1
    texts = "".join(hostile.texts["bdi"])
    assert "<script>alert(1)</script>" in texts
    assert "</script>" in texts and "<!-- K" not in hostile.texts["script"][0]
    assert "<file>&.tsv" in hostile.texts["dd"][-1]
    assert "\u202e" not in hostile.html and "\0" not in hostile.html


# What the page of an analysis shows.


def rows_of(page):
    """The texts of the rows of the list of errors."""
    return [text for text in page.texts["tr"]][-sum(WRONG_A) :]


def test_every_wrong_output_is_in_the_list_the_surest_first(one):
    wrong = [e[0] for e, is_wrong in zip(EXAMPLES, WRONG_A, strict=True) if is_wrong]
    assert [row.split("\n")[0].strip() for row in rows_of(one)] != []
    for row, source in zip(rows_of(one), wrong, strict=True):
        assert row.startswith(source)


def test_metrics_and_their_intervals_stand_first(one):
    cards = [text for text in one.texts["li"] if "95 %:" in text]
    assert cards[0].startswith("66.67 WER")
    assert cards[1].startswith("25.00 PER")  # 4 edits in 16 symbols


def test_of_two_models_each_row_says_who_is_right(two):
    rights = [found["data-right"] for found in two.all("tr") if "data-right" in found]
    assert Counter(rights) == {"A": 1, "B": 2, "none": 2}
    assert rights[-2:] == ["none", "none"]  # what both get wrong comes last


def test_marks_show_what_is_wrong():
    html = marked(["A", "X", "C"], {1}, "word")
    assert html == '<bdi class="text">A <mark>X</mark> C</bdi>'
    assert marked(["a", " ", "<"], {1, 2}, "character") == (
        '<bdi class="text">a<mark>␣</mark><mark>&lt;</mark></bdi>'
    )
    assert marked([], set(), "word") == '<bdi class="text"></bdi>'


@pytest.mark.parametrize("letter", ["e\u0301", "कि", "한", "क\u094d\u0937"])
def test_a_letter_is_not_torn_from_its_marks(letter):
    symbols = ["x", *letter, "y"]
    html = marked(symbols, {len(symbols) - 2}, "character")
    inside = re.findall("<mark>(.*?)</mark>", html)
    assert len(inside) == 1 and letter.endswith(inside[0])
    assert not inside[0].startswith("◌")


def test_a_page_with_no_error_says_so(tmp_path):
    right = [("ab", ["A B"], "A B", "A B")]
    html = analysis_page(analyse("file.tsv", [answers(2, examples=right)]))
    assert "No output is wrong." in html
    Page(html)


def test_the_list_of_errors_ends_somewhere(monkeypatch):
    monkeypatch.setattr("pocketseq.pipeline.reports.analysis_page._MOST_ERRORS", 3)
    html = analysis_page(analyse("file.tsv", [answers(2)]))
    assert "1 more are left out here." in html
    assert html.count("<tr data-right") == 3


@pytest.mark.parametrize("kind", ["word", "character", "wordpiece"])
def test_every_kind_of_target_has_a_page(kind):
    models = [answers(2, kind=kind), answers(3, kind=kind)]
    for some in (models[:1], models):
        Page(analysis_page(analyse("file.tsv", some)))


# Heat maps.


def test_symbols_of_a_heat_map_are_those_most_often_confused():
    counts = Counter({("a", "b"): 9, ("c", "d"): 5, ("d", ""): 2, ("", "e"): 1})
    counts |= Counter({(f"x{i}", f"y{i}"): 1 for i in range(40)})
    found = heat_symbols(counts)
    assert found[:2] == ["a", "b"] and set(found[2:4]) == {"c", "d"}
    assert found[-1] == "" and len(found) == 15 and len(set(found)) == 15


def test_symbols_that_are_confused_stand_side_by_side():
    counts = Counter({("a", "c"): 9, ("c", "e"): 8, ("b", "d"): 7, ("e", "a"): 1})
    assert heat_symbols(counts) == ["c", "a", "e", "b", "d", ""]


def test_no_confusions_have_no_map():
    assert heat_symbols(Counter()) == []


def test_the_maps_of_two_models_count_each_models_confusions():
    models = [answers(2), answers(3)]
    found = heat_maps(analyse("file.tsv", models))
    place = {symbol: i for i, symbol in enumerate(found.symbols)}
    first, second = found.maps
    assert first[place["B"]][place["X"]].count == 1
    assert second[place["B"]][place["X"]].count == 0
    assert second[place["Z"]][place["X"]].count == 1
    for model, cells in zip(models, found.maps, strict=True):
        total = sum(cell.count for row in cells for cell in row)
        assert total == sum(map(len, model.edits))


def test_more_is_darker_and_one_is_not_white():
    shades = [shade(count, 100) for count in (0, 1, 10, 50, 100)]
    assert shades == sorted(set(shades)) and (shades[0], shades[-1]) == (0, 9)


# Findings.


def sentences(*models):
    texts = [str(one) for one in findings(analyse("file.tsv", models))]
    return [re.sub("<[^>]*>", "", text) for text in texts]


def test_findings_name_what_the_model_cannot_know():
    known = knowledge(target="ABCQKX")
    found = "\n".join(sentences(answers(2, known)))
    assert "1 of 6 sources (17 %) have symbols that the model does not know" in found
    assert "100 % of those are wrong, 60 % of the others" in found
    assert "1 of 6 references (17 %) have symbols that the model has never" in found
    assert "4 of 4 wrong outputs (100 %) are one symbol off." in found


def test_findings_see_that_rare_symbols_are_wrong(tmp_path):
    path = tmp_path / "train.tsv"
    path.write_text("a\tA\n" * 20 + "b\tC\n")
    known = knowledge(training=Corpus(str(path)))
    common = [("a" * n, ["A"], "A", "") for n in range(1, 21)]
    rare = [("b" * n, ["B"], "A", "") for n in range(1, 21)]
    found = "\n".join(sentences(answers(2, known, examples=common + rare)))
    assert "20 of 40 sources (50 %) have a symbol that training saw fewer than" in found
    assert "100 % of those are wrong, 0 % of the others." in found
    assert "2 of 40 sources (5 %) are among the training pairs, 1 of them" in found


def test_findings_of_two_say_who_alone_is_right():
    found = sentences(answers(2), answers(3))
    assert found[0] == "Only A gets 1 right, only B gets 2 right."


# Files.


def test_a_page_is_written_and_replaced(tmp_path):
    path = tmp_path / "page.html"
    write_page(path, analysis_page(analyse("file.tsv", [answers(2)])))
    first = path.read_text(encoding="utf-8")
    write_page(path, analysis_page(analyse("file.tsv", [answers(3)])))
    assert path.read_text(encoding="utf-8") != first
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"", b"<html><title>mine</title>", b"\xff\xfe"])
def test_nothing_else_is_replaced_by_a_page(tmp_path, content):
    path = tmp_path / "mine.html"
    path.write_bytes(content)
    with pytest.raises(UserError, match="is not a page of this program"):
        write_page(path, "<!doctype html>")
    assert path.read_bytes() == content


def test_a_place_is_checked_before_the_work(tmp_path):
    with pytest.raises(UserError, match="no folder"):
        check_place(tmp_path / "none" / "page.html")
    with pytest.raises(UserError, match="is not a page"):
        check_place(tmp_path)
    check_place(tmp_path / "new.html")


# Colours.

STYLES = Path(pages.__file__).with_name("templates")


def luminance(colour):
    """The relative luminance of ``#rrggbb``, as WCAG 2.2 defines it."""
    if len(colour) == 4:
        colour = "#" + "".join(2 * digit for digit in colour[1:])
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [
        p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts
    ]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(first, second):
    light, dark = sorted(map(luminance, (first, second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def schemes(name):
    """The rules of a style sheet for light and for dark screens."""
    text = (STYLES / name).read_text(encoding="utf-8")
    dark = "".join(re.findall(r"scheme: dark\) \{(.*?)\n\}", text, re.S))
    light = re.sub(r"@media[^{]*scheme: dark\) \{.*?\n\}", "", text, flags=re.S)
    return {"light": light, "dark": dark}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_on_its_background(scheme):
    found = dict(re.findall(r"--([\w-]+): (#\w+)", schemes("base.css")[scheme]))
    for ink in ("ink", "quiet", "accent", "a", "b"):
        assert contrast(found[ink], found["paper"]) >= 4.5, ink
    assert contrast(found["quiet"], found["panel"]) >= 4.5
    assert contrast(found["mark-ink"], found["mark"]) >= 4.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_numbers_can_be_read_on_every_shade_and_shades_go_one_way(scheme):
    text = schemes("shades.css")[scheme]
    backgrounds: dict[int, str] = {}
    inks: dict[int, str] = {}
    for selectors, body in re.findall(r"([^{}]*)\{([^}]*)\}", text):
        for number in map(int, re.findall(r"\.s(\d)", selectors)):
            for name, value in re.findall(r"([\w-]+): (#\w+)", body):
                (backgrounds if name == "background" else inks)[number] = value
    assert set(backgrounds) == set(inks) == set(range(1, 10))
    for number, background in backgrounds.items():
        assert contrast(background, inks[number]) >= 4.5, number
    levels = [luminance(backgrounds[number]) for number in range(1, 10)]
    assert levels == sorted(levels, reverse=scheme == "light")


def test_a_page_of_another_template_shares_the_base():
    html = render("base.html")
    assert "script-src 'none'" in html.replace("&#39;", "'")
    assert "<script" not in html
    Page(html)
