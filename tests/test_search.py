"""Tests of pocketseq.pipeline.search, with scripted steps in place of a model."""

import itertools
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from pocketseq.pipeline.search import LONGEST_LOOP, Guards, LengthBound, beam_search
from pocketseq.pipeline.text.special import END, PAD, START, UNKNOWN

VOCABULARY_SIZE = 6
TOKENS = range(END, VOCABULARY_SIZE)  # what may be emitted: END, UNKNOWN, 4 and 5
MAX_LENGTH = 4
FREE = Guards()


class State(NamedTuple):
    """What a scripted step knows, ``(rows,)`` each."""

    text: tf.Tensor
    time: tf.Tensor
    path: tf.Tensor


def start_state(batch_size):
    zeros = tf.zeros([batch_size], tf.int32)
    return State(text=tf.range(batch_size), time=zeros, path=zeros)


def scripted_step(tables, calls=None):
    """A step that looks its logits up: ``tables[text, time, token before, token]``.

    Its attention is (a number made of all tokens before, the time).
    """

    def step(token_ids, state):
        if calls is not None:
            calls.append(token_ids)
        logits = tf.gather_nd(tables, tf.stack([state.text, state.time, token_ids], 1))
        path = state.path * VOCABULARY_SIZE + token_ids
        attention = tf.cast(tf.stack([path, state.time], axis=1), tf.float32)
        return logits, attention, State(state.text, state.time + 1, path)

    return step


def random_tables(batch_size=1, seed=1, length=MAX_LENGTH):
    """Random logits, in which PAD and START, never allowed, are the likeliest."""
    random = np.random.default_rng(seed)
    shape = (batch_size, length, VOCABULARY_SIZE, VOCABULARY_SIZE)
    tables = 1.5 * random.normal(size=shape)
    tables[..., [PAD, START]] += 4.0
    return tables.astype("float32")


def table_by_token(rows, length, otherwise=-50.0):
    """Logits that depend on the token before only: ``{before: {token: logit}}``."""
    table = np.full((VOCABULARY_SIZE, VOCABULARY_SIZE), otherwise, "float32")
    for before, logits in rows.items():
        for token, logit in logits.items():
            table[before, token] = logit
    return np.tile(table, (1, length, 1, 1))


def search(tables, *, active=None, calls=None, max_length=MAX_LENGTH, **options):
    if active is None:
        active = np.full(len(tables), True)
    return beam_search(
        scripted_step(tf.constant(tables), calls),
        start_state(len(tables)),
        active=tf.constant(active),
        source_length=2,
        max_length=max_length,
        **options,
    )


def outputs(hypotheses, text=0):
    """The hypotheses of one text, as ``(tokens, score)``; padding is checked."""
    found = []
    for ids, length, score in zip(
        *(np.asarray(part)[text] for part in hypotheses[:3]), strict=True
    ):
        assert np.all(ids[length:] == PAD)
        found.append((tuple(ids[:length].tolist()), float(score)))
    return found


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    return logits - np.log(np.sum(np.exp(logits), axis=-1, keepdims=True))


def total(tokens, table):
    """The summed log-probability of some tokens; ``table[time, before, token]``."""
    before = (START, *tokens[:-1])
    return sum(
        log_softmax(table[time, before[time]])[token]
        for time, token in enumerate(tokens)
    )


def score(tokens, table, length_penalty):
    return total(tokens, table) / len(tokens) ** length_penalty


def all_sequences(max_length=MAX_LENGTH):
    """Every sequence that ends with END, or that reaches the maximum length."""
    inner = [token for token in TOKENS if token != END]
    for length in range(max_length):
        for tokens in itertools.product(inner, repeat=length):
            yield (*tokens, END)
    yield from itertools.product(inner, repeat=max_length)


