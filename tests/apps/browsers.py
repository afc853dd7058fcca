"""Opens the page of an explanation in real browsers, and uses it as people do.

Needs Chromium or Chrome, Firefox, and node: its name keeps it out of the usual suite.
`npm ci --prefix tests/apps --ignore-scripts` brings the library that drives them; then
name the file to pytest.
"""

import numpy as np
import pytest
from browser_process import PROGRAMS, BrowserProcess
from random_models import random_translator
from test_explanation_page import HOSTILE, SENTENCE, data_of

import pocketseq
from pocketseq.pipeline.search import LengthBound

TITLE = "document.querySelector('[data-part=title]').textContent"
LIVE = "document.querySelector('[data-part=live]').textContent"
READOUT = "document.querySelector('[data-part=readout]').textContent"
PERCENTS = """[...document.querySelectorAll('.map tbody tr')].map(
  (row) => [...row.cells].slice(1).map((cell) => Number(cell.textContent)))"""
COLOURS = """[...document.querySelectorAll('.map tbody td')].map(
  (cell) => getComputedStyle(cell).color)"""
SCALE = """[document.querySelector('[data-part=scale]').value,
  document.querySelector('[data-part=scale]').getAttribute('aria-valuetext')]"""
#: Where the keyboard stands in the map: its row and column, 0 for the edges.
PLACE = """[document.activeElement.parentElement.rowIndex,
  document.activeElement.cellIndex]"""
LIT = "[...document.querySelectorAll('.map .lit')].map((cell) => cell.textContent)"
#: Weights in the panel, as its table shows them.
PAIRS = """[...document.querySelectorAll('.pairs tbody tr')].map(
  (row) => [row.cells[1], row.cells[2]].map((cell) => cell.textContent))"""


@pytest.fixture(scope="module")
def processes():
    """The browsers that were started: ``{(its name, whether it is dark): process}``."""
    found: dict[tuple[str, bool], BrowserProcess] = {}
    yield found
    for process in found.values():
        process.end()


@pytest.fixture(params=PROGRAMS)
def visit(request, processes):
    """A function that takes steps on a new page and returns what it evaluated there."""

    def visit(path, *steps, dark=False, width=1280, height=900):
        key = (request.param, dark)
        if key not in processes:
            shade = "dark" if dark else "light"
            processes[key] = BrowserProcess("visit.mjs", request.param, shade)
        asked = {"url": path.as_uri(), "steps": steps, "width": width, "height": height}
        found = processes[key].ask(asked)
        # Nothing in the console, nothing against the policy, nothing loaded.
        assert found["problems"] == [] and found["requests"] == []
        values = zip(steps, found["found"], strict=True)
        return [value for (action, *_), value in values if action == "evaluate"]

    return visit


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def page(trained_run, folder):
    path = folder / "page.html"
    pocketseq.explain(trained_run.folder, "beadc", beam_size=3).save(path)
    return path


@pytest.fixture(scope="module")
def data(page):
    return data_of(page.read_text(encoding="utf-8"))


def random_page(path, text, source, target, compare=None, **options):
    """Writes the page of a random model, which ends by its bound alone."""

    def explained(**changes):
        translator = random_translator(
            source, target, lengths=(256, 384), end=-1e4,
            length_bound=LengthBound(1.2, 2.0), **(options | changes),
        )  # fmt: skip
        return translator.explain(text).named("random")

    found = explained()
    if compare:
        found = found.compared_with(explained(attention=compare))
    found.save(path)
    return path


@pytest.fixture(scope="module")
def long_page(folder):
    return random_page(folder / "long.html", SENTENCE, "character", "character")


@pytest.fixture(scope="module")
def two_models(folder):
    return random_page(folder / "two.html", "cab", "character", "word", compare="none")


@pytest.fixture(scope="module")
def hostile_page(folder):
    return random_page(
        folder / "hostile.html", HOSTILE, "word", "word", targets=[HOSTILE]
    )


