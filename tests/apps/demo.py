"""The web wrapper and the page of `demo`, in real browsers.

Needs node, npm, Chromium or Chrome, and Firefox: its name keeps it out of the usual
suite. `npm ci --prefix tests/apps --ignore-scripts` brings the library that drives the
browsers, and the command under test fetches LiteRT.js; then name the file to pytest.
"""

import contextlib
import functools
import http.server
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from browser_process import PROGRAMS, BrowserProcess

from pocketseq.export.demo.litert import litert_folder

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
WEB = ROOT / "apps" / "web"
BOX = ROOT / "models"
ENGLISH = BOX / "english-pronunciation"
sys.path.insert(0, str(ROOT / "apps" / "python"))

from pocketseq_model import Model, Translation  # noqa: E402

#: int8 activations are rounded by each kernel in its own way, so that shares differ
#: in the fourth digit; a wrong row differs in the first.
ALIGNMENT_TOLERANCE = 0.01
SCORE_TOLERANCE = 0.05


# Browsers.


class Browser:
    """A browser with one page, on which steps are taken, as session.mjs names them."""

    def __init__(self, name, *, dark=False, width=1280, height=900):
        options = {"dark": dark, "width": width, "height": height}
        self.name = name
        self._process = BrowserProcess("session.mjs", name, json.dumps(options))

    def __call__(self, *step):
        return self._process.ask(step)["found"]

    def look(self, code):
        return self("evaluate", code)

    def text(self, part):
        return self.look(f"document.querySelector('[data-part={part}]').textContent")

    def shows(self, part, text):
        """Waits until a part of the page begins with a text."""
        self(
            "until",
            f"document.querySelector('[data-part={part}]').textContent"
            f".startsWith({json.dumps(text)})",
        )

    def visit(self, url):
        """Opens a page anew, whatever was open before."""
        self("open", "about:blank")
        self("problems")  # a page that is left while it loads may report that
        self("open", url)

    def write(self, text):
        """Replaces what stands in the field for the text."""
        self.look(
            "((field) => { field.focus(); field.value = ''; })"
            "(document.querySelector('[data-part=text]'))"
        )
        self("type", text)

    def close(self):
        self._process.end()


@pytest.fixture(scope="module", params=PROGRAMS)
def shared_browser(request):
    browser = Browser(request.param)
    yield browser
    browser.close()


@pytest.fixture
def browser(shared_browser):
    """A browser in which nothing goes wrong: no errors, nothing against the policy."""
    yield shared_browser
    assert shared_browser("problems") == []


# The command and what it serves.


