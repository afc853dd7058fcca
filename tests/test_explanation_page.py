"""Tests of the page of an explanation: its data, its tables, its files."""

import dataclasses
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from random_models import random_translator
from test_analysis_page import (  # noqa: F401  What holds for every page.
    Page,
    contrast,
    schemes,
    test_a_page_loads_nothing,
    test_headings_go_down_one_level_at_a_time,
    test_names_of_places_are_unique_and_every_reference_to_one_leads_there,
    test_tables_can_be_read_and_scrolled_without_eyes_and_mouse,
    test_the_policy_allows_what_stands_in_the_page_and_nothing_else,
)
from test_cli import mistake_in, output_of

import pocketseq
from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.explanation import explain_outputs
from pocketseq.pipeline.reports.explanation_page import (
    check_output,
    embedded_json,
    page_data,
    weight_shade,
)
from pocketseq.pipeline.search import LengthBound
from pocketseq.pipeline.translation import Translation

HOSTILE = "</script><script>alert(1)</script> <!-- \u2028 \u202e &amp; \"'> ab"

#: About as long as sentences get: 40 words.
SENTENCE = " ".join(["cab dab ab abc aab bab naïve Straße"] * 5)


def explained(
    text,
    *,
    source="character",
    target="word",
    lengths=(64, 90),
    compare=None,
    **options,
):
    """What a random model tells; with ``compare``, an attention, also another one."""
    options = {"end": -1e4, "length_bound": LengthBound(1.2, 2.0), **options}

    def one(**changes):
        translator = random_translator(
            source, target, lengths=lengths, **(options | changes)
        )
        return translator.explain(text).named("random <model>")

    found = one()
    return found.compared_with(one(attention=compare)) if compare else found


def with_beam():
    translator = random_translator(
        "character", "word", lengths=(24, 90), length_bound=LengthBound(1.0, 2.0)
    )
    return translator.explain("cab", beam_size=3)


def data_of(html):
    """The data of a page, as its script reads it."""
    pattern = r'<script type="application/json" id="explanation">(.*?)</script>'
    (text,) = re.findall(pattern, html, re.DOTALL)
    return json.loads(text)


@pytest.fixture(scope="module")
def found():
    return explained("cab dab")


@pytest.fixture(scope="module")
def html(found):
    return found.html()


@pytest.fixture(scope="module", params=["one", "hostile", "beam", "file"])
def any_page(request, html, hostile):
    if request.param == "file":
        return Page(pocketseq.explain("english-pronunciation", "phone").html())
    pages = {"one": html, "hostile": hostile[1].html}
    return Page(pages.get(request.param) or with_beam().html())


# The data.


@pytest.mark.parametrize("attention", ["cosine", "additive"])
def test_the_page_holds_the_numbers_of_the_model(attention):
    found = explained("cab dab", attention=attention)
    data = data_of(found.html())
    assert (data["text"], data["translation"]) == (found.text, found.translation)
    assert tuple(data["source_tokens"]) == found.source_tokens
    assert tuple(data["target_tokens"]) == found.target_tokens
    weights = np.array(data["weights"])
    np.testing.assert_allclose(weights, found.weights, atol=5e-5)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=5e-4)
    np.testing.assert_allclose(data["similarities"], found.similarities, atol=1e-5)
    for name in ("encoder_outputs", "decoder_outputs", "contexts", "summary"):
        np.testing.assert_allclose(data[name], getattr(found, name), atol=5.1e-4)
    assert data["scale"] == pytest.approx(found.scale, abs=1e-5)
    for step, expected in zip(data["steps"], found.steps, strict=True):
        assert step["probability"] == pytest.approx(expected.probability, abs=1e-4)
        assert step["entropy"] == pytest.approx(expected.entropy, abs=1e-4)
        assert len(step["likeliest"]) == 5


def test_the_softmax_of_the_page_gives_the_weights_of_the_page(found):
    data = page_data(found)
    scores = data["scale"] * np.array(data["similarities"])
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    softmax = powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(data["weights"], softmax, atol=2e-4)


@pytest.mark.parametrize("columns", [99, 138, 199, 243])
@pytest.mark.parametrize("kind", ["even", "random"])
def test_rows_sum_to_1_however_many_and_small_the_weights_are(found, columns, kind):
    random = np.random.default_rng(columns)
    weights = (
        np.ones((300, columns)) if kind == "even" else random.random((300, columns))
    )
    weights /= weights.sum(axis=1, keepdims=True)
    one = explain_outputs([Translation("a", "b", 0.0, weights)], form="file")
    for shown in (one, dataclasses.replace(one, weights=weights[:2])):
        sums = np.sum(page_data(shown)["weights"], axis=1)
        np.testing.assert_allclose(sums, 1, atol=5e-4)


def test_a_model_without_attention_has_even_weights_and_nothing_to_compare():
    found = explained("cab", attention="none")
    data = data_of(found.html())
    assert data["similarities"] is None and data["scale"] is None
    np.testing.assert_allclose(data["weights"], 1 / 3, atol=1e-4)
    assert "every step sees the same summary" in found.html()