def keeps(guards, tokens):
    """Whether a sequence does nothing that guards forbid, by their definition."""
    tokens = [token for token in tokens if token != END]
    n, most = guards
    if n:
        ngrams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
        if len(set(ngrams)) < len(ngrams):
            return False
    for start in range(len(tokens) if most else 0):
        for period in range(1, LONGEST_LOOP + 1):
            loop = tokens[start : start + period] * (most + 1)
            if tokens[start : start + period * (most + 1)] == loop:
                return False
    return True


def reference_beam(
    table, beam_size, length_penalty, max_length=MAX_LENGTH, guards=FREE
):
    """A beam search over Python lists."""
    kept: list[tuple[int, ...]] = [()]
    for _ in range(max_length):
        candidates = []
        for tokens in kept:
            if tokens[-1:] == (END,):
                candidates.append(tokens)
            else:
                candidates.extend((*tokens, token) for token in TOKENS)
        candidates = [tokens for tokens in candidates if keeps(guards, tokens)]
        candidates.sort(key=lambda tokens: -score(tokens, table, length_penalty))
        kept = candidates[:beam_size]
    return [(tokens, score(tokens, table, length_penalty)) for tokens in kept]


def assert_same_outputs(found, expected):
    assert [tokens for tokens, _ in found] == [tokens for tokens, _ in expected]
    np.testing.assert_allclose(
        [score for _, score in found], [score for _, score in expected], atol=1e-4
    )


@pytest.mark.parametrize("length_penalty", [0.0, 0.5, 1.0])
def test_a_wide_beam_finds_all_sequences_best_first(length_penalty):
    tables = random_tables()
    expected = [
        (tokens, score(tokens, tables[0], length_penalty)) for tokens in all_sequences()
    ]
    expected.sort(key=lambda pair: -pair[1])
    assert len(expected) == 121  # 1 + 3 + 9 + 27 that end, 81 that reach the maximum
    hypotheses = search(tables, beam_size=121, length_penalty=length_penalty)
    assert_same_outputs(outputs(hypotheses), expected)


def test_a_sequence_cut_at_the_maximum_length_can_be_the_best():
    tables = random_tables()
    tables[..., END] -= 5.0
    best = max(all_sequences(), key=lambda tokens: score(tokens, tables[0], 1.0))
    assert len(best) == MAX_LENGTH and END not in best
    assert outputs(search(tables, beam_size=121))[0][0] == best


@pytest.mark.parametrize("beam_size", [1, 3])
def test_greedy_and_beam_search_never_emit_padding_or_start(beam_size):
    tokens = search(random_tables(batch_size=8), beam_size=beam_size)
    for text in range(8):
        for ids, _ in outputs(tokens, text):
            assert ids and not {PAD, START} & set(ids)


def test_greedy_takes_the_likeliest_token_at_each_step():
    tables = random_tables(batch_size=8)
    hypotheses = search(tables)
    for text, table in enumerate(tables):
        tokens: list[int] = []
        while len(tokens) < MAX_LENGTH and END not in tokens:
            logits = table[len(tokens), tokens[-1] if tokens else START]
            tokens.append(max(TOKENS, key=logits.__getitem__))
        expected = [(tuple(tokens), score(tokens, table, 1.0))]
        assert_same_outputs(outputs(hypotheses, text), expected)


