"""The exported function against the Keras model, on weights that nobody has trained."""

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from random_models import TEXTS, random_translator

from pocketseq.export.contract import (
    ALIGNMENT,
    OUTPUTS,
    SCORE,
    TEXT,
    TRANSLATE,
    TRANSLATE_BEAM,
)
from pocketseq.export.graph import translate as graph
from pocketseq.export.runtime import text_of
from pocketseq.export.tflite.conversion import convert
from pocketseq.export.tflite.flatbuffer import finished, forbidden_operators
from pocketseq.pipeline.search import LengthBound
from pocketseq.pipeline.text.normalization import Normalization
from pocketseq.pipeline.translator import ModelTranslator

BEAM = 3
FOLDED = Normalization(fold_case=True)
DECOMPOSED = Normalization(decompose=True)
BOTH = Normalization(fold_case=True, decompose=True)

# Syllables, marks that change places, letters that compose with letters.
MARKED = [
    "각하 가나", "ệ ộ ở q̣̇ á̖", "ේ ො ෝ", "ো ৌ a", "ᾧ ΐ", "שׁ בּ",
] * 2  # fmt: skip

# Kinds of source and target, and the model. The first two read texts so long that there
# are short buffers for most, and that long buffers are filled in blocks.
CASES = {
    "character-word": dict(
        lengths=(80, 90), normalization=BOTH, end=2, seed=8, longest_ngram=3,
    ),
    "wordpiece-wordpiece": dict(
        lengths=(80, 72), normalization=BOTH, end=1, seed=2, input_feeding=True,
        attention="additive",
    ),
    "word-character": dict(
        lengths=(24, 32), normalization=DECOMPOSED, end=1, seed=3, attention="none",
        tied_output=False, readout=False, start_with_end=True, encoder_layers=2,
        length_bound=LengthBound(1.0, 1.0),
    ),
    # Its output is composed: many hypotheses, texts of several short words.
    "character-wordpiece": dict(
        lengths=(24, 32), end=1, seed=9, targets=MARKED,
        target_normalization=DECOMPOSED, attention="general",
    ),
    # This one never ends.
    "character-character": dict(
        lengths=(24, 32), normalization=FOLDED, end=-1e4, penalty=0.6, attention="dot",
        bidirectional=False, decoder_layers=2, longest_ngram=2, ngram_rows=40,
        ngram_bits=4, guards=(3, 2),
    ),
}  # fmt: skip
SHORT = {"source": 16, "target": 10}

# Those that other kernels of TensorFlow compute, too: both kinds of buffers, a cosine
# and a product, one layer and two. The files run by TFLite's own kernels in any case.
NUMERIC = ("character-word", "character-character")


class Case:
    """A translator, and the signatures of its graph by beam size."""

    def __init__(self, translator):
        self.translator = translator
        self.length = translator.source_tokenizer.max_code_points
        # As an export has them: what is rounded is rounded before.
        tables = translator.model.token_tables()
        functions = {
            name: graph.translate_function(
                translator, beam_size=beam_size, token_inputs=tables
            )
            for name, beam_size in ((TRANSLATE, 1), (TRANSLATE_BEAM, BEAM))
        }
        self.model = finished(convert(functions), OUTPUTS)
        interpreter = Interpreter(model_content=self.model)
        runners = map(interpreter.get_signature_runner, functions)
        self.runners = dict(zip((1, BEAM), runners, strict=True))

    def run(self, text, beam):
        row = np.zeros((1, self.length), np.int32)
        row[0, : len(text)] = [ord(character) for character in text]
        return self.runners[beam](text=row)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=[pytest.mark.numeric] * (name in NUMERIC))
        for name in CASES
    ],
)
def case(request):
    kinds = request.param.split("-")
    translator = random_translator(*kinds, **CASES[request.param])
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "character-word":
            _, longest = graph.search_sizes(translator)
            shorter = longest._replace(**SHORT)
            patch.setattr(graph, "search_sizes", lambda _: (shorter, longest))
        return Case(translator)


@pytest.fixture(scope="module")
def greedy(case):
    """What Keras finds greedily, made once."""
    return case.translator.translate(TEXTS, beam_size=1)


def assert_equals_keras(case, beam, expected):
    """Runs the graph on the texts that were translated, and compares everything."""
    for hypotheses in expected:
        source = hypotheses[0].source
        found = case.run(source, beam)
        # The rest does not exist.
        assert (found[SCORE][len(hypotheses) :] < -1e6).all(), ascii(source)
        for rank, wanted in enumerate(hypotheses):
            score, alignment = found[SCORE][rank], found[ALIGNMENT][rank]
            assert text_of(found[TEXT][rank]) == wanted.text, ascii(source)
            assert score == pytest.approx(wanted.score, abs=1e-3)
            size = len(wanted.text)
            assert not found[TEXT][rank, size:].any()
            assert not alignment[size:].any()
            assert not alignment[:, len(source) :].any()
            np.testing.assert_allclose(
                alignment[:size, : len(source)], wanted.alignment, atol=1e-3
            )


def test_outputs_differ(greedy):
    """What the other tests need in order to mean something."""
    assert len({best.text for (best,) in greedy}) >= 8


