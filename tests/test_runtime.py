"""The Python runtime of exported files."""

import logging
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from ai_edge_litert.tools import flatbuffer_utils
from manifests import made_up_manifest

from pocketseq.export.checks.verification import compare
from pocketseq.export.contract import OUTPUTS, Side, signature_keys
from pocketseq.export.graph.translate import translate_function
from pocketseq.export.runtime import Translator, text_of
from pocketseq.export.tflite.container import read_container
from pocketseq.export.tflite.conversion import convert
from pocketseq.export.tflite.flatbuffer import finished, packed
from pocketseq.export.tflite.metadata import attach_metadata
from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.text.normalization import NO_NORMALIZATION

BEAM = 3
LENGTHS = (16, 8)
WORDS = ["abc", "fed", "be", "cafe", "dad", "face", "abcdefab", "abcdefabc", ""]


def write_file(path, translator, lengths, beam_size):
    """Writes a file as an export does, without all that an export checks."""
    resized = {length: translator.resized(length) for length in lengths}
    functions = {
        key.name: translate_function(resized[key.length], beam_size=key.beam_size)
        for key in signature_keys(lengths, beam_size)
    }
    manifest = made_up_manifest(
        {n: one.target_tokenizer.max_code_points for n, one in resized.items()},
        beam_size=beam_size, name="backwards",
        target=Side("word", NO_NORMALIZATION, 24),
    )  # fmt: skip
    model = finished(convert(functions), OUTPUTS)
    path.write_bytes(attach_metadata(model, manifest, {}))
    return path


@pytest.fixture(scope="module")
def keras(trained_run):
    return trained_run.load()


@pytest.fixture(scope="module")
def path(keras, tmp_path_factory):
    """A file with two lengths and a beam."""
    folder = tmp_path_factory.mktemp("runtime")
    return write_file(folder / "beam.tflite", keras, LENGTHS, BEAM)


@pytest.fixture(scope="module")
def greedy_path(keras, tmp_path_factory):
    """A file with the greedy search only."""
    folder = tmp_path_factory.mktemp("greedy")
    return write_file(folder / "greedy.tflite", keras, LENGTHS[:1], None)


@pytest.fixture(scope="module")
def translator(path):
    return Translator(path)


@pytest.fixture
def calls(translator, monkeypatch):
    """Collects (length, whether with the beam) of each call of the model."""
    seen = []
    original = translator.run

    def run(code_points, *, beam=False):
        seen.append((code_points.shape[1], beam))
        return original(code_points, beam=beam)

    monkeypatch.setattr(translator, "run", run)
    return seen


def test_a_call_translates_one_text(path):
    assert Translator(path)("abc") == "C2 B1 A0"