@pytest.mark.parametrize("length_penalty", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("beam_size", [2, 3])
def test_beam_search_equals_a_search_over_python_lists(beam_size, length_penalty):
    tables = random_tables(batch_size=8)
    options = {"beam_size": beam_size, "length_penalty": length_penalty}
    hypotheses = search(tables, **options)
    for text, table in enumerate(tables):
        assert_same_outputs(outputs(hypotheses, text), reference_beam(table, **options))


@pytest.mark.parametrize("guards", [Guards(n) for n in (1, 2, 3, 20)])
@pytest.mark.parametrize("beam_size", [1, 3])
def test_no_ngram_is_found_twice(beam_size, guards):
    assert_guarded(beam_size, guards)


@pytest.mark.parametrize("guards", [Guards(0, 1), Guards(0, 2), Guards(2, 1)])
@pytest.mark.parametrize("beam_size", [1, 3])
def test_no_loop_is_longer_than_allowed(beam_size, guards):
    assert_guarded(beam_size, guards)


def assert_guarded(beam_size, guards):
    tables = random_tables(batch_size=12, length=9)
    tables[..., END] -= 2.0
    options = {"max_length": 9, "beam_size": beam_size, "length_penalty": 1.0}
    hypotheses = search(tables, guards=guards, **options)
    free = search(tables, **options)
    differ = 0
    for text, table in enumerate(tables):
        found = outputs(hypotheses, text)
        expected = reference_beam(table, guards=guards, **options)
        assert_same_outputs(found, expected)
        differ += found != outputs(free, text)
    assert differ or guards == Guards(20)
    one = search(tables[:1], guards=guards, **options)  # as on a device
    assert_same_outputs(outputs(one), outputs(hypotheses))


def test_what_is_given_may_do_what_guards_forbid():
    given = np.array([[[4, 4, 4, END]]])
    hypotheses = search(random_tables(), given=given, guards=Guards(1, 1))
    assert outputs(hypotheses)[0] == ((4, 4, 4, END), 0.0)


def test_hypotheses_are_distinct_and_sorted_by_score():
    hypotheses = search(random_tables(batch_size=4), beam_size=5)
    for text in range(4):
        found = outputs(hypotheses, text)
        assert len({tokens for tokens, _ in found}) == 5
        assert found == sorted(found, key=lambda pair: -pair[1])


@pytest.mark.parametrize("length_penalty", [0.0, 0.5, 1.0])
def test_the_reported_score_is_that_of_the_tokens_reported(length_penalty):
    tables = random_tables(batch_size=4, seed=2)
    hypotheses = search(tables, beam_size=3, length_penalty=length_penalty)
    for text, table in enumerate(tables):
        for tokens, reported in outputs(hypotheses, text):
            expected = score(tokens, table, length_penalty)
            np.testing.assert_allclose(reported, expected, atol=1e-4)


@pytest.mark.parametrize("beam_size", [1, 2])
def test_a_finished_hypothesis_stays_as_it_is(beam_size):
    # Whoever went on after END or PAD would raise the mean: 4 is certain there.
    rows = {START: {END: 2.0, 4: 0.0}, 4: {4: 0.0}, END: {4: 0.0}, PAD: {4: 0.0}}
    tables = table_by_token(rows, length=6)
    hypotheses = search(tables, beam_size=beam_size, max_length=6, length_penalty=0.0)
    expected: list[tuple[tuple[int, ...], float]]
    expected = [((END,), -np.log(1 + np.exp(-2.0)))]
    if beam_size == 2:  # the other one runs to the end
        expected.append(((4,) * 6, -np.log(1 + np.exp(2.0))))
    assert_same_outputs(outputs(hypotheses), expected)


@pytest.mark.parametrize("beam_size", [1, 3])
def test_an_inactive_row_is_empty_and_scores_0(beam_size):
    tables = random_tables(batch_size=3)
    hypotheses = search(tables, active=[True, False, True], beam_size=beam_size)
    assert outputs(hypotheses, 1)[0] == ((), 0.0)
    assert np.all(hypotheses.attention_weights.numpy()[1, 0] == 0.0)
    everything = search(tables, beam_size=beam_size)
    for text in (0, 2):
        assert outputs(hypotheses, text) == outputs(everything, text)


@pytest.mark.parametrize("beam_size", [1, 3])
def test_a_batch_of_4_equals_4_batches_of_1(beam_size):
    tables = random_tables(batch_size=4)
    together = search(tables, beam_size=beam_size)
    for text in range(4):
        alone = search(tables[text : text + 1], beam_size=beam_size)
        for name in ("token_ids", "length", "attention_weights"):
            part, whole = getattr(alone, name), getattr(together, name)
            np.testing.assert_array_equal(part[0], whole[text])
        # Sums over a vocabulary round differently in kernels for other shapes.
        np.testing.assert_allclose(alone.score[0], together.score[text], rtol=1e-5)


@pytest.mark.parametrize("beam_size", [1, 2])
def test_the_search_stops_when_all_hypotheses_are_finished(beam_size):
    rows = {START: {4: 0.0, 5: -1.0}, 4: {END: 0.0}, 5: {END: 0.0}}
    calls: list[tf.Tensor] = []
    tables = table_by_token(rows, length=50)
    hypotheses = search(tables, calls=calls, beam_size=beam_size, max_length=50)
    assert [ids for ids, _ in outputs(hypotheses)] == [(4, END), (5, END)][:beam_size]
    assert len(calls) == 2


def test_inactive_rows_alone_take_no_step():
    calls: list[tf.Tensor] = []
    search(random_tables(batch_size=2), active=[False, False], calls=calls)
    assert calls == []


@pytest.mark.parametrize("beam_size", [1, 3])
def test_a_model_that_never_ends_stops_at_the_maximum_length(beam_size):
    tables = random_tables(length=7)
    tables[..., END] = -1e4
    for tokens, _ in outputs(search(tables, beam_size=beam_size, max_length=7)):
        assert len(tokens) == 7 and END not in tokens


@pytest.mark.parametrize("beam_size", [1, 3])
def test_a_text_ends_at_its_own_limit(beam_size):
    tables = random_tables(batch_size=4, length=7)
    tables[..., END] = -1e4
    limits = [2, 9, 1, 5]
    found = search(tables, beam_size=beam_size, max_length=7, limit=tf.constant(limits))
    for text, limit in enumerate(limits):
        whole = reference_beam(tables[text], beam_size, 1.0, min(limit, 7))
        assert_same_outputs(outputs(found, text), whole)
        alone = search(
            tables[text : text + 1],
            beam_size=beam_size,
            max_length=7,
            limit=tf.constant([limit]),
        )
        assert_same_outputs(outputs(alone), whole)


def test_what_ends_before_its_limit_is_as_without_one():
    tables = random_tables(batch_size=8, length=6)
    tables[..., END] += 2.0
    limited = search(tables, max_length=6, limit=tf.fill([8], 5))
    whole = search(tables, max_length=6)
    short = [text for text in range(8) if whole.length[text, 0] <= 5]
    assert len(short) >= 5
    for text in short:
        assert outputs(limited, text) == outputs(whole, text)


def test_the_limit_of_a_single_text_adds_nothing_to_a_step():
    def operations(limit):
        function = tf.function(
            lambda: search(random_tables(), limit=limit), autograph=False
        )
        graph = function.get_concrete_function().graph.as_graph_def()
        (body,) = (
            f for f in graph.library.function if "while_body" in f.signature.name
        )
        return len(body.node_def)

    assert operations(tf.constant([3])) == operations(None)


def test_a_length_bound_grows_with_the_source():
    bound = LengthBound(ratio=1.25, offset=3.5)
    found = bound.limit(tf.constant([0, 1, 2, 4, 100]))
    assert found.dtype == tf.int32
    assert found.numpy().tolist() == [3, 4, 6, 8, 128]
    assert LengthBound(0.0, 0.0).limit(tf.constant([7])).numpy() == [1]


@pytest.mark.parametrize("beam_size", [1, 2, 5])
def test_attention_rows_follow_their_hypothesis(beam_size):
    hypotheses = search(random_tables(batch_size=8), beam_size=beam_size)
    for text in range(8):
        for slot, (tokens, _) in enumerate(outputs(hypotheses, text)):
            expected, path = np.zeros((MAX_LENGTH, 2)), 0
            for time, before in enumerate((START, *tokens[:-1])):
                path = path * VOCABULARY_SIZE + before
                expected[time] = path, time
            weights = hypotheses.attention_weights[text, slot]
            np.testing.assert_array_equal(weights, expected)


@pytest.mark.parametrize("end", [0.0, -2.0, -50.0])
@pytest.mark.parametrize("beam_size", [1, 3])
def test_a_long_search_collects_its_attention_in_blocks(beam_size, end):
    tables = random_tables(batch_size=3, length=70)
    tables[..., END] += end
    run = tf.function(lambda: search(tables, beam_size=beam_size, max_length=70))
    hypotheses = run()
    lengths = []
    for text, table in enumerate(tables):
        found = outputs(hypotheses, text)
        lengths.append(max(len(tokens) for tokens, _ in found))
        assert_same_outputs(found, reference_beam(table, beam_size, 1.0, 70))
        for slot, (tokens, _) in enumerate(found):
            times = hypotheses.attention_weights[text, slot, :, 1].numpy()
            expected = np.zeros(70)
            expected[: len(tokens)] = np.arange(len(tokens))
            np.testing.assert_array_equal(times, expected)
    # The one that has waited for the others longest, without them.
    first = int(np.argmin(lengths))
    alone = search(tables[first : first + 1], beam_size=beam_size, max_length=70)
    np.testing.assert_array_equal(
        alone.attention_weights[0, ..., 1],
        hypotheses.attention_weights[first, ..., 1],
    )


def test_hypotheses_that_do_not_exist_score_below_minus_a_million():
    tables = random_tables()
    found = outputs(search(tables, beam_size=6, max_length=1))
    singles = sorted(
        ((token,) for token in TOKENS), key=lambda ids: -score(ids, tables[0], 1.0)
    )
    assert [tokens for tokens, _ in found[:4]] == singles
    assert UNKNOWN in {tokens[0] for tokens in singles}
    assert all(reported < -1e6 for _, reported in found[4:])


@pytest.mark.parametrize("beam_size", [1, 3])
def test_a_graph_for_batches_of_any_size_gives_the_same(beam_size):
    tables = random_tables(batch_size=3)
    active = np.array([True, False, True])

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, *tables.shape[1:]]),
            tf.TensorSpec([None], tf.bool),
        ]
    )
    def graph(tables, active):
        return beam_search(
            scripted_step(tables),
            start_state(tf.shape(active)[0]),
            active=active,
            source_length=2,
            beam_size=beam_size,
            max_length=MAX_LENGTH,
        )

    expected = search(tables, active=active, beam_size=beam_size)
    for part, value in zip(graph(tables, active), expected, strict=True):
        np.testing.assert_allclose(part, value, atol=1e-6)


