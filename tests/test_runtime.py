"""The Python runtime of exported files."""

import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from pocketseq.export.bundle import Options, export_bundle
from pocketseq.export.runtime import Translator
from pocketseq.pipeline.errors import UserError


@pytest.fixture(scope="module")
def path(trained_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runtime") / "out"
    report = export_bundle(trained_run, Options(max_loss=5), output=folder)
    assert report.passed, report.failures
    return folder / "model-int8.tflite"


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


def test_threads_that_share_a_translator_get_their_own_answers(path):
    translator = Translator(path)
    words = ["abc", "fed", "be", "cafe", "dad", "face"] * 20
    expected = {word: translator(word) for word in set(words)}
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(translator, words))
    assert answers == [expected[word] for word in words]


def test_a_long_text_is_cut_and_that_is_logged(path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("pocketseq"), "propagate", True)
    translator = Translator(path)
    long = "abc" * 40
    assert translator(long) == translator(long[:16])
    assert [r.getMessage() for r in caplog.records] == [
        "cut 1 of 1 texts to 16 code points"
    ]


def test_a_beam_is_refused_in_one_clear_line(path):
    with pytest.raises(UserError, match="greedy search only"):
        Translator(path).translate(["abc"], beam_size=3)


def test_a_file_that_is_no_model_is_refused(tmp_path):
    text = tmp_path / "words.tsv"
    text.write_text("abc\tA B C\n" * 10)
    with pytest.raises(
        UserError, match="words.tsv: expected a run folder or a .tflite"
    ):
        Translator(text)


def test_a_model_of_other_origin_is_refused(path, tmp_path):
    data = path.read_bytes()
    other = tmp_path / "other.tflite"
    other.write_bytes(data[: data.rindex(b"PK\x05\x06") - 200])
    with pytest.raises(UserError, match="no manifest in it"):
        Translator(other)
