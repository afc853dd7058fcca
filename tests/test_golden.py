"""Golden lines: they hold on every correct runtime, and in no careless app."""

import json
from dataclasses import replace
from functools import partial
from typing import Any
from unicodedata import normalize

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from conftest import backwards
from test_runtime import write_file

from pocketseq.export.checks.golden import golden_lines
from pocketseq.export.checks.verification import smallest_beam_margins
from pocketseq.export.contract import SCORE, TEXT, TRANSLATE, TRANSLATE_BEAM
from pocketseq.export.runtime import Translator, text_of
from pocketseq.pipeline.translation import NO_SCORE

N, BEAM = 16, 3
TOLERANCE = 1e-3
KERNELS = {
    "XNNPACK": OpResolverType.AUTO,
    "built-in": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
}


@pytest.fixture(scope="module")
def keras(trained_run):
    """A model to which é is an a: its language has a letter that NFD takes apart."""
    translator = trained_run.load()
    translator.source_tokenizer.table["\u00e9"] = "a"
    return translator


@pytest.fixture(scope="module")
def sources(corpus_folder):
    lines = (corpus_folder / "dev.tsv").read_text(encoding="utf-8").splitlines()
    return [line.split("\t")[0].replace("a", "\u00e9") for line in lines]


@pytest.fixture(scope="module")
def path(keras, tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden")
    return write_file(folder / "model.tflite", keras, [N], BEAM)


@pytest.fixture(scope="module")
def files(path):
    openers = [partial(Translator, path, xnnpack=xnnpack) for xnnpack in (True, False)]
    return [(opener, TOLERANCE) for opener in openers]


@pytest.fixture(scope="module", params=[None, BEAM])
def beam(request):
    return request.param


@pytest.fixture(scope="module")
def lines(keras, files, sources, beam):
    found = golden_lines(keras, files, sources, beam_size=beam)
    return [json.loads(line) for line in found]


@pytest.fixture(scope="module", params=KERNELS)
def run(request, path, beam):
    """A function from code points to texts and scores, as an app has it."""
    interpreter = Interpreter(
        str(path), experimental_op_resolver_type=KERNELS[request.param]
    )
    name = TRANSLATE_BEAM if beam else TRANSLATE
    runner = interpreter.get_signature_runner(name)

    def run(codes):
        row = np.zeros((1, N), np.int32)
        row[0, : len(codes)] = codes
        found = runner(text=row)
        there = found[SCORE] >= NO_SCORE
        return [text_of(c) for c in found[TEXT][there]], found[SCORE][there]

    return run


def composed(text):
    return normalize("NFC", text.split("\0")[0])


def answers(line):
    return line.get("translations") or [line["translation"]]


def test_there_are_enough_and_each_text_stands_once(lines):
    assert len(lines) >= 100
    assert len({line["text"] for line in lines}) == len(lines)


def test_every_line_holds_in_an_app_that_does_right(lines, run):
    for line in lines:
        texts, scores = run([ord(c) for c in composed(line["text"])[:N]])
        assert texts == answers(line)
        expected = line.get("scores") or [line["score"]]
        np.testing.assert_allclose(scores, expected, atol=TOLERANCE)


def test_where_files_hold_a_longer_length_no_text_is_cut(keras, files, sources):
    some = golden_lines(keras, files[:1], sources[:5], is_longest=False)
    longest = max(len(composed(json.loads(line)["text"])) for line in some)
    assert 0 < longest <= N


def test_learned_words_are_among_them(lines):
    first = {line["text"]: answers(line)[0] for line in lines}
    words = [text for text in first if 2 <= len(text) <= 5 and set(text) <= set("bcde")]
    assert len(words) >= 5
    assert all(first[word] == backwards(word) for word in words)


def test_an_app_that_forgets_nfc_fails(lines, run):
    own = [line for line in lines if "e\u0301" in line["text"]]
    assert own
    for line in own:
        codes = list(map(ord, line["text"].split("\0")[0]))
        assert run(codes[:N])[0] != answers(line)


def test_an_app_that_counts_utf_16_units_fails(lines, run):
    above = [line for line in lines if max(line["text"], default="") > "\uffff"]
    assert above
    for line in above:
        units = np.frombuffer(line["text"].encode("utf-16-le"), "<u2")[:N]
        assert run(units)[0] != answers(line)


def test_a_line_is_one_line_to_every_program(keras, files):
    texts = ["ab\u2028", "ab\u0085", "ab\u2029", *("ab" * i for i in range(1, 6))]
    for line in golden_lines(keras, files, texts):
        assert len(line.splitlines()) == 1


class Differing:
    """A file that differs from another where a text holds a d."""

    def __init__(self, opener, change):
        self.file, self.change = opener(), change
        self.max_code_points = self.file.max_code_points
        self.run = self.file.run

    def translate(self, texts, **options):
        return [
            self.change(best) if "d" in best[0].source else best
            for best in self.file.translate(texts, **options)
        ]


@pytest.mark.parametrize(
    "change",
    [
        lambda best: [*best[:-1], replace(best[-1], text="X")],
        lambda best: [replace(best[0], score=best[0].score - 0.6e-3), *best[1:]],
        lambda best: best[:-1],
        lambda best: [*best, best[-1]],
    ],
    ids=["text", "more than half the tolerance", "fewer", "more"],
)
def test_all_files_agree_on_a_line(keras, files, sources, beam, change):
    opener, tolerance = files[0]
    other: Any = (partial(Differing, opener, change), tolerance)
    found = golden_lines(keras, [*files, other], sources[:30], beam_size=beam)
    texts = [composed(json.loads(line)["text"]) for line in found]
    assert texts and not any("d" in text[:N] for text in texts)


@pytest.mark.parametrize("beam", [BEAM], indirect=True)
def test_every_decision_of_a_beam_was_taken_by_a_margin(keras, lines, beam):
    texts = [composed(line["text"])[:N] for line in lines]
    assert min(smallest_beam_margins(keras, texts, beam)) >= 0.01 - 1e-5
