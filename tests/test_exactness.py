"""Exports with exceptions: what they answer, what they say, and when they must fail."""

import io
import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from conftest import backwards
from random_models import random_translator

from pocketseq.export.bundle import Options, export_bundle
from pocketseq.export.checks import exactness
from pocketseq.export.checks.exactness import check_others, find_wrong_words
from pocketseq.export.contract import (
    GOLDEN,
    MANIFEST,
    README,
    SCORE,
    TEXT,
    version_numbers,
)
from pocketseq.export.dictionary import Dictionary, Word
from pocketseq.export.exceptions import Entry
from pocketseq.export.exporter import TRAINING_CORPUS, load_trained
from pocketseq.export.runtime import text_of
from pocketseq.export.tflite import files
from pocketseq.pipeline.runs import Run
from pocketseq.pipeline.translation import Translation

BEAM = 2
KERNELS = {
    "XNNPACK": OpResolverType.AUTO,
    "built-in": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
}
#: What no model that spells backwards would say, alternatives behind the first answer.
NAMES = {
    "abc": ["A0 A0 A0"],
    "fed": ["B1", "C2 C2"],
    "face": ["E4 C2 A0 F5", "F5", "A0"],
    "dddddddddddddddd": ["A0 B1 C2 D3 E4 F5"],
    # With phones that the model does not know.
    "cfe": ["J2 A0 K9", "B1 J2"],
}
RIGHT = {word: [backwards(word)] for word in ("ab", "bead", "cab")}
LEFT_OUT = "abz\tA0\n" + "a" * 17 + "\tA0\n"


@pytest.fixture(scope="module")
def dev(corpus_folder):
    lines = (corpus_folder / "dev.tsv").read_text(encoding="utf-8").splitlines()
    return dict(line.split("\t") for line in lines)


@pytest.fixture(scope="module")
def names(dev):
    """The dictionary: also five dev words, which it wants answered otherwise."""
    others = [word for word in dev if word not in {**NAMES, **RIGHT}]
    return {**NAMES, **RIGHT, **{word: ["E4 E4"] for word in others[:5]}}