def test_another_model_stands_beside():
    html = explained("cab dab", compare="none").html()
    data = data_of(html)
    assert data["other"]["attention"] == "none"
    assert data["other"]["source_tokens"] == data["source_tokens"]
    assert html.count("data-view=") == 2


def test_a_file_says_what_it_cannot_show():
    found = pocketseq.explain("english-pronunciation", "pocketseq")
    html = found.html()
    data = data_of(html)
    assert "This is an exported file." in html
    assert "similarities" not in data and "scale" not in data
    np.testing.assert_allclose(np.sum(data["weights"], axis=1), 1, atol=1e-3)
    assert "".join(data["target_tokens"]) == data["translation"]


def test_an_answer_from_the_dictionary_is_said_to_be_one():
    one = Translation("ab", "A B", 0.0, np.full((3, 2), 0.5))
    for has_exceptions in (True, False):
        found = explain_outputs([one], form="file", has_exceptions=has_exceptions)
        shown = "comes from the dictionary inside the file" in found.html()
        assert shown is has_exceptions


def test_a_file_without_attention_is_said_to_be_one():
    one = Translation("ab", "A B", -0.1, np.full((3, 2), 0.5))
    for attention in ("none", "cosine", None):
        html = explain_outputs([one], form="file", attention=attention).html()
        assert ("has no attention, so the map is even" in html) == (attention == "none")


def test_a_model_that_tells_nothing_and_one_that_writes_nothing_have_pages():
    one = Translation("ab", "A B", -0.1, None)
    html = explain_outputs([one], form="saved_model").html()
    assert "This is a SavedModel." in html and data_of(html)["weights"] is None
    empty = Translation("ab", "", -0.1, np.zeros((0, 2)))
    html = explain_outputs([empty], form="file").html()
    assert "The model wrote nothing." in html and data_of(html)["weights"] == []


# Texts that nobody should write, and long ones.


@pytest.fixture(scope="module")
def hostile():
    found = explained(
        HOSTILE, source="word", target="word", targets=[HOSTILE], compare="none"
    )
    return found, Page(found.html())


def test_texts_cannot_become_markup(hostile):
    found, page = hostile
    assert len(page.all("script")) == 2  # the data, and the script of the page
    assert "alert" not in page.texts["script"][1]
    assert "<script>alert(1)</script>" in "".join(page.texts["bdi"])
    for sign in ("<!--", "\u2028", "\u202e"):
        assert sign not in page.html


def test_hostile_texts_are_whole_in_the_data(hostile):
    found, page = hostile
    data = data_of(page.html)
    assert data["text"] == found.text and data["source_tokens"][0] == HOSTILE.split()[0]
    assert data["other"]["text"] == found.text


def test_json_holds_nothing_that_ends_a_script():
    text = embedded_json(["</script>", "<!--", "&lt;", "\u2028\u2029", "é"])
    assert not set(text) & set("<>&\u2028\u2029") and "é" in text
    assert json.loads(text)[0] == "</script>"


def test_texts_of_any_script_stand_apart_and_single_marks_can_be_seen():
    page = Page(explained("שָׁלוֹם क्षि a").html())
    labels = page.texts["bdi"]
    assert "◌\u05b8" in labels and "␣" in labels and "◌\u094d" in labels


@pytest.mark.parametrize("kind", ["wordpiece", "character"])
def test_the_page_of_40_words_stays_below_a_megabyte_and_has_all_weights(kind):
    found = explained(SENTENCE, source=kind, target=kind, lengths=(256, 384))
    # As wide as the models that are trained for sentences.
    wide = {
        name: np.random.default_rng(1).normal(size=(len(getattr(found, name)), 256))
        for name in ("encoder_outputs", "decoder_outputs", "contexts")
    }
    html = dataclasses.replace(found, **wide).html()
    assert len(found.source_tokens) >= 40 and len(found.target_tokens) >= 40
    assert len(html.encode()) < 1_000_000
    weights = np.array(data_of(html)["weights"])
    assert weights.shape == found.weights.shape
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-3)
    assert bool(re.search(r"The map shows \d+ of \d+ rows", html)) == (
        kind != "wordpiece"
    )


# What can be read without a script.


def test_the_map_and_the_steps_are_tables(found, html):
    page = Page(html)
    percents = [re.findall(r"<td[^>]*>(\d+)</td>", row) for row in html.split("<tr>")]
    shown = [list(map(int, row)) for row in percents if len(row) == len(found.text)]
    np.testing.assert_allclose(shown, 100 * found.weights, atol=0.51)
    assert any("entropy, bits" in text for text in page.texts["thead"])
    for step in found.steps:
        assert f"{step.entropy:.2f}" in html


