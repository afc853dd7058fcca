"""Exceptions inside an exported model: found by TFLite, under both sets of kernels."""

import itertools
from functools import cache

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from random_models import random_translator

from pocketseq.export.contract import ALIGNMENT, OUTPUTS, SCORE, TEXT
from pocketseq.export.dictionary import token_ids
from pocketseq.export.exceptions import MODULUS, Entry, build_table
from pocketseq.export.graph import translate as graph
from pocketseq.export.graph.exceptions import look_up_answers
from pocketseq.export.recipes import RECIPES
from pocketseq.export.runtime import text_of
from pocketseq.export.tflite.conversion import convert
from pocketseq.export.tflite.flatbuffer import (
    finished,
    forbidden_operators,
    minimum_runtime,
)
from pocketseq.export.tflite.quantization import quantize_weights
from pocketseq.pipeline.search import LengthBound
from pocketseq.pipeline.text.normalization import Normalization
from pocketseq.pipeline.text.special import END, PAD, START, UNKNOWN

KERNELS = {
    "XNNPACK": OpResolverType.AUTO,
    "built-in": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
}


def runner(model, kernels, signature="translate"):
    interpreter = Interpreter(
        model_content=model, experimental_op_resolver_type=KERNELS[kernels]
    )
    return interpreter.get_signature_runner(signature)


# The look-up by itself: source ids in, answers out.

WIDTH, ANSWERS, LENGTH = 5, 2, 9


def ids_of_all_texts(tokens):
    """All sequences of up to four of some tokens."""
    for size in range(5):
        yield from itertools.product(tokens, repeat=size)