@pytest.fixture(scope="module")
def file_page(folder):
    path = folder / "file.html"
    pocketseq.explain("english-pronunciation", "pocketseq").save(path)
    return path


def weights_at(factor, data):
    """The softmax of the raw similarities times a factor."""
    powers = np.exp(factor * np.array(data["similarities"]))
    return powers / powers.sum(axis=1, keepdims=True)


TITLES = """[...document.querySelectorAll('[data-part=title]')].map(
  (one) => one.textContent)"""
HEADS = """[...document.querySelectorAll('.map thead th')].map(
  (one) => one.textContent)"""
LIKELIEST = """[...document.querySelectorAll('.likeliest li')].map(
  (one) => [one.textContent, one.className])"""
#: Whether each token above the map, or below the source, is coloured.
CHIPS = """[...document.querySelectorAll('.chips.{} .chip')].map(
  (one) => /s[0-9]/.test(one.className))"""
SECOND_READOUT = """document.querySelector(
  '[data-view="1"] [data-part=readout]').textContent"""
UNFOLDED = """document.querySelectorAll('details').forEach(
  (one) => { one.open = true; })"""
NEXT, PREVIOUS = ("click", "[data-part=next]"), ("click", "[data-part=previous]")


def look(code):
    return ("evaluate", code)


def press(*keys):
    return [("press", key) for key in keys]


def test_steps_go_by_slider_keys_and_buttons(visit, page, data):
    found = visit(
        page, look(TITLE), ("focus", "#step"),
        *press("ArrowRight", "ArrowRight"), look(TITLE),
        NEXT, look(TITLE), PREVIOUS, PREVIOUS, PREVIOUS, PREVIOUS, look(TITLE),
        ("drag", "#step", 0.02, 0.99), look(TITLE),
    )  # fmt: skip
    count = len(data["target_tokens"])
    steps = (0, 2, 3, 0, count - 1)
    assert found == [
        f"Step {step + 1} of {count}: it writes {data['target_tokens'][step] or 'end'}"
        for step in steps
    ]


def test_a_step_shows_its_similarities_its_weights_and_its_candidates(
    visit, page, data
):
    pairs, candidates, words = visit(
        page, NEXT, look(PAIRS), look(LIKELIEST),
        look("document.querySelector('[data-part=entropy]').textContent"),
    )  # fmt: skip
    shown = [float(cosine.replace("\N{MINUS SIGN}", "-")) for cosine, _ in pairs]
    np.testing.assert_allclose(shown, data["similarities"][1], atol=0.0051)
    step = data["steps"][1]
    assert len(candidates) == 5
    for (text, kind), (label, _) in zip(candidates, step["likeliest"], strict=True):
        assert text.startswith(label or "end")
        assert kind == ("written" if label == step["token"] else "")
    assert f"Entropy {step['entropy']:.2f} bits" in words


def test_the_scale_that_is_dragged_gives_the_softmax_of_the_raw_similarities(
    visit, page, data
):
    start, (place, shown), dragged, own = visit(
        page, look(PERCENTS), ("drag", "[data-part=scale]", 0.55, 0.2),
        look(SCALE), look(PERCENTS),
        ("click", ".presets button:nth-child(2)"), look(PERCENTS),
    )  # fmt: skip
    factor = 100 ** (int(place) / 1000)  # from 1 to 100, by equal factors
    assert float(shown) == pytest.approx(factor, abs=0.051)
    assert 1.5 < factor < 5
    np.testing.assert_allclose(dragged, 100 * weights_at(factor, data), atol=0.6)
    np.testing.assert_allclose(start, 100 * np.array(data["weights"]), atol=0.6)
    assert own == start