def test_greedy_search_equals_keras_in_text_score_and_alignment(case, greedy):
    assert_equals_keras(case, 1, greedy)


def test_a_beam_equals_keras_hypothesis_by_hypothesis(case):
    expected = case.translator.translate(TEXTS, beam_size=BEAM, n_best=BEAM)
    assert sum(len({one.text for one in best}) > 1 for best in expected) >= 10
    assert_equals_keras(case, BEAM, expected)


@pytest.mark.parametrize("case", ["word-character"], indirect=True)
def test_no_text_grows_beyond_the_bound_for_its_length(case, greedy):
    translator, at_the_bound = case.translator, 0
    for (best,) in greedy:
        words = len(best.source.split())
        if not words:
            continue
        # A token is a character.
        length = len(text_of(case.run(best.source, 1)[TEXT][0]))
        limit = int(translator.length_bound.limit(words))
        assert length <= limit
        at_the_bound += length == limit
    assert at_the_bound >= 3
    longer = ModelTranslator(
        translator.model, translator.source_tokenizer, translator.target_tokenizer,
        translator.config,
    ).translate(TEXTS)  # fmt: skip
    pairs = zip(greedy, longer, strict=True)
    cut = [(best.text, whole.text) for (best,), (whole,) in pairs]
    assert all(whole.startswith(text) for text, whole in cut)
    assert sum(len(whole) > len(text) for text, whole in cut) >= 3


@pytest.mark.parametrize("case", ["character-word"], indirect=True)
def test_texts_that_just_fit_the_short_buffers_or_just_do_not_equal_keras(case):
    translator = case.translator
    random = np.random.default_rng(0)
    texts = ["".join(random.choice([*"abcdgß "], 1 + n % 20)) for n in range(200)]
    expected = translator.translate(texts, beam_size=1)
    sizes = translator.source_tokenizer.tokenize(texts).row_lengths().numpy()
    # A word each, and the end.
    counts = [best.text.count(" ") + 2 for (best,) in expected]
    read, written = SHORT["source"], SHORT["target"]
    assert {read - 1, read, read + 1} <= set(sizes)
    short = {count for count, size in zip(counts, sizes, strict=True) if size <= read}
    assert {written - 1, written, written + 1} <= short
    assert_equals_keras(case, 1, expected)


@pytest.mark.parametrize("case", ["character-character"], indirect=True)
def test_a_model_that_never_ends_returns_when_its_buffers_are_full(case, greedy):
    # A token is a character, and one place is for the end.
    full = [best for (best,) in greedy if best.source]
    for best in full:
        found = case.run(best.source, 1)
        assert len(text_of(found[TEXT][0])) == 32
        assert found[SCORE][0] == pytest.approx(best.score, abs=1e-3)
    assert len(full) > 30


def hostile_rows(length, count):
    """Random int32 patterns, with more and more code points that a model knows."""
    random = np.random.default_rng(2)
    limits = np.iinfo(np.int32)
    known = np.array([ord(character) for character in "".join(TEXTS)], np.int32)
    edges = np.array([-1, 0x10FFFF, 0x110000, 0xD7FF, 0xD800, 0xDFFF, 0xE000], np.int32)
    for value in (limits.min, limits.max, *edges):
        yield np.full((1, length), value, np.int32)
    for share in np.linspace(0, 1, count):
        pattern = random.integers(limits.min, limits.max, length, endpoint=True)
        near = random.integers(0, 0x110000, length)
        chosen = random.random((3, length))
        row = np.where(chosen[0] < 0.5, pattern, near)
        row = np.where(chosen[1] < 0.1, random.choice(edges, length), row)
        row = np.where(chosen[2] < share, random.choice(known, length), row)
        yield row.astype(np.int32)[None]


@pytest.mark.parametrize("beam", [1, BEAM])
def test_any_int32_pattern_gets_a_defined_answer(case, beam):
    target_length = case.translator.target_tokenizer.max_code_points
    for row in hostile_rows(case.length, 50):
        found = case.runners[beam](text=row)
        codes, alignment = found[TEXT], found[ALIGNMENT]
        assert codes.shape == (beam, target_length)
        assert found[SCORE].shape == (beam,)
        assert alignment.shape == (beam, target_length, case.length)
        assert all(np.isfinite(found[name]).all() for name in OUTPUTS)
        assert (np.diff(found[SCORE]) <= 0).all()
        assert (found[SCORE] <= 0).all()
        assert (codes >= 0).all() and (codes <= 0x10FFFF).all()
        assert not ((codes >= 0xD800) & (codes <= 0xDFFF)).any()
        real = np.cumsum(codes == 0, axis=1) == 0
        assert not codes[~real].any()
        assert (alignment >= 0).all()
        np.testing.assert_allclose(alignment[real].sum(axis=1), 1, atol=1e-3)
        assert not alignment[~real].any()


def test_an_empty_text_gives_empty_text_and_score_0(case):
    for beam in case.runners:
        found = case.run("", beam)
        assert not found[TEXT].any() and not found[ALIGNMENT].any()
        assert found[SCORE][0] == 0


def test_only_allowed_operators_are_used(case):
    assert forbidden_operators(case.model) == []