@pytest.fixture(scope="module")
def report(trained_run, names, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exact")
    lines = [f"{word}\t{text}\n" for word, texts in names.items() for text in texts]
    (folder / "names.tsv").write_text("".join(lines) + LEFT_OUT, encoding="utf-8")
    options = Options(
        recipes=("float32", "int8"), beam_size=BEAM, compatible=True, max_loss=10,
        exceptions=str(folder / "names.tsv"),
    )  # fmt: skip
    report = export_bundle(trained_run, options, output=folder / "out")
    assert report.passed, report.failures
    return report


@pytest.fixture(scope="module")
def manifest(report):
    return json.loads((report.folder / MANIFEST).read_text(encoding="utf-8"))


@pytest.fixture(scope="module", params=["float32", "int8"])
def recipe(request):
    return request.param


@pytest.fixture(params=KERNELS)
def run(request, report, recipe):
    """A function from a text and a signature to texts and scores."""
    interpreter = Interpreter(
        str(report.folder / f"model-{recipe}.tflite"),
        experimental_op_resolver_type=KERNELS[request.param],
    )

    def run(text, signature="translate"):
        row = np.zeros((1, 16), np.int32)
        row[0, : len(text)] = list(map(ord, text))
        found = interpreter.get_signature_runner(signature)(text=row)
        return list(map(text_of, found[TEXT])), found[SCORE].tolist()

    return run


def test_every_word_of_the_dictionary_is_answered_exactly(run, names):
    for word, answers in names.items():
        texts, scores = run(word)
        assert texts == answers[:1]
        if word not in RIGHT:
            assert scores == [0.0]
        texts, scores = run(word, "translate_beam")
        assert texts[: len(answers)] == answers[:BEAM]
        assert scores == sorted(scores, reverse=True)
        if word not in RIGHT:
            assert not any(scores[: len(answers)])


def test_only_what_a_file_gets_wrong_is_in_its_table(run, names, manifest, recipe):
    from_table = sum(run(word)[1] == [0.0] for word in names)
    assert from_table == manifest["models"][recipe]["exceptions"]["entries"]
    assert len(names) - len(RIGHT) <= from_table <= len(names)
    assert run("abf")[1][0] < 0 and run("abz")[1][0] < 0


def test_the_manifests_say_what_is_in_the_tables(report, manifest, recipe):
    entry = manifest["models"][recipe]["exceptions"]
    assert manifest["exceptions"] == manifest["models"]["int8"]["exceptions"]
    data = (report.folder / f"model-{recipe}.tflite").read_bytes()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        inside = json.loads(archive.read(MANIFEST))
    assert inside["exceptions"] == entry
    assert 0 < entry["bytes"] < len(data)
    needed = manifest["models"][recipe]["minimum_runtime"]
    assert version_numbers(needed) <= version_numbers("2.14.0")


def test_dev_words_in_the_dictionary_do_not_count_for_or_against_a_file(
    report, names, dev
):
    keras, *others = report.files
    for row in others:
        assert row.loss == pytest.approx(0, abs=1.5)
        assert row.dev["wer"] == pytest.approx(keras.dev["wer"], abs=1.5)
    (note,) = (note for note in report.notes if "dev texts are in" in note)
    assert note.startswith(f"{len({*names} & {*dev})} of 150 dev texts are in ")


def test_the_report_says_what_was_left_out_and_what_is_exact(report, names):
    notes = "\n".join(report.notes)
    assert "2 of 19 pairs cannot be exceptions: " in notes
    assert "1 with source characters that it does not know" in notes
    assert "not know and that only its exceptions have: 2: J2 (" in notes
    for recipe in ("float32", "int8"):
        assert f"{recipe}: {len(names)} of {len(names)} words of " in notes
    assert "float32 against Keras on 150 dev texts" in notes


def test_golden_lines_include_exceptions(report, names):
    lines = (report.folder / GOLDEN).read_text(encoding="utf-8").splitlines()
    found = {line["text"]: line for line in map(json.loads, lines)}
    assert len(lines) >= 100
    for word, answers in NAMES.items():
        assert found[word] == {
            "text": word, "translation": answers[0], "score": 0.0, "search": "greedy",
        }  # fmt: skip


def test_the_readme_of_the_bundle_says_what_an_exception_is(report, manifest):
    text = (report.folder / README).read_text(encoding="utf-8")
    entries = manifest["exceptions"]["entries"]
    assert f" {entries} exceptions in " in text
    assert "**Exceptions** are texts of a dictionary" in text


@pytest.fixture(scope="module")
def small_run(trained_run, dev, tmp_path_factory):
    """The same run with 8 lines to measure on, and 20 that count as learned.

    The model gets all of them right.
    """
    folder = tmp_path_factory.mktemp("small") / "run"
    shutil.copytree(trained_run.folder, folder)
    config = trained_run.config()
    corpus = Path(config.data.train).read_text(encoding="utf-8").splitlines()
    found = trained_run.load().translate([line.split("\t")[0] for line in corpus])
    right = [
        line
        for line, (best,) in zip(corpus, found, strict=True)
        if line.split("\t")[1] == best.text and best.score > -0.3
    ]
    lines = {"train": right[:20], "dev": [f"{word}\t{dev[word]}" for word in dev][:8]}
    text = (folder / "config.toml").read_text(encoding="utf-8")
    for part, some in lines.items():
        (folder / f"{part}.tsv").write_text("\n".join(some), encoding="utf-8")
        path = getattr(config.data, part)
        text = text.replace(path, str(folder / f"{part}.tsv"))
    (folder / "config.toml").write_text(text, encoding="utf-8")
    return Run(folder)


def test_where_nothing_is_wrong_there_is_no_table(small_run, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "exceptions_of", None)  # which cannot be called
    options = Options(recipes=("float32",), exceptions=TRAINING_CORPUS, max_loss=10)
    report = export_bundle(small_run, options, output=tmp_path / "out")
    assert report.passed, report.failures
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text(encoding="utf-8"))
    assert manifest["exceptions"] == {"entries": 0, "bytes": 0}
    assert "float32: 20 of 20 words of " in "\n".join(report.notes)