def test_a_bare_cosine_stays_flat_on_the_page(visit, page, data):
    percents, sharp, words = visit(
        page, ("click", ".presets button:nth-child(1)"), look(PERCENTS),
        ("click", ".presets button:nth-child(3)"), look(PERCENTS),
        look("document.querySelector('[data-part=what-if]').textContent"),
    )  # fmt: skip
    columns = len(data["source_tokens"])
    limit = 100 / (1 + (columns - 1) * np.exp(-2))
    assert np.max(percents) <= limit + 0.5
    np.testing.assert_allclose(percents, 100 * weights_at(1, data), atol=0.6)
    np.testing.assert_allclose(sharp, 100 * weights_at(100, data), atol=0.6)
    assert words.startswith("What if?")


def test_an_output_lights_up_its_sources_and_a_source_its_outputs(visit, page, data):
    of_target, by_target, of_source, by_source, cell = visit(
        page, ("hover", ".chips.target .chip:nth-child(2)"),
        look(CHIPS.format("source")), look(LIT),
        ("hover", ".map thead th:nth-child(3)"),
        look(CHIPS.format("target")), look(READOUT),
        ("hover", ".map tbody tr:nth-child(1) td:nth-child(2)"), look(READOUT),
    )  # fmt: skip
    weights, sources = np.array(data["weights"]), data["source_tokens"]
    targets = data["target_tokens"]
    assert of_target == (weights[1] >= 0.005).tolist()
    assert sources[weights[1].argmax()] in by_target and targets[1] in by_target
    assert of_source == (weights[:, 1] >= 0.005).tolist()
    best = targets[weights[:, 1].argmax()] or "end"
    assert by_source.startswith(f"{sources[1]} is looked at by {best} ")
    assert cell.startswith(f"{targets[0]} looks at {sources[0]} with ")


def test_arrow_keys_move_in_the_map_and_onto_its_edges(visit, page, data):
    last = [len(data["target_tokens"]), len(data["source_tokens"])]
    found = visit(
        page, ("focus", ".map [tabindex='0']"), look(PLACE),
        *press("ArrowRight", "ArrowDown"), look(PLACE),
        *press("Home"), look(PLACE), *press("End"), look(PLACE),
        *press("ArrowRight", "PageDown"), look(PLACE),
        *press("PageUp", "ArrowUp"), look(PLACE), look(READOUT),
        *press("ArrowDown", "ArrowDown", "Enter"), look(TITLE),
        look("document.querySelectorAll('.map [tabindex=\"0\"]').length"),
    )  # fmt: skip
    *places, readout, title, stops = found
    assert places == [[1, 1], [2, 2], [2, 1], [2, last[1]], last, [0, last[1]]]
    assert readout.startswith(f"{data['source_tokens'][-1]} is looked at by ")
    assert title.startswith("Step 2 of") and stops == 1


def test_only_cells_that_round_to_a_percent_show_it(visit, page, data):
    before, after = visit(
        page, look(COLOURS), ("hover", ".map tbody tr:nth-child(2) td:nth-child(2)"),
        ("hover", ".chips.target .chip"), look(COLOURS),
    )  # fmt: skip
    small = np.array(data["weights"]).ravel() < 0.005
    assert 0 < small.sum() < small.size
    for colours in (before, after):
        hidden = [colour == "rgba(0, 0, 0, 0)" for colour in colours]
        assert hidden == small.tolist()


def test_the_map_is_a_grid_with_heads_and_all_its_numbers(visit, page, data):
    role, heads, percents = visit(
        page, look("document.querySelector('.map').getAttribute('role')"),
        look(HEADS),
        look(PERCENTS),
    )  # fmt: skip
    assert role == "grid" and heads == data["source_tokens"]
    np.testing.assert_allclose(percents, 100 * np.array(data["weights"]), atol=0.6)


def test_playing_goes_to_the_end_without_chatter(visit, page, data):
    button = "document.querySelector('[data-part=play]').textContent"
    count = len(data["target_tokens"])
    playing, said, at_end, words = visit(
        page, ("click", "[data-part=play]"), look(button),
        ("until", f"{TITLE}.startsWith('Step 3 ')"), look(LIVE),
        ("until", f"{TITLE}.startsWith('Step {count} ')"), look(button),
        ("until", f"{LIVE} !== ''"), look(LIVE),
    )  # fmt: skip
    assert (playing, at_end) == ("Pause", "Play")
    assert said == "" and words.startswith(f"Step {count} writes end, looks most at ")