def test_what_needs_the_script_is_hidden_without_it(html):
    page = Page(html)
    parts = {found.get("data-part"): found for _, found in page.elements}
    for part in ("stepper", "panel", "ribbon", "keys", "readout"):
        assert "hidden" in parts[part], part
    assert "open" in parts["numbers"]


def test_what_is_pressed_and_dragged_has_a_name(html):
    page = Page(html)
    labels = {found["for"] for found in page.all("label")}
    for found in page.all("input"):
        assert found["type"] == "range" and found["id"] in labels
    assert all(text.strip() for text in page.texts["button"])


def test_the_beam_is_drawn_and_is_a_table():
    found = with_beam()
    page = Page(found.html())
    kinds = [one.get("class") for one in page.all("path")]
    assert kinds.count("best") == len(found.beam)
    rows = "".join(page.texts["tr"])
    for step in found.beam:
        for branch in step.kept:
            assert (
                f"{branch.log_probability:.2f}".replace("-", "\N{MINUS SIGN}") in rows
            )
    for text, _ in found.hypotheses:
        assert text in rows


def test_answers_are_hidden_until_they_are_asked_for(html):
    page = Page(html)
    questions = [one for one in page.all("details") if one.get("class") == "question"]
    assert len(questions) >= 4 and not any("open" in one for one in questions)


def test_the_limit_of_a_bare_cosine_is_told_for_this_text():
    html = explained("cab dab ab cab dab a").html()  # 20 tokens
    assert "28 % would be the most among 20 tokens" in html


def test_shades_are_those_of_the_script():
    assert [weight_shade(w) for w in (0, 0.0049, 0.005, 0.1, 0.5, 1)] == [
        0,
        0,
        1,
        3,
        6,
        9,
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_marks_and_notes_can_be_read(scheme):
    found = dict(re.findall(r"--([\w-]+): (#\w+)", schemes("base.css")[scheme]))
    assert contrast(found["ink"], found["panel"]) >= 4.5
    assert contrast(found["accent"], found["panel"]) >= 4.5
    assert contrast(found["paper"], found["accent"]) >= 4.5  # the numbers of stages


# Files.


def test_a_page_replaces_only_a_page(found, tmp_path):
    path = tmp_path / "page.html"
    found.save(path)
    found.save(path)
    path.write_text("<html>mine")
    with pytest.raises(UserError, match="is not a page of this program"):
        found.save(path)
    assert path.read_text() == "<html>mine"


@pytest.mark.parametrize(("ending", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_a_picture_replaces_only_a_picture(found, tmp_path, ending, start):
    path = tmp_path / f"still.{ending}"
    found.save(path)
    first = path.read_bytes()
    assert first.startswith(start)
    found.save(path)
    assert path.read_bytes() == first
    path.write_bytes(start + b" of somebody else")
    with pytest.raises(UserError, match="is not a picture of this program"):
        found.save(path)


def test_other_endings_and_pictures_of_two_models_are_mistakes(found, tmp_path):
    with pytest.raises(UserError, match=r"a file that ends in \.html, \.png or \.svg"):
        check_output(tmp_path / "page.pdf")
    with pytest.raises(UserError, match="no folder"):
        check_output(tmp_path / "none" / "page.svg")
    with pytest.raises(UserError, match="a page shows two models"):
        found.compared_with(found).save(tmp_path / "still.png")


# The command.


def test_the_command_writes_a_page(trained_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = output_of("explain", "--model", trained_run.folder, "bead", "--beam", 2)
    assert lines == ["bead -> D3 A0 E4 B1, in explain.html"]
    data = data_of((tmp_path / "explain.html").read_text(encoding="utf-8"))
    assert data["model"] == str(trained_run.folder)
    assert data["target_tokens"] == ["D3", "A0", "E4", "B1", ""]


def test_the_command_compares(trained_run, tmp_path):
    page = tmp_path / "page.html"
    output_of(
        "explain", "--model", trained_run.folder, "bead", "--output", page,
        "--compare", "english-pronunciation",
    )  # fmt: skip
    data = data_of(page.read_text(encoding="utf-8"))
    assert data["other"]["form"] == "file" and data["other"]["text"] == "bead"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["bead", "--output", "a.txt"], "ends in .html, .png or .svg"),
        ([""], "TEXT: the value is empty"),
        (["bead", "--output", "mine.html"], "is not a page of this program"),
        (["bead", "--compare", "none"], "none: no such model"),
        (["bead", "--beam", "3"], "expected --beam"),
    ],
)
def test_mistakes_are_one_line(arguments, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.html").write_text("mine")
    command = ["explain", "--model", "english-pronunciation", *arguments]
    assert line in mistake_in(*command)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.html"]


def test_a_file_is_explained_without_tensorflow(tmp_path):
    code = (
        "import sys, pocketseq\n"
        "found = pocketseq.explain('english-pronunciation', 'phone')\n"
        "found.save('page.html'); found.save('still.svg')\n"
        "sys.exit('tensorflow' in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert (tmp_path / "page.html").stat().st_size < 200_000