@pytest.fixture(scope="module", autouse=True)
def caches(tmp_path_factory):
    """A folder for what the command fetches, empty before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("caches")))
        yield


@contextlib.contextmanager
def running(*options):
    """The address of a running `demo`, which Ctrl-C ends in order."""
    process = subprocess.Popen(
        [sys.executable, ROOT / "cli.py", "demo", *options],
        stdout=subprocess.PIPE, encoding="utf-8",
    )  # fmt: skip
    assert process.stdout
    with process.stdout:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0


@pytest.fixture(scope="module")
def address(caches):
    with running() as address:
        yield address


@pytest.fixture(scope="module")
def bundle(app_bundle):
    return app_bundle


@functools.cache
def python_model(folder):
    return Model(folder)


def lines_of(path):
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n") if line]


# The wrapper.

#: A document of the site on which nothing else runs.
QUIET = "icon.svg"

#: Opens a model as `model`, and evaluates code with it.
WITH_MODEL = """(async () => {
  const { Model, ModelError, describe, latest } = await import("/pocketseq.js");
  const model = await Model.open("%s", %s);
  const plain = ({ alignment, ...rest }) =>
    ({ ...rest, rows: alignment.map((row) => [...row]) });
  try { return await (async () => { %s })(); } finally { model.close(); }
})()"""


def with_model(browser, code, folder="models/english-pronunciation/", **options):
    return browser.look(WITH_MODEL % (folder, json.dumps(options), code))


def check_alignment(found, expected):
    """Compares rows of the browser with those of the Python wrapper."""
    rows = np.array(found["rows"]).reshape(expected.alignment.shape)
    np.testing.assert_allclose(rows, expected.alignment, atol=ALIGNMENT_TOLERANCE)
    if rows.size:
        np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-3)


MODELS = sorted(path.parent.name for path in BOX.glob("*/manifest.json"))


@pytest.mark.parametrize("name", MODELS)
def test_all_golden_lines_are_answered_in_the_worker(browser, address, name):
    browser.visit(address + QUIET)
    golden = lines_of(BOX / name / "golden.jsonl")
    assert len(golden) >= 100
    texts = json.dumps([line["text"] for line in golden])
    found = with_model(
        browser,
        f"const found = []; for (const text of {texts})"
        " found.push(plain(await model.translate(text))); return found;",
        f"models/{name}/",
    )
    expected = [line["translation"] for line in golden]
    assert [one["text"] for one in found] == expected
    for one, line in zip(found, golden, strict=True):
        assert one["score"] == pytest.approx(line["score"], abs=SCORE_TOLERANCE)
        check_alignment(one, python_model(BOX / name).translate(line["text"]))


def test_all_golden_lines_of_the_beam_are_answered(browser, address):
    browser.visit(address + QUIET)
    golden = lines_of(ENGLISH / "golden_beam.jsonl")
    texts = json.dumps([line["text"] for line in golden])
    found = with_model(
        browser,
        f"const found = []; for (const text of {texts})"
        " found.push((await model.best(text)).map(plain)); return found;",
    )
    for best, line in zip(found, golden, strict=True):
        assert [one["text"] for one in best] == line["translations"]
        scores = [one["score"] for one in best]
        assert scores == pytest.approx(line["scores"], abs=SCORE_TOLERANCE)
        expected = python_model(ENGLISH).best(line["text"])
        for one, other in zip(best, expected, strict=True):
            check_alignment(one, other)


#: What an app may be given; half a pair is written as JSON has it.
HOSTILE = (
    "", " ", "phone\0more", "\0", "cafe\u0301", "\ud83d", "a\udc00b", "\U0001f600",
    "ab\U0001f600cd", "\U0010ffff" * 64, "\U0001f600" * 70, "abc" * 40,
    "word " * 20, "word\u3000" * 20, "w" * 63 + " tail", "w" * 64 + " tail",
    " " * 70, " " * 70 + "a", "a" + " " * 70, "\x85" * 3 + "b" * 63, "\u200b",
    "a" * 63 + "e\u0301", "\u05e9\u05dc\u05d5\u05dd",
)  # fmt: skip


def test_hostile_texts_are_read_and_answered_as_in_python(browser, address):
    browser.visit(address + QUIET)
    texts = ", ".join(json.dumps(text) for text in HOSTILE)
    found = with_model(
        browser,
        f"const found = []; for (const text of [{texts}])"
        " found.push(plain(await model.translate(text))); return found;",
    )
    for one, text in zip(found, HOSTILE, strict=True):
        expected = python_model(ENGLISH).translate(text)
        assert (one["source"], one["text"]) == (expected.source, expected.text)
        check_alignment(one, expected)


def test_a_dictionary_comes_first(browser, address):
    browser.visit(address + QUIET)
    found, other = with_model(
        browser,
        'return [plain(await model.translate("cafe\u0301")),'
        ' (await model.translate("phone")).text];',
        dictionary={"caf\u00e9": "K AE F"},
    )
    assert (found["text"], found["score"], found["source"]) == (
        "K AE F",
        0,
        "caf\u00e9",
    )
    np.testing.assert_allclose(found["rows"], np.full((6, 4), 0.25))
    assert other == python_model(ENGLISH)("phone")


COUNT_CALLS = """let calls = [];
const post = Worker.prototype.postMessage;
Worker.prototype.postMessage = function (message, ...more) {
  if (message.task === "run") calls.push(message.name);
  return post.call(this, message, ...more);
};
const uncounted = () => { Worker.prototype.postMessage = post; return calls; };
"""


def test_of_what_is_typed_fast_only_the_latest_counts(browser, address):
    browser.visit(address + QUIET)
    word = "electricity"
    found, calls = with_model(
        browser,
        COUNT_CALLS + "const ask = latest((text, signal) =>"
        " model.translate(text, { signal }));"
        f'const starts = Array.from("{word}", (_, end) => "{word}".slice(0, end + 1));'
        "const found = await Promise.all(starts.map((text) => ask(text)));"
        "return [found.map((one) => one?.text ?? null), uncounted()];",
    )
    assert found == [None] * (len(word) - 1) + [python_model(ENGLISH)(word)]
    assert len(calls) <= 2  # the first, which had begun, and the last


def test_answers_are_remembered(browser, address):
    browser.visit(address + QUIET)
    same, calls = with_model(
        browser,
        COUNT_CALLS + 'const one = await model.translate("phone");'
        'return [one === await model.translate("phone"), uncounted()];',
    )
    assert same and calls == ["translate"]


#: Gives the message of the ModelError that code throws.
REFUSED = """(async () => {
  const { Model, ModelError, describe } = await import("/pocketseq.js");
  const folder = "/models/english-pronunciation/";
  const manifest = await (await fetch(folder + "manifest.json")).text();
  const path = folder + describe(manifest).file;
  const whole = new Uint8Array(await (await fetch(path)).arrayBuffer());
  const flipped = whole.slice();
  flipped[whole.length >> 1] ^= 1;
  try { %s } catch (error) {
    return error instanceof ModelError ? error.message : `${error.name}!`;
  }
})()"""


def refused(browser, code):
    return browser.look(REFUSED % code)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ("whole.slice(0, -1)", "1617726 bytes, expected 1617727"),
        ("new Uint8Array()", "0 bytes, expected"),
        ("flipped", "expected the SHA-256 in its manifest"),
    ],
)
def test_bytes_that_are_not_those_described_are_refused(
    browser, address, data, problem
):
    browser.visit(address + QUIET)
    message = refused(browser, f"await Model.of(describe(manifest), {data});")
    assert message.startswith("model-int8.tflite: damaged, or of another export: ")
    assert problem in message


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("describe('{}')", "manifest.json: no file, expected the manifest of an"),
        ("describe('nothing')", "manifest.json: not JSON ("),
        ("describe('[]')", "manifest.json: not an object"),
        ("describe(manifest, 'int3')", "manifest.json: no file int3"),
        ("describe(manifest.replace('model-int8', '../model'))", "no file"),
        ("describe(manifest.replaceAll('128,', '127,'))", "is not text to text"),
        ("await Model.open('/models/nowhere/')", "cannot be read: status 404"),
        (
            "await Model.of(describe(manifest.replaceAll('translate_beam', 'other')),"
            "whole)", "cannot be opened: it has no signature other",
        ),
        (
            "await Model.open(folder, { runtime: '/elsewhere/' })",
            "",  # the browser's own words
        ),
    ],
)  # fmt: skip
def test_what_is_not_an_export_is_one_clear_error(
    shared_browser, address, code, problem
):
    shared_browser.visit(address + QUIET)
    message = refused(shared_browser, code)
    assert problem in message and "!" not in message
    shared_browser("problems")  # browsers report what they cannot fetch


def test_an_insecure_context_is_told_so(browser, address):
    browser.visit(address + QUIET)
    message = refused(
        browser,
        "Object.defineProperty(crypto, 'subtle', { value: undefined });"
        "await Model.of(describe(manifest), whole);",
    )
    assert "only in a secure context: expected https, or localhost" in message


def test_a_closed_model_refuses(browser, address):
    browser.visit(address + QUIET)
    message = refused(
        browser,
        "const model = await Model.open(folder); model.close();"
        "await model.translate('phone');",
    )
    assert message == "the model is closed"


# A site of an app: the wrapper, an export, and no more.


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def app(bundle, caches, tmp_path_factory):
    """The folder of a site that has copied what the bundle has for it, and its URL."""
    folder = tmp_path_factory.mktemp("app")
    for source in ("pocketseq.js", "worker.js"):
        shutil.copy(bundle / "apps" / "web" / source, folder)
    shutil.copytree(litert_folder(), folder / "litert")
    shutil.copytree(bundle, folder / "export")
    for empty in ("empty.html", "favicon.ico"):  # browsers ask for the second
        (folder / empty).touch()
    handler = functools.partial(_Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


def test_the_page_in_the_readme_works_as_it_is_written(browser, bundle, app):
    folder, url = app
    readme = (bundle / "apps" / "web" / "README.md").read_text(encoding="utf-8")
    (page,) = re.findall(r"^```html\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    script = page.partition('<script type="module">\n')[2].partition("</script>")[0]
    assert len(script.splitlines()) <= 10
    (folder / "page.html").write_text(page, encoding="utf-8")
    browser.visit(url + "page.html")
    shown = "document.querySelector('output').textContent"
    browser("until", f"{shown} === {json.dumps(python_model(bundle)('phone'))}")
    browser.look("document.querySelector('input').value = ''")
    browser("focus", "input")
    browser("type", "bead")
    browser("until", f"{shown} === {json.dumps(python_model(bundle)('bead'))}")


def test_the_shortest_signature_that_holds_a_text_is_called(browser, bundle, app):
    browser.visit(app[1] + "empty.html")
    texts = ["abcdabcd", "abcdabcda", "ab " * 9]
    found, calls = with_model(
        browser,
        COUNT_CALLS + f"const found = []; for (const text of {json.dumps(texts)})"
        " found.push(plain(await model.translate(text)),"
        " ...(await model.best(text)).map(plain));"
        "return [found, uncounted()];",
        "export/",
    )
    model = python_model(bundle)
    expected = [
        one for text in texts for one in (model.translate(text), *model.best(text))
    ]
    assert [one["text"] for one in found] == [one.text for one in expected]
    assert [one["source"] for one in found] == [one.source for one in expected]
    assert calls == [
        "translate_8", "translate_beam_8", "translate_16", "translate_beam_16",
        "translate", "translate_beam",
    ]  # fmt: skip


def test_another_file_of_an_export_can_be_chosen(browser, bundle, app):
    browser.visit(app[1] + "empty.html")
    code = 'return (await model.translate("bead")).text;'
    found = with_model(browser, code, "export/", recipe="float32")
    assert found == Model(bundle, "float32")("bead")


BROKEN_WORKER = """self.onmessage = ({ data: { task, shape } }) => {
  const [count, longest, width] = [1, 128, 64];
  if (task === "load") return self.postMessage({});
  if (task === "open") return self.postMessage({ result: { files: [] } });
  const text = new Int32Array(count * longest);
  const score = new Float32Array(count);
  let alignment = new Float32Array(count * longest * width);
  text[0] = 65;
  %s;
  self.postMessage({ result: { text, score, alignment } });
};"""


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        ("score[0] = NaN", "outputs that are not text"),
        ("text[0] = -1", "outputs that are not text"),
        ("text[0] = 0xd800", "outputs that are not text"),
        ("text[0] = 0x110000", "outputs that are not text"),
        ("alignment[0] = Infinity", "outputs that are not text"),
        ("score[0] = -Infinity", "no answer"),
        ("alignment = alignment.slice(0, 128)", "outputs of another shape"),
        ("throw new Error('broken')", "the worker failed: "),
    ],
)
def test_outputs_that_make_no_sense_are_one_clear_error(
    shared_browser, app, damage, problem
):
    folder, url = app
    (folder / "models").mkdir(exist_ok=True)
    shutil.copytree(ENGLISH, folder / "models" / ENGLISH.name, dirs_exist_ok=True)
    name = f"worker-{abs(hash(damage))}.js"
    (folder / name).write_text(BROKEN_WORKER % damage, encoding="utf-8")
    shared_browser.visit(url + "empty.html")
    message = refused(
        shared_browser,
        f"const model = await Model.open(folder, {{ worker: '/{name}' }});"
        "await model.translate('x');",
    )
    assert problem in message
    shared_browser("problems")


# The page.


def heat_map(browser):
    return browser.look(
        """[...document.querySelectorAll('.map tbody tr')].map(
          (row) => [...row.cells].slice(1).map((cell) => Number(cell.textContent)))"""
    )


def heads(browser, side):
    found = f"[...document.querySelectorAll('.map {side} th')]"
    return browser.look(f"{found}.map((one) => one.textContent)")


def phones_of(translation: Translation):
    """The phones of an answer with the rows of their first code points."""
    starts = [match.start() for match in re.finditer(r"\S+", translation.text)]
    return translation.text.split(), translation.alignment[starts]


def is_ready(browser):
    browser("until", "document.querySelector('[data-part=time]').textContent !== ''")


def test_the_page_translates_while_one_types(browser, address):
    browser.visit(address)
    is_ready(browser)
    model = python_model(ENGLISH)
    for word in ("electricity", "read", "phone"):
        browser.write(word)
        best = model.best(word)
        browser.shows("found", best[0].text)
        phones, rows = phones_of(best[0])
        assert heads(browser, "thead") == list(word)
        assert heads(browser, "tbody") == phones
        np.testing.assert_allclose(heat_map(browser), 100 * rows, atol=5)
        hypotheses = browser.look(
            "[...document.querySelectorAll('.hypothesis .answer-text')].map("
            "(one) => one.textContent)"
        )
        assert hypotheses == [one.text for one in best]
        shown = float(browser.text("score").split()[0].replace("\u2212", "-"))
        assert shown == pytest.approx(best[0].score, abs=SCORE_TOLERANCE)
    assert re.fullmatch(r"\d+\.\d\u00a0ms", browser.text("time"))
    assert "1.6\u00a0MB" in browser.text("facts")
    assert browser.text("ipa") == "/fo\u028an/ in IPA"


def test_an_answer_from_the_table_is_said_to_be_one(browser, address):
    browser.visit(address)
    is_ready(browser)
    browser.write("colonel")
    browser.shows("found", "K ER1 N AH0 L")
    assert browser.text("score") == "0.000 exact, from the table in the file"


def test_the_numbers_of_the_map_are_the_model_s(browser, address):
    browser.visit(address)
    is_ready(browser)
    rows = with_model(
        browser, 'return (await model.best("attention")).map(plain)[0].rows;'
    )
    browser.write("attention")
    browser.shows("found", "AH0 T EH1 N SH AH0 N")
    starts = [0, 4, 6, 10, 12, 15, 19]
    expected = np.array(rows)[starts]
    np.testing.assert_allclose(heat_map(browser), 100 * expected, atol=0.51)


def test_the_answer_is_said_once_typing_pauses(browser, address):
    browser.visit(address)
    is_ready(browser)
    browser.write("phone")
    browser.shows("live", "phone: F OW1 N. Score ")


def test_another_answer_of_the_beam_can_be_shown_by_keyboard(browser, address):
    browser.visit(address)
    is_ready(browser)
    browser.write("read")
    browser.shows("found", "R EH1 D")
    browser("focus", ".hypothesis input:checked")
    browser("press", "ArrowDown")
    best = python_model(ENGLISH).best("read")
    browser.shows("found", best[1].text)
    phones, rows = phones_of(best[1])
    assert heads(browser, "tbody") == phones
    np.testing.assert_allclose(heat_map(browser), 100 * rows, atol=5)


def test_arrow_keys_move_in_the_map_and_say_what_is_there(browser, address):
    browser.visit(address)
    is_ready(browser)
    browser.write("phone")
    browser.shows("found", "F OW1 N")
    browser("focus", ".map [tabindex='0']")
    for key in ("ArrowDown", "ArrowRight"):
        browser("press", key)
    # From the first cell, which is F by p, to OW1 by h.
    assert re.match("OW1 comes from h by [0-9.]+\u00a0%", browser.text("readout"))
    for key in ("Home", "ArrowLeft"):
        browser("press", key)
    assert browser.text("readout").startswith("OW1 comes from o ")
    for key in ("ArrowRight", "ArrowUp", "ArrowUp"):
        browser("press", key)
    assert browser.text("readout").startswith("p goes into F ")
    stops = browser.look("document.querySelectorAll('.map [tabindex=\"0\"]').length")
    assert stops == 1


def test_everything_is_reached_by_tab_and_has_a_name(browser, address):
    browser.visit(address)
    is_ready(browser)
    seen = []
    browser("focus", "[data-part=model]")
    for _ in range(14):
        seen.append(
            browser.look(
                """((one) => one.dataset.part ?? one.labels?.[0]?.className
                  ?? (one.closest('.map') ? 'map' : one.textContent)
                )(document.activeElement)"""
            )
        )
        browser("press", "Tab")
    wanted = ["model", "text", "pocketseq", "map", "In words", "hypothesis", "files"]
    assert [one for one in seen if one in wanted][: len(wanted)] == wanted
    nameless = browser.look(
        """[...document.querySelectorAll('input, select, button')].filter(
          (one) => !(one.labels?.length || one.textContent.trim() || one.hidden)
        ).map((one) => one.outerHTML)"""
    )
    assert nameless == []


def test_models_in_the_box_can_be_switched(browser, address):
    browser.visit(address)
    is_ready(browser)
    browser("focus", "[data-part=model]")
    browser.look(
        """((one) => {
          one.value = [...one.options].findIndex((o) => /^french/.test(o.text));
          one.dispatchEvent(new Event('change'));
        })(document.querySelector('[data-part=model]'))"""
    )
    browser.shows("label", "A word in French")
    browser.write("hirondelle")
    answer = python_model(BOX / "french-pronunciation")("hirondelle")
    browser.shows("found", answer)
    assert browser.text("ipa") == f"/{answer.replace(' ', '')}/ in IPA"
    assert browser.look("document.querySelector('[data-part=best]').hidden")
    browser("until", "location.hash.includes('french')")


def test_a_link_opens_a_model_with_a_text(browser, address):
    browser.visit(address + "#model=italian-pronunciation&text=chiesa")
    browser.shows("found", python_model(BOX / "italian-pronunciation")("chiesa"))


def test_a_long_text_is_cut_and_the_page_says_so(browser, address):
    browser.visit(address)
    is_ready(browser)
    browser.write("phone " * 12 + "more")
    browser.shows("notice", "Read as far as \u201cphone phone")
    assert browser.look("document.querySelector('.map').className") == "map dense"


# Files of a visitor's.

DROP = """((files) => {
  const transfer = new DataTransfer();
  for (const [name, bytes] of files) transfer.items.add(new File([bytes], name));
  const drop = (kind) => document.body.dispatchEvent(
    new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true }));
  drop("dragover");
  const isShown = !document.querySelector("[data-part=drop]").hidden;
  drop("drop");
  return isShown;
})"""


DROP_ITALIAN = """(async () => {
  const folder = "/models/italian-pronunciation/";
  const bytes = async (name) => (await fetch(folder + name)).arrayBuffer();
  const names = ["manifest.json", "model-int8.tflite"];
  return %s(await Promise.all(names.map(async (name) => [name, await bytes(name)])));
})()"""


def test_a_bundle_that_is_dropped_is_opened(browser, address):
    browser.visit(address)
    is_ready(browser)
    is_shown = browser.look(DROP_ITALIAN % DROP)
    assert is_shown
    browser.shows("label", "A word in Italian")
    browser.write("chiesa")
    browser.shows("found", python_model(BOX / "italian-pronunciation")("chiesa"))
    assert "its SHA-256 is the one in manifest.json" in browser.text("facts")


def test_a_file_alone_is_checked_against_its_own_checksum(browser, address, bundle):
    browser.visit(address)
    is_ready(browser)
    browser("choose", "[data-part=files]", str(bundle / "model-float32.tflite"))
    browser.shows("label", "Text")
    browser.write("bead")
    best = python_model(bundle).best("bead")
    browser.shows("found", best[0].text)
    assert "against its own checksum" in browser.text("facts")
    assert browser.look("document.querySelector('[data-part=speech]').hidden")
    assert len(best) == browser.look("document.querySelectorAll('.hypothesis').length")


def test_some_files_of_an_export_are_enough(browser, address, bundle):
    browser.visit(address)
    is_ready(browser)
    chosen = [bundle / "manifest.json", bundle / "model-float32.tflite"]
    browser("choose", "[data-part=files]", *map(str, chosen))
    browser.shows("label", "Text")
    assert "model-float32.tflite" in browser.text("facts")


def damaged(bundle, folder):
    """``{name: (files, what the page says)}``."""
    whole = (bundle / "model-int8.tflite").read_bytes()
    manifest = (bundle / "manifest.json").read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 1
    in_zip = bytearray(whole)
    with zipfile.ZipFile(bundle / "model-int8.tflite") as archive:
        in_zip[archive.getinfo("manifest.json").header_offset + 99] ^= 1
    contents = {
        "cut": ({"a.tflite": whole[:-30]}, "a.tflite: no manifest in it"),
        "half": ({"a.tflite": whole[: len(whole) // 2]}, "a.tflite: no manifest"),
        "empty": ({"a.tflite": b""}, "a.tflite: not a .tflite file"),
        "foreign": ({"a.tflite": b"GIF89a" * 99}, "a.tflite: not a .tflite file"),
        "flipped": ({"a.tflite": bytes(flipped)}, "a.tflite: damaged"),
        "in_zip": ({"a.tflite": bytes(in_zip)}, "a.tflite: no manifest in it"),
        "two": ({"a.tflite": whole, "b.tflite": whole}, "2 .tflite files"),
        "no_file": ({"manifest.json": manifest}, "model-int8.tflite: it is not among"),
        "no_manifest": ({"manifest.json": b"{}", "a.tflite": whole}, "manifest.json: "),
        "other": (
            {"manifest.json": manifest, "model-int8.tflite": bytes(flipped)},
            "model-int8.tflite: damaged, or of another export: expected the SHA-256",
        ),
    }  # fmt: skip
    for name, (files, problem) in contents.items():
        place = folder / name
        place.mkdir()
        for file, content in files.items():
            (place / file).write_bytes(content)
        yield [str(place / file) for file in files], problem


def test_damaged_files_are_one_line_and_the_model_before_stays(
    browser, address, bundle, tmp_path
):
    browser.visit(address)
    is_ready(browser)
    for files, problem in damaged(bundle, tmp_path):
        browser("choose", "[data-part=files]", *files)
        browser("until", "!document.querySelector('[data-part=error]').hidden")
        browser.shows("error", problem)
        assert "\n" not in browser.text("error")
        browser.write("phone")
        browser.shows("found", "F OW1 N")
        browser.look("document.querySelector('[data-part=error]').hidden = true")
    options = browser.look("document.querySelector('[data-part=model]').length")
    assert options == len(MODELS)  # what cannot be opened is no choice


def test_without_a_text_there_is_a_hint_and_nothing_else(browser, address):
    browser.visit(address)
    is_ready(browser)
    browser.write("a")
    browser("press", "Backspace")
    browser.shows("found", "The answer comes here")
    hidden = [
        browser.look(f"document.querySelector('[data-part={part}]').hidden")
        for part in ("best", "attention", "figures", "speech", "ipa")
    ]
    assert all(hidden)


@pytest.mark.parametrize("form", ["folder", "file"])
def test_the_command_opens_an_export(browser, caches, bundle, form):
    model = bundle if form == "folder" else bundle / "model-int8.tflite"
    with running("--model", str(model)) as address:
        browser.visit(address + "#text=bead")
        browser.shows("found", python_model(bundle).best("bead")[0].text)
        options = browser.look(
            "[...document.querySelector('[data-part=model]').options].length"
        )
        assert options == 1 + len(MODELS)
        browser("open", "about:blank")


# Without a network.


def test_the_page_opens_after_the_server_has_stopped(browser, caches):
    with running() as address:
        browser.visit(address)
        browser.shows("offline", "Kept in this browser")
        browser("reload")
        is_ready(browser)
    browser.visit(address)
    is_ready(browser)
    browser.write("electricity")
    browser.shows("found", python_model(ENGLISH).best("electricity")[0].text)
    browser.visit(address + "#model=french-pronunciation&text=hirondelle")
    browser.shows("found", python_model(BOX / "french-pronunciation")("hirondelle"))
    browser("open", "about:blank")
    # Browsers report what they could not fetch before they took what was kept.
    failed = browser("problems")
    assert all("ERR_CONNECTION_REFUSED" in one for one in failed), failed


# Speech.


def test_a_voice_reads_the_word_and_is_said_to_follow_its_own_rules(browser, address):
    browser.visit(address)
    is_ready(browser)
    assert browser.text("voice") == "This browser has no voice for English."
    browser.look(
        """{
          const voice = { name: 'Anna', lang: 'en-US', localService: true };
          const far = { name: 'Far', lang: 'en-GB', localService: false };
          window.spoken = [];
          speechSynthesis.getVoices = () => [far, voice];
          speechSynthesis.cancel = () => {};
          speechSynthesis.speak = (one) => window.spoken.push(one);
          window.SpeechSynthesisUtterance = class {
            constructor(text) { this.text = text; }
          };
          speechSynthesis.dispatchEvent(new Event('voiceschanged'));
        }"""
    )
    browser.write("phone")
    browser.shows("speak", "Hear \u201cphone\u201d")
    assert browser.text("voice").startswith("This browser\u2019s voice Anna reads")
    assert browser.text("voice").endswith("it does not follow the answer above.")
    browser("click", "[data-part=speak]")
    spoken = browser.look("window.spoken.map(({ text, lang }) => [text, lang])")
    assert spoken == [["phone", "en-US"]]


@pytest.mark.parametrize(
    ("phones", "ipa"),
    [
        ("F OW1 N", "fo\u028an"),
        ("AH0 T EH1 N SH AH0 N", "\u0259\u02c8t\u025bn\u0283\u0259n"),
        ("P AA1 K AH0 T", "\u02c8p\u0251k\u0259t"),
        ("EH1 K S T R AH0", "\u02c8\u025bkst\u0279\u0259"),
        ("K AH0 N S T R AH1 K T", "k\u0259n\u02c8st\u0279\u028ckt"),
        ("S IH1 NG ER0", "\u02c8s\u026a\u014b\u025a"),
        ("B ER1 D", "b\u025dd"),
        ("IH0 L EH2 K T R IH1 S", "\u026a\u02ccl\u025bk\u02c8t\u0279\u026as"),
        ("\u025b k", None),
        ("F OW1 Q", None),
    ],
)
def test_phones_of_arpabet_are_shown_as_ipa(browser, address, phones, ipa):
    if not browser.look("location.href").startswith(address):
        browser.visit(address + QUIET)
    found = browser.look(
        "(async () => (await import('/languages.js'))"
        f".ipaOf({json.dumps(phones.split())}) ?? null)()"
    )
    assert found == ipa


# On a phone.


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_phone_never_scrolls_sideways(address, name, dark):
    browser = Browser(name, dark=dark, width=390, height=844)
    try:
        browser.visit(address)
        is_ready(browser)
        for text in ("phone", "w" * 64, "word " * 15, "\U0001f600" * 30):
            browser.write(text)
            browser("until", f"document.querySelector('.map').innerText !== {text!a}")
            browser.look(
                "document.querySelectorAll('details').forEach((o) => { o.open = 1; })"
            )
            assert browser.look("document.documentElement.scrollWidth") <= 390, text
        paper = browser.look("getComputedStyle(document.body).backgroundColor")
        assert paper == ("rgb(18, 23, 29)" if dark else "rgb(255, 255, 255)")
        assert browser("problems") == []
    finally:
        browser.close()