def test_a_step_by_hand_ends_the_playing_and_is_said(visit, page, data):
    button = "document.querySelector('[data-part=play]').textContent"
    label, words = visit(
        page, ("click", "[data-part=play]"), NEXT, look(button),
        ("until", f"{LIVE} !== ''"), look(LIVE),
    )  # fmt: skip
    assert label == "Play"
    assert words.startswith(f"Step 2 writes {data['target_tokens'][1]}, ")


def test_a_source_token_that_is_chosen_is_worked_out(visit, page, data):
    (worked,) = visit(
        page, ("click", ".pairs tbody tr:nth-child(2) button"),
        look("document.querySelector('[data-part=worked]').textContent"),
    )  # fmt: skip
    cosine = data["similarities"][0][1]
    product = cosine * data["scale"]
    for number in (cosine, data["scale"], product):
        assert f"{number:.2f}".replace("-", "\N{MINUS SIGN}") in worked
    assert worked.startswith(data["source_tokens"][1])


def test_a_long_map_goes_along_with_the_steps_and_the_keys(visit, long_page):
    data = data_of(long_page.read_text(encoding="utf-8"))
    count, shown = (
        len(data["target_tokens"]),
        "document.querySelectorAll('.map tbody tr').length",
    )
    rows, percents, title, before, above = visit(
        long_page, look(shown), ("focus", "#step"), *press("End"), look(PERCENTS),
        look(TITLE), ("focus", ".map [tabindex='0']"), *press("PageUp", "PageUp"),
        look(PERCENTS), *press(*["PageUp"] * 40), look(PERCENTS),
    )  # fmt: skip
    weights = 100 * np.array(data["weights"])
    assert rows < count and title.startswith(f"Step {count} of {count}")
    np.testing.assert_allclose(percents, weights[-rows:], atol=0.6)
    np.testing.assert_allclose(before, weights[-rows - 20 : -20], atol=0.6)
    np.testing.assert_allclose(above, weights[:rows], atol=0.6)


def test_two_models_step_together(visit, two_models):
    found, words = visit(
        two_models, NEXT, look(TITLES),
        look(SECOND_READOUT),
    )  # fmt: skip
    assert all(title.startswith("Step 2 of ") for title in found)
    assert words.startswith("It looks at nothing")


def test_a_file_has_a_map_and_no_stages(visit, file_page):
    data = data_of(file_page.read_text(encoding="utf-8"))
    percents, panels = visit(
        file_page, NEXT, look(PERCENTS),
        look("document.querySelectorAll('.panel').length"),
    )  # fmt: skip
    np.testing.assert_allclose(percents, 100 * np.array(data["weights"]), atol=0.6)
    assert panels == 0


def test_hostile_texts_are_shown_and_not_run(visit, hostile_page):
    scripts, chip = visit(
        hostile_page, NEXT, look("document.scripts.length"),
        look("document.querySelector('.chip').textContent"),
    )  # fmt: skip
    assert scripts == 2 and chip == "</script><script>alert(1)</script>"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_phone_never_scrolls_sideways(
    visit, page, long_page, two_models, hostile_page, file_page, dark
):
    found = visit(
        page,
        *(
            step
            for one in (page, long_page, two_models, hostile_page, file_page)
            for step in (
                ("open", one.as_uri()), NEXT, look(UNFOLDED),
                look("document.documentElement.scrollWidth"),
                look("getComputedStyle(document.body).backgroundColor"),
            )
        ),
        dark=dark, width=360, height=740,
    )  # fmt: skip
    widths, papers = found[1::3], found[2::3]
    assert max(widths) <= 360
    assert set(papers) == {"rgb(18, 23, 29)" if dark else "rgb(255, 255, 255)"}