def test_it_runs_without_importing_tensorflow(path):
    code = (
        "import sys\n"
        "from pocketseq.export.runtime import Translator\n"
        f"print(Translator({str(path)!r})('abc'))\n"
        "print('tensorflow' in sys.modules, 'keras' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["C2 B1 A0", "False False"]


def test_threads_that_share_a_translator_get_their_own_answers(translator):
    words = WORDS * 15
    # Greedy and with the beam by turns, so that the signatures change, too.
    beams = [1, BEAM] * (len(words) // 2) + [1]

    def translate(word, beam):
        return [
            (one.text, one.score, one.alignment.tolist())
            for one in translator.translate([word], beam_size=beam, n_best=beam)[0]
        ]

    expected = {(word, beam): translate(word, beam) for word in WORDS for beam in beams}
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(translate, words, beams))
    assert answers == [expected[asked] for asked in zip(words, beams, strict=True)]


# Forks while other threads translate; a child that hangs is ended by its alarm.
FORKS = """
import os, signal, sys, threading, time
from pocketseq.export.runtime import Translator

translators = [Translator(sys.argv[1], threads=int(sys.argv[2])) for _ in range(2)]
ended = threading.Event()

def work(translator):
    while not ended.is_set():
        translator("fedcba")

def forked():
    child = os.fork()
    if not child:
        signal.alarm(20)
        fresh = Translator(sys.argv[1])
        os._exit({one("abc") for one in [*translators, fresh]} != {"C2 B1 A0"})
    return os.waitpid(child, 0)[1]

threads = [threading.Thread(target=work, args=(one,)) for one in translators]
for thread in threads:
    thread.start()
print([forked() for _ in range(8)], flush=True)
ended.set()
for thread in threads:
    thread.join()
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_a_child_forked_while_others_translate_translates(path, threads):
    done = subprocess.run(
        [sys.executable, "-c", FORKS, str(path), str(threads)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines() == [str([0] * 8)]


# As a signal handler may do it.
FORK_WITHIN_A_CALL = """
import os, signal, sys
from pocketseq.export.runtime import Translator

translator = Translator(sys.argv[1])
signal.alarm(20)
with translator._lock:
    child = os.fork()
    if not child:
        os._exit(0)
print(os.waitpid(child, 0)[1], translator("abc"))
"""


def test_a_fork_within_a_call_of_the_same_thread_does_not_wait_for_it(path):
    done = subprocess.run(
        [sys.executable, "-c", FORK_WITHIN_A_CALL, str(path)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "0 C2 B1 A0\n"


def test_answers_are_copies_that_later_calls_leave_alone(translator):
    row = np.zeros((1, 8), np.int32)
    row[0, :3] = [ord(character) for character in "abc"]
    first = translator.run(row)
    before = {name: value.copy() for name, value in first.items()}
    translator.run(np.full((1, 8), ord("f"), np.int32))
    for name, value in before.items():
        np.testing.assert_array_equal(first[name], value)


# Lengths.


def test_it_knows_what_the_file_holds(translator):
    assert set(translator.lengths) == {16, 8}
    assert translator.max_code_points == 16
    assert translator.beam_size == BEAM
    assert translator.target_kind == "word"
    assert translator.manifest.name == "backwards"


@pytest.mark.parametrize(
    ("text", "length"),
    [("", 8), ("abc", 8), ("abcdefab", 8), ("abcdefabc", 16), ("ab" * 20, 16)],
)
def test_a_text_goes_to_the_shortest_signature_that_holds_it(
    translator, calls, text, length
):
    translator.translate([text])
    translator.translate([text], n_best=2)
    assert calls == [(length, False), (length, True)]


def test_normalised_text_is_what_must_fit(translator, calls):
    # 16 code points that NFC makes 8.
    translator.translate(["a\u0308" * 8])
    assert calls == [(8, False)]


@pytest.mark.parametrize("beam", [1, BEAM])
def test_each_text_is_answered_as_keras_of_its_length_does(translator, keras, beam):
    options = {"beam_size": beam, "n_best": beam}
    found = dict(zip(WORDS, translator.translate(WORDS, **options), strict=True))
    for least, length in ((0, 8), (9, 16)):
        texts = [word for word in WORDS if least <= len(word) <= length]
        sized = keras.resized(length)
        expected = sized.translate(texts, **options)
        actual = [found[text] for text in texts]
        assert compare(sized, expected, actual).differences == []
        for hypotheses in actual:
            for one in hypotheses:
                assert one.alignment.shape == (len(one.text), len(one.source))


def test_a_length_may_be_asked_for(path):
    long = Translator(path, length=16)
    assert long.max_code_points == 16
    assert long("abcdef") == "F5 E4 D3 C2 B1 A0"
    short = Translator(path, length=8)
    assert short.max_code_points == 8
    assert short("abcdefabc") == short("abcdefab")


def test_a_length_that_the_file_does_not_have_is_refused(path):
    with pytest.raises(UserError, match="no length 9, expected one of 16, 8"):
        Translator(path, length=9)


def test_a_long_text_is_cut_and_that_is_logged(translator, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("pocketseq"), "propagate", True)
    long = "abc" * 40
    assert translator(long) == translator(long[:16])
    (message,) = {record.getMessage() for record in caplog.records}
    assert message.startswith("cut 1 of 1 texts to 16 code points")


# Beams.


def test_the_n_best_come_best_first(translator, keras):
    (found,) = translator.translate(["cafe"], n_best=BEAM)
    (expected,) = keras.translate(["cafe"], beam_size=BEAM, n_best=BEAM)
    assert [one.text for one in found] == [one.text for one in expected]
    scores = [one.score for one in found]
    assert scores == sorted(scores, reverse=True)
    assert len({one.text for one in found}) == BEAM
    (two,) = translator.translate(["cafe"], n_best=2)
    assert [one.text for one in two] == [one.text for one in found[:2]]
    (one,) = translator.translate(["cafe"], beam_size=BEAM)
    assert [best.text for best in one] == [found[0].text]


def test_hypotheses_that_do_not_exist_are_left_out(translator):
    ((best,),) = translator.translate([""], n_best=BEAM)
    assert (best.text, best.score) == ("", 0)


def test_one_string_is_not_a_list_of_texts(translator):
    with pytest.raises(TypeError, match="expected a list of strings, not one string"):
        translator.translate("abc")


def test_one_translation_is_searched_greedily_unless_the_recipe_prefers_a_beam(
    translator, calls, monkeypatch
):
    search = translator.manifest.recipe["search"]
    assert search["beam_size"] == 1
    translator.translate(["abc"])
    monkeypatch.setitem(search, "beam_size", BEAM)
    translator.translate(["abc"])
    translator.translate(["abc"], beam_size=1)
    assert [beam for _, beam in calls] == [False, True, False]


@pytest.mark.parametrize(
    "options",
    [{"beam_size": 2}, {"n_best": 4}, {"beam_size": 1, "n_best": 2},
     {"beam_size": BEAM, "n_best": BEAM + 1}],
)  # fmt: skip
def test_a_beam_that_the_file_does_not_hold_is_refused(translator, options):
    with pytest.raises(UserError, match=f"holds a beam of {BEAM}: expected --beam and"):
        translator.translate(["abc"], **options)


def test_a_file_without_a_beam_translates_greedily(greedy_path, translator):
    greedy = Translator(greedy_path)
    assert greedy.beam_size is None
    for found, expected in zip(
        greedy.translate(["abc", ""]), translator.translate(["abc", ""]), strict=True
    ):
        assert [one.text for one in found] == [one.text for one in expected]


def test_a_beam_is_refused_where_there_is_the_greedy_search_only(greedy_path):
    with pytest.raises(UserError, match="holds the greedy search only: expected"):
        Translator(greedy_path).translate(["abc"], beam_size=3)


# Files.


def test_only_the_text_before_the_first_zero_is_output():
    assert text_of(np.array([65, 0x1F600, 0, 66])) == "A\U0001f600"
    assert text_of(np.array([65, 66])) == "AB"
    assert text_of(np.array([0, 65])) == ""


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match="x.tflite: no such file, expected a .tflite"):
        Translator(tmp_path / "x.tflite")


def test_a_file_that_is_no_model_is_refused(tmp_path):
    text = tmp_path / "words.tsv"
    text.write_text("abc\tA B C\n" * 10)
    with pytest.raises(
        UserError, match="words.tsv: expected a run folder or a .tflite"
    ):
        Translator(text)


def test_the_built_in_kernels_answer_as_xnnpack_does(path, translator):
    plain = Translator(path, xnnpack=False)
    for found, expected in zip(
        plain.translate(WORDS), translator.translate(WORDS), strict=True
    ):
        assert [one.text for one in found] == [one.text for one in expected]


def test_a_file_that_is_cut_off_while_it_is_open_still_translates(path, tmp_path):
    copy = tmp_path / "copy.tflite"
    copy.write_bytes(path.read_bytes())
    translator = Translator(copy)
    os.truncate(copy, 0)  # a mapped file would end the process here
    assert translator("abc") == "C2 B1 A0"


def test_a_model_that_the_runtime_refuses_is_a_mistake_of_the_users(path, tmp_path):
    """Such as one that needs a newer runtime; here, operators that no one knows."""
    container = read_container(path)
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(container.data))
    for code in model.operatorCodes:
        code.version = 99
    newer = tmp_path / "newer.tflite"
    newer.write_bytes(attach_metadata(packed(model), container.manifest, {}))
    with pytest.raises(UserError, match="newer.tflite: the runtime cannot run it"):
        Translator(newer)


def test_a_model_of_other_origin_is_refused(path, tmp_path):
    data = path.read_bytes()
    other = tmp_path / "other.tflite"
    other.write_bytes(data[: data.rindex(b"PK\x05\x06") - 200])
    with pytest.raises(UserError, match="no manifest in it"):
        Translator(other)


def test_n_best_of_a_file_without_a_beam_are_refused(greedy_path):
    with pytest.raises(UserError, match="greedy search only"):
        Translator(greedy_path).translate(["abc"], n_best=2)


def test_a_beam_or_a_length_that_is_not_there_cannot_be_called(greedy_path):
    translator = Translator(greedy_path)
    with pytest.raises(ValueError, match="no signature of length 16 with a beam"):
        translator.run(np.zeros((1, 16), np.int32), beam=True)
    with pytest.raises(ValueError, match="no signature of length 5"):
        translator.run(np.zeros((1, 5), np.int32))


def test_the_shortest_signature_gives_the_same_answer_as_a_longer_one(path):
    # Six letters fit the shorter one; their phones need as much room as ever.
    assert Translator(path)("abcdef") == Translator(path, length=16)("abcdef")