def entries_among(texts, targets, seed):
    """Entries with one, two or three answers, and the texts that have none."""
    random = np.random.default_rng(seed)
    chosen = set(random.choice(len(texts), len(texts) // 3, replace=False).tolist())
    entries = []
    for index in sorted(chosen):
        if texts[index]:
            answers = {
                tuple(map(int, random.choice(targets, random.integers(1, 8))))
                for _ in range(random.integers(1, 4))
            }
            entries.append(Entry(texts[index], tuple(answers)))
    entries = [entry for entry in entries if UNKNOWN not in entry.source_ids]
    known = {entry.source_ids for entry in entries}
    return entries, [text for text in texts if text not in known]


# Source tokens, all source tokens there may be, target tokens.
TABLES = {
    "bytes": ([UNKNOWN, 4, 5, 6, 7], 8, range(4, 30)),
    "large numbers": ([UNKNOWN, 4, 4 + MODULUS, 5 * MODULUS], 6 * MODULUS, range(4, 9)),
    "many target tokens": ([UNKNOWN, 4, 5, 6], 7, range(4, 3000)),
}


@pytest.fixture(scope="module", params=TABLES)
def looked_up(request):
    """The model of a look-up, its entries, and all other texts."""
    tokens, vocabulary_size, targets = TABLES[request.param]
    texts = list(ids_of_all_texts(tokens))
    entries, others = entries_among(texts, targets, seed=len(texts))
    table = build_table(
        entries, others, source_tokens=WIDTH, vocabulary_size=vocabulary_size
    )

    @tf.function(input_signature=[tf.TensorSpec([1, WIDTH], tf.int32, name="text")])
    def look_up(text):
        answers = look_up_answers(
            text, table, unknown_ids=[UNKNOWN], shape=(ANSWERS, LENGTH)
        )
        return {"answers": answers}

    return convert({"translate": look_up}), entries, others


@pytest.mark.parametrize("kernels", KERNELS)
def test_the_answers_of_all_entries_are_found_and_those_of_no_other_text(
    looked_up, kernels
):
    model, entries, others = looked_up
    run = runner(model, kernels)

    def found(source_ids):
        row = np.full((1, WIDTH), PAD, np.int32)
        row[0, : len(source_ids)] = source_ids
        return run(text=row)["answers"]

    for entry in entries:
        expected = np.full((1, ANSWERS, LENGTH), PAD, np.int32)
        for rank, target in enumerate(entry.targets[:ANSWERS]):
            expected[0, rank, : len(target) + 1] = [*target, END]
        np.testing.assert_array_equal(found(entry.source_ids), expected)
    for source_ids in others:
        assert not found(source_ids).any(), source_ids


@pytest.mark.parametrize("kernels", KERNELS)
def test_an_unknown_character_is_never_part_of_an_entry(kernels):
    # As if somebody had built a table of what a dictionary leaves out.
    ids = (4, UNKNOWN, 5)
    table = build_table([Entry(ids, ((4,),))], source_tokens=WIDTH, vocabulary_size=9)

    @tf.function(input_signature=[tf.TensorSpec([1, WIDTH], tf.int32, name="text")])
    def look_up(text):
        unknown, none = (
            look_up_answers(text, table, unknown_ids=unknown, shape=(1, 3))
            for unknown in ([UNKNOWN, 8], [8])
        )
        return {"unknown": unknown, "known": none}

    run = runner(convert({"translate": look_up}), kernels)
    found = run(text=np.array([[*ids, PAD, PAD]], np.int32))
    assert not found["unknown"].any()
    assert found["known"].tolist() == [[[4, END, PAD]]]


# The whole graph, on weights that nobody has trained.

BEAM, SHORTER_TEXTS = 3, 24
FOLDED = Normalization(fold_case=True)
DECOMPOSED = Normalization(decompose=True)
# Sources and targets that the random tokenizers know, and the model.
CASES = {
    "character-word": dict(lengths=(80, 90), normalization=FOLDED, end=2, seed=8),
    "wordpiece-character": dict(
        lengths=(24, 32), normalization=DECOMPOSED, end=1, seed=3,
        length_bound=LengthBound(1.0, 1.0),
    ),
}  # fmt: skip
# The second answers of the first two are the start of the first, and alike at first.
DICTIONARY = {
    "character-word": {
        "ab": ["ab aab xy", "ab aab"],
        "cabdab": ["xy zab", "xy xy", "zab é"],
        "straße": ["é 각 zab abba x ab aab xy é 각 zab abba x ab"],
        "a" * 60: ["x", "ab"],
        "aab bab # a##b": ["abba"],
    },
    "wordpiece-character": {
        "ab": ["ab aab xy", "ab aab"],
        "cab dab": ["xy zab", "xy xy", "zab é"],
        "각하 ab": ["각 zab abba x ab aab xy"],
        "aab": ["x"],
    },
}
# Other forms of entries, and texts that are almost one.
SAME = {"character-word": {"AB": "ab", "STRASSE": "straße", "Straße": "straße"},
        "wordpiece-character": {" cab\u2003 dab ": "cab dab"}}  # fmt: skip
OTHER = ["", "a", "b", "ba", "abab", "abq", "qab", "ab\u4e00", "aabx", "dab cab", "xy"]


class Case:
    """A translator, the entries of its dictionary, and its graph by recipe."""

    def __init__(self, name):
        kinds = name.split("-")
        self.translator = translator = random_translator(*kinds, **CASES[name])
        self.length = translator.source_tokenizer.max_code_points
        self.dictionary = DICTIONARY[name]
        self.same = SAME[name]
        sources = list(self.dictionary)
        self.targets = [
            tuple(token_ids(translator.target_tokenizer, answers))
            for answers in self.dictionary.values()
        ]
        ids = token_ids(translator.source_tokenizer, sources)
        self.table = build_table(
            [Entry(*pair) for pair in zip(ids, self.targets, strict=True)],
            source_tokens=translator.source_tokenizer.most_tokens,
            vocabulary_size=len(translator.source_tokenizer),
        )
        tables = translator.model.token_tables(source=8, target=8)
        shorter = translator.resized(SHORTER_TEXTS)
        self._stored: dict[tuple[str, bool], bytes] = {}
        self.functions = {
            "translate": dict(translator=translator),
            "translate_beam": dict(translator=translator, beam_size=BEAM),
            f"translate_{SHORTER_TEXTS}": dict(translator=shorter),
        }
        self.model = convert(
            {
                name: graph.translate_function(
                    **arguments, token_inputs=tables, exceptions=self.table
                )
                for name, arguments in self.functions.items()
            }
        )

    def stored(self, recipe, *, compatible=False):
        key = (recipe, compatible)
        if key not in self._stored:
            quantized = quantize_weights(
                self.model, RECIPES[recipe], compatible=compatible
            )
            self._stored[key] = finished(quantized, OUTPUTS)
        return self._stored[key]


@cache
def case_of(name):
    """Makes a case once, in whatever order the tests come."""
    return Case(name)


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return case_of(request.param)


@pytest.fixture(scope="module")
def as_trained(case):
    """The case's model with its weights as they are, which Keras is compared with."""
    options = {"exceptions": case.table}
    return convert(
        {
            "translate": graph.translate_function(case.translator, **options),
            "translate_beam": graph.translate_function(
                case.translator, beam_size=BEAM, **options
            ),
        }
    )


@pytest.fixture(scope="module")
def model(case, request):
    return case.stored(request.param)


#: Each recipe stores one of the cases, and the usual one stores both.
STORED = [
    ("character-word", "float32"), ("character-word", "int8"),
    ("wordpiece-character", "float16"), ("wordpiece-character", "int8"),
    ("wordpiece-character", "int4"),
]  # fmt: skip
BY_EVERY_RECIPE = pytest.mark.parametrize(("case", "model"), STORED, indirect=True)


def test_every_recipe_and_every_case_is_stored():
    assert {case for case, _ in STORED} == {*CASES}
    assert {recipe for _, recipe in STORED} == {*RECIPES}


def row_of(text, length):
    row = np.zeros((1, length), np.int32)
    row[0, : len(text)] = list(map(ord, text))
    return row


@BY_EVERY_RECIPE
@pytest.mark.parametrize("kernels", KERNELS)
def test_every_entry_is_answered_exactly_with_score_0_by_every_recipe(
    case, model, kernels
):
    run = runner(model, kernels)
    shorter = runner(model, kernels, f"translate_{SHORTER_TEXTS}")
    texts = {**{text: text for text in case.dictionary}, **case.same}
    for text, entry in texts.items():
        best = case.dictionary[entry][0]
        found = run(text=row_of(text, case.length))
        assert (text_of(found[TEXT][0]), found[SCORE][0]) == (best, 0.0)
        if len(text) <= SHORTER_TEXTS:
            found = shorter(text=row_of(text, SHORTER_TEXTS))
            assert (text_of(found[TEXT][0]), found[SCORE][0]) == (best, 0.0)
    for text in OTHER[1:]:
        found = run(text=row_of(text, case.length))
        assert found[SCORE][0] < 0


@BY_EVERY_RECIPE
@pytest.mark.parametrize("kernels", KERNELS)
def test_a_beam_gives_all_answers_in_their_order_and_then_its_own(case, model, kernels):
    run = runner(model, kernels, "translate_beam")
    for text, answers in case.dictionary.items():
        found = run(text=row_of(text, case.length))
        texts = list(map(text_of, found[TEXT]))
        assert texts[: len(answers)] == answers
        assert not found[SCORE][: len(answers)].any()
        assert (found[SCORE][len(answers) :] < 0).all()
        assert (np.diff(found[SCORE]) <= 0).all()
        assert not set(texts[len(answers) :]) & set(answers)


def test_the_alignment_of_an_exception_is_the_attention_along_its_tokens(
    case, as_trained
):
    run = runner(as_trained, "XNNPACK", "translate_beam")
    tokenizer = case.translator.source_tokenizer
    for text, targets in zip(case.dictionary, case.targets, strict=True):
        (ids,) = token_ids(tokenizer, [text])
        found = run(text=row_of(text, case.length))
        for rank, target in enumerate(targets):
            # The model itself, under the tokens that it would not have chosen.
            _, attention = case.translator.model(
                tf.constant([ids]), tf.constant([len(ids)]),
                tf.constant([[START, *target]]),
            )  # fmt: skip
            rows = np.zeros((len(target), len(text)))
            for token, span in enumerate(tokenizer.spans(text)):
                for place in span:
                    rows[:, place] += attention[0, :-1, token] / len(span)
            expected = [rows[token] for token in written_by(case, target)]
            size = len(expected)
            alignment = found[ALIGNMENT][rank]
            np.testing.assert_allclose(
                alignment[:size, : len(text)], expected, atol=1e-3
            )
            assert not alignment[size:].any()
            assert not alignment[:, len(text) :].any()


def written_by(case, target):
    """The token that each code point of a target comes from, by its number."""
    tokenizer = case.translator.target_tokenizer
    tokens = []
    for number, token in enumerate(target):
        separated = number > 0 and not tokenizer.continues[token]
        tokens += [number] * (len(tokenizer.piece_texts[token]) + separated)
    return tokens


def test_texts_that_are_not_in_the_table_equal_keras(case, as_trained):
    for name, beam in (("translate", 1), ("translate_beam", BEAM)):
        run = runner(as_trained, "XNNPACK", name)
        expected = case.translator.translate(OTHER, beam_size=beam, n_best=beam)
        for text, hypotheses in zip(OTHER, expected, strict=True):
            found = run(text=row_of(text, case.length))
            for rank, wanted in enumerate(hypotheses):
                assert text_of(found[TEXT][rank]) == wanted.text
                assert found[SCORE][rank] == pytest.approx(wanted.score, abs=1e-3)


def test_any_int32_pattern_gets_a_defined_answer(case):
    run = runner(case.stored("int8"), "built-in", "translate_beam")
    random = np.random.default_rng(3)
    limits = np.iinfo(np.int32)
    known = np.array(list(map(ord, "".join(case.dictionary))), np.int32)
    for share in np.linspace(0, 1, 40):
        row = random.integers(limits.min, limits.max, case.length, endpoint=True)
        real = random.random(case.length) < share
        row = np.where(real, random.choice(known, case.length), row)
        found = run(text=row.astype(np.int32)[None])
        assert all(np.isfinite(found[name]).all() for name in OUTPUTS)
        assert (np.diff(found[SCORE]) <= 0).all() and (found[SCORE] <= 0).all()
        assert ((found[TEXT] >= 0) & (found[TEXT] <= 0x10FFFF)).all()


def test_a_table_needs_no_newer_runtime_and_no_other_operators(case):
    assert forbidden_operators(case.model) == []
    compatible = case.stored("int8", compatible=True)
    assert [int(number) for number in minimum_runtime(compatible).split(".")] <= [2, 14]


def test_signatures_share_one_copy_of_the_table(case):
    assert case.stored("int8").count(case.table.stream.tobytes()) == 1