def given_sequences(sequences_by_text, count, length=MAX_LENGTH):
    """Sequences for a search to be given, ``(texts, count, length)``."""
    array = np.full((len(sequences_by_text), count, length), PAD, np.int32)
    for text, sequences in enumerate(sequences_by_text):
        for rank, tokens in enumerate(sequences):
            array[text, rank, : len(tokens)] = tokens
    return tf.constant(array)


def beam_with_given(table, given, beam_size, length_penalty, max_length=MAX_LENGTH):
    """A beam over Python lists in which what leads to a given sequence comes first."""
    kept: list[tuple[int, ...]] = [()]
    for _ in range(max_length):
        candidates = []
        for tokens in kept:
            if tokens[-1:] == (END,):
                candidates.append(tokens)
            else:
                candidates.extend((*tokens, token) for token in TOKENS)
        candidates.sort(
            key=lambda tokens: (
                -any(whole[: len(tokens)] == tokens for whole in given),
                -score(tokens, table, length_penalty),
            )
        )
        kept = candidates[:beam_size]
    own = [tokens for tokens in kept if tokens not in given]
    own.sort(key=lambda tokens: -score(tokens, table, length_penalty))
    assert set(given) <= set(kept)
    return [(tokens, 0.0) for tokens in given] + [
        (tokens, score(tokens, table, length_penalty)) for tokens in own
    ]