def test_a_table_that_lacks_an_entry_stops_the_export(small_run, tmp_path, monkeypatch):
    original = files.exceptions_of

    def without_the_first(dictionary, numbers, translators):
        return original(dictionary, sorted(numbers)[1:], translators)

    monkeypatch.setattr(files, "exceptions_of", without_the_first)
    (tmp_path / "names.tsv").write_text("abc\tA0 A0\nfed\tB1\n", encoding="utf-8")
    options = Options(recipes=("float32",), exceptions=str(tmp_path / "names.tsv"))
    report = export_bundle(small_run, options, output=tmp_path / "out")
    (failure,) = report.failures
    assert failure.startswith("float32: 1 words of ")
    assert failure.endswith("are not answered exactly, such as 'abc'")
    assert not (tmp_path / "out").exists()


def test_a_table_may_change_no_other_answer(small_run, tmp_path):
    (tmp_path / "names.tsv").write_text("abc\tA0 A0\n", encoding="utf-8")
    options = Options(exceptions=str(tmp_path / "names.tsv"))
    trained = load_trained(small_run, options)
    before = [Translation(word, "B1", -0.5, None) for word in ("abc", "ab", "ba", "fe")]

    def failures(*changes):
        pairs = zip(before, changes, strict=True)
        after = [replace(one, **change) for one, change in pairs]
        return check_others("int8", trained, frozenset({0}), before, after).failures

    assert failures({"text": "A0 A0", "score": 0.0}, {}, {}, {}) == ()
    (failure,) = failures({}, {"text": "A0"}, {"score": -0.4}, {"score": -0.5001})
    assert failure.startswith("int8: 2 dev texts that are not exceptions")
    assert failure.endswith("such as 'ab', 'ba'")


def test_a_file_is_asked_in_every_signature_and_by_all_kernels(monkeypatch):
    asked = []

    class File:
        def __init__(self, path, *, length, xnnpack):
            self.max_code_points = length
            self.xnnpack = xnnpack

        def run(self, row, *, beam):
            text = text_of(row[0])
            asked.append((text, self.max_code_points, self.xnnpack, beam))
            # Wrong in one signature each, or right, with a beam in whatever order.
            wrong = {
                "ab": not self.xnnpack and self.max_code_points == 8 and not beam,
                "ba": self.xnnpack and self.max_code_points == 16 and beam,
                "aaaaaaaaa": False,
            }[text]
            texts = ["x"] * 3 if wrong else ["A0", "C2", "B1"]
            rows = [[*map(ord, one), 0] for one in texts if beam or one == texts[0]]
            scores = -np.arange(1.0, len(rows) + 1, dtype=np.float32)
            return {TEXT: np.array(rows, dtype=object), SCORE: scores}

    monkeypatch.setattr(exactness, "Translator", File)
    translators = {
        length: random_translator("character", "word", lengths=(length, length))
        for length in (8, 16)
    }
    words = tuple(
        Word(text, Entry((4,), ((4,), (5,), (6,))), ("A0", "B1", "C2"))
        for text in ("ab", "ba", "aaaaaaaaa")
    )
    trained: Any = SimpleNamespace(
        dictionary=Dictionary("names", words, {}, {}, 9), translators=translators
    )
    found = find_wrong_words(Path("file"), trained, Options(beam_size=3))
    assert found == {0, 1}
    kinds = {call[1:] for call in asked if call[0] == "ba"}
    assert len(kinds) == 8
    assert {length for text, length, *_ in asked if text == "aaaaaaaaa"} == {16}