#: For each of eight texts, the best first: alike at first, one the start of another,
#: longer than all that a limit allows, none.
GIVEN: list[list[tuple[int, ...]]] = [
    [(4, END)],
    [(5, 5, 5, END), (5, 5, END)],
    [],
    [(END,), (4, 4, 4, END)],
    [(UNKNOWN, END), (5, END)],
    [],
    [(4, 5, END), (4, 5, 4, END)],
    [(5, 4, END)],
]


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
@pytest.mark.parametrize("beam_size", [2, 3, 5])
def test_given_sequences_come_first_with_score_0_and_then_the_model_s_own(
    beam_size, length_penalty
):
    tables = random_tables(batch_size=8)
    options = {"beam_size": beam_size, "length_penalty": length_penalty}
    given = given_sequences(GIVEN, 2)
    hypotheses = search(tables, given=given, **options)
    for text, table in enumerate(tables):
        expected = beam_with_given(table, GIVEN[text], **options)
        assert_same_outputs(outputs(hypotheses, text), expected)
        for slot, (tokens, _) in enumerate(outputs(hypotheses, text)):
            times = hypotheses.attention_weights[text, slot, :, 1].numpy()
            np.testing.assert_array_equal(times[: len(tokens)], np.arange(len(tokens)))


def test_a_greedy_search_takes_the_sequence_that_it_is_given():
    tables = random_tables(batch_size=8)
    first = [sequences[:1] for sequences in GIVEN]
    hypotheses = search(tables, given=given_sequences(first, 1))
    free = search(tables)
    for text, sequences in enumerate(first):
        expected = [(sequences[0], 0.0)] if sequences else outputs(free, text)
        assert outputs(hypotheses, text) == expected
        alone = search(tables[text : text + 1], given=given_sequences([sequences], 1))
        assert_same_outputs(outputs(alone), expected)
        np.testing.assert_array_equal(
            alone.attention_weights[0], hypotheses.attention_weights[text]
        )


@pytest.mark.parametrize("beam_size", [1, 3])
def test_a_given_sequence_wins_however_unlikely_it_is(beam_size):
    tables = random_tables(batch_size=2)
    tables[..., 4] -= 3000.0
    given = given_sequences([[(4, 4, 4, END)]] * 2, 1)
    hypotheses = search(tables, beam_size=beam_size, given=given)
    for text in range(2):
        assert outputs(hypotheses, text)[0] == ((4, 4, 4, END), 0.0)


@pytest.mark.parametrize("beam_size", [1, 3])
@pytest.mark.parametrize("texts", [1, 2])
def test_a_given_sequence_may_be_longer_than_the_limit(beam_size, texts):
    tables = random_tables(batch_size=texts, length=7)
    sequence = (5, 4, 5, 4, 5, END)
    given = given_sequences([[sequence], []][:texts], 1, length=7)
    options = {"beam_size": beam_size, "max_length": 7, "limit": tf.fill([texts], 2)}
    hypotheses = search(tables, given=given, **options)
    assert outputs(hypotheses)[0] == (sequence, 0.0)
    free = search(tables, **options)
    for text in range(1, texts):
        assert_same_outputs(outputs(hypotheses, text), outputs(free, text))


@pytest.mark.parametrize("beam_size", [1, 3])
def test_where_nothing_is_given_the_search_is_as_it_was(beam_size):
    tables = random_tables(batch_size=4, length=6)
    given = given_sequences([[]] * 4, beam_size, length=6)
    found = search(tables, beam_size=beam_size, max_length=6, given=given)
    free = search(tables, beam_size=beam_size, max_length=6)
    for part, expected in zip(found, free, strict=True):
        np.testing.assert_array_equal(part, expected)


@pytest.mark.parametrize("beam_size", [1, 3])
def test_an_inactive_row_stays_empty_although_something_is_given(beam_size):
    tables = random_tables(batch_size=2)
    given = given_sequences([[(4, END)]] * 2, 1)
    found = search(tables, active=[False, True], beam_size=beam_size, given=given)
    assert outputs(found, 0)[0] == ((), 0.0)
    assert outputs(found, 1)[0] == ((4, END), 0.0)
