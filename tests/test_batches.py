import gc
import itertools
import logging
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf

from pocketseq.pipeline.configuration import Config, load_recipe, override
from pocketseq.pipeline.data.batches import (
    Batch,
    Bucket,
    Reader,
    real_share,
    training_batches,
)
from pocketseq.pipeline.data.corpora import Corpus, Pair
from pocketseq.pipeline.data.lengths import (
    LengthStatistics,
    choose_buckets,
    learn_length_bound,
    measure_lengths,
)
from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.search import LengthBound
from pocketseq.pipeline.text.special import END, PAD, START
from pocketseq.pipeline.text.tokenizers import CharacterTokenizer, WordTokenizer

Tokenizers = tuple[CharacterTokenizer, WordTokenizer]


@pytest.fixture(scope="module")
def tokenizers():
    """Characters a to e on one side, words A to E on the other; at most 12 and 12."""
    return (
        CharacterTokenizer.learn(["abcde"], max_code_points=12),
        WordTokenizer.learn(["A B C D E"], max_code_points=12),
    )


def words_of_length(sources, targets, *, count, seed=0):
    """Returns pairs with random texts of these lengths in tokens."""
    generator = np.random.default_rng(seed)
    return [
        Pair(
            "".join(generator.choice(list("abcde"), generator.choice(sources))),
            " ".join(generator.choice(list("ABCDE"), generator.choice(targets))),
        )
        for _ in range(count)
    ]


@pytest.fixture(scope="module")
def pairs():
    return words_of_length([1, 2, 3, 5, 8], [1, 2, 4, 6], count=500)


CONFIG = override(Config(), ["training.shuffle_buffer=1000"])


def batches_of(pairs, tokenizers: Tokenizers, buckets, *, config=CONFIG, epoch=0):
    """The batches of one epoch."""
    found = training_batches(pairs, *tokenizers, buckets, config, epoch=epoch)
    this = itertools.takewhile(lambda item: item[0].numpy()[0] == epoch, found)
    return [tf.nest.map_structure(np.array, batch) for _, batch in this]


@pytest.fixture(scope="module")
def buckets(pairs, tokenizers):
    statistics = measure_lengths(pairs, *tokenizers)
    return choose_buckets(statistics, batch_tokens=60, most=4)


@pytest.fixture(scope="module")
def batches(pairs, tokenizers, buckets):
    return batches_of(pairs, tokenizers, buckets)


def decoded(batch, tokenizers):
    """The pairs in a batch, up to their lengths; the end token is checked and left."""
    source, target = tokenizers
    *columns, labels = batch
    assert labels == ()
    for source_ids, source_length, target_ids, target_length in zip(
        *columns, strict=True
    ):
        if not target_length:  # fills the batch up to its shape
            assert not source_length
            assert not np.any(source_ids)
            assert not np.any(target_ids)
            continue
        assert target_ids[target_length - 1] == END
        yield Pair(
            "".join(source.pieces[i] for i in source_ids[:source_length]),
            " ".join(target.pieces[i] for i in target_ids[: target_length - 1]),
        )


def everything(batches, tokenizers):
    return [pair for batch in batches for pair in decoded(batch, tokenizers)]


def test_every_pair_appears_exactly_once_in_an_epoch(pairs, tokenizers, batches):
    assert Counter(everything(batches, tokenizers)) == Counter(pairs)


def test_every_batch_has_the_shape_of_a_bucket(buckets, batches):
    shapes = {(*b.source_ids.shape, b.target_ids.shape[1]) for b in batches}
    assert shapes <= {(b.rows, b.source_length, b.target_length) for b in buckets}


def test_a_bucket_has_no_more_rows_than_there_are_pairs_for_it():
    counts = np.zeros((3, 3), int)
    counts[2, 2] = 7
    (bucket,) = choose_buckets(LengthStatistics(counts, 0), batch_tokens=400, most=2)
    assert bucket == (2, 2, 7)


@pytest.mark.parametrize("number", [1, 2, 3, 20])
def test_the_parts_of_a_batch_hold_its_rows_in_order(batches, number):
    parts = tf.nest.map_structure(tf.constant, batches[0]).parts(number)
    assert len(parts) == number
    sizes = [len(part.source_ids) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    joined = tf.nest.map_structure(lambda *column: tf.concat(column, axis=0), *parts)
    tf.nest.map_structure(np.testing.assert_array_equal, joined, batches[0])


def test_long_sources_with_short_targets_stay_whole_beside_the_opposite(tokenizers):
    pairs = words_of_length([4], [1], count=100) + words_of_length([1], [6], count=100)
    counts = np.zeros((5, 8), int)
    counts[4, 2] = counts[1, 7] = 100
    buckets = choose_buckets(LengthStatistics(counts, 0), batch_tokens=20, most=2)
    assert [bucket[:2] for bucket in buckets] == [(4, 2), (1, 7)]
    batches = batches_of(pairs, tokenizers, buckets)
    assert Counter(everything(batches, tokenizers)) == Counter(pairs)


def test_the_order_depends_on_seed_and_epoch_alone(pairs, tokenizers, buckets, batches):
    def order(**changes):
        found = batches_of(pairs, tokenizers, buckets, **changes)
        return everything(found, tokenizers)

    first = everything(batches, tokenizers)
    assert order(epoch=0) == first
    assert order(epoch=1) != first
    assert order(config=override(CONFIG, ["training.seed=2"])) != first


def test_batches_have_the_shapes_of_the_buckets_only(buckets, batches):
    rows = {(b.source_length, b.target_length): b.rows for b in buckets}
    assert len(rows) == len(buckets) > 1
    full = 0
    for batch in batches:
        shape = (batch.source_ids.shape[1], batch.target_ids.shape[1])
        assert 1 <= len(batch.source_ids) <= rows[shape]
        full += len(batch.source_ids) == rows[shape]
    # Only the last batch of each bucket may be smaller.
    assert len(batches) - full <= len(buckets)


def test_a_batch_is_padded_at_the_right(batches):
    for batch in batches:
        for ids, lengths in (batch[:2], batch[2:4]):
            places = np.arange(ids.shape[1])
            np.testing.assert_array_equal(ids == PAD, places >= lengths[:, None])
            assert ids.dtype == lengths.dtype == np.int32


def test_the_decoder_reads_the_start_token_and_all_but_the_last(batches):
    for batch in batches[:5]:
        inputs = batch.decoder_inputs.numpy()
        assert inputs.shape == batch.target_ids.shape
        assert (inputs[:, 0] == START).all()
        np.testing.assert_array_equal(inputs[:, 1:], batch.target_ids[:, :-1])


def test_over_long_pairs_are_dropped_and_counted_in_the_log(tokenizers, caplog):
    caplog.set_level(logging.INFO)
    short = [Pair("a" * 12, "A B C"), Pair("b", "A B C D E A")]
    long = [Pair("a" * 13, "A"), Pair("a", "A B C D E A B"), Pair("b" * 99, "A " * 99)]
    statistics = measure_lengths(short + long, *tokenizers)
    assert (statistics.pairs, statistics.dropped) == (2, 3)
    assert "dropped 3 pairs longer than 12 and 12 code points" in caplog.text
    batches = batches_of(short + long, tokenizers, [Bucket(12, 12, 2)])
    assert Counter(everything(batches, tokenizers)) == Counter(short)


def test_nothing_but_over_long_pairs_is_an_error(tokenizers):
    expected = "all 2 pairs are over-long: expected at most 12 .*source.max_code_points"
    with pytest.raises(UserError, match=expected):
        measure_lengths([Pair("a" * 20, "A"), Pair("a", "A " * 20)], *tokenizers)


def test_an_epoch_without_pairs_ends_with_the_reason(tokenizers: Tokenizers):
    problems: list[BaseException] = []
    endless = training_batches(
        [], *tokenizers, [Bucket(2, 2, 1)], CONFIG, epoch=0, on_problem=problems.append
    )
    with pytest.raises(tf.errors.OpError):
        next(iter(endless))
    assert "no training pairs are left" in str(problems[0])


@pytest.mark.parametrize("trouble", [None, KeyboardInterrupt(), UserError("line 9")])
def test_nothing_is_read_any_more_when_a_reader_is_left(
    tokenizers: Tokenizers, trouble
):
    """Even while somebody keeps what was raised: nothing waits for the collector."""
    opened: list[bool] = []
    closed: list[bool] = []
    problems: list[BaseException] = []

    class Endless:
        def __iter__(self):
            opened.append(True)
            try:
                for number in itertools.count():
                    if number == 5000 and isinstance(trouble, UserError):
                        raise trouble
                    yield Pair("ab", "A B")
            finally:
                closed.append(True)

    config = override(CONFIG, ["training.shuffle_buffer=1"])
    endless = training_batches(
        Endless(), *tokenizers, [Bucket(3, 3, 2)], config, epoch=0,
        on_problem=problems.append,
    )  # fmt: skip
    kept = []
    gc.disable()
    try:
        with Reader(endless) as reader:
            for number, _ in enumerate(reader):
                if number == 9 and not isinstance(trouble, UserError):
                    if trouble:
                        raise trouble
                    break
    except (KeyboardInterrupt, tf.errors.OpError) as error:
        kept.append(error)
    finally:
        gc.enable()
    assert len(kept) == (trouble is not None)
    assert problems == ([trouble] if isinstance(trouble, UserError) else [])
    assert len(opened) == len(closed) > 0


def test_a_pair_that_no_bucket_holds_is_left_out_whole(tokenizers):
    fitting = [Pair("ab", "A B"), Pair("abc", "A")]
    others = [Pair("abcde", "A"), Pair("a", "A B C"), Pair("abcde", "A B C")]
    batches = batches_of(fitting + others, tokenizers, [Bucket(3, 3, 2)])
    assert Counter(everything(batches, tokenizers)) == Counter(fitting)


def test_lengths_are_counted_in_tokens_with_the_end_token(tokenizers, caplog):
    caplog.set_level(logging.INFO)
    texts = [Pair("abc", "A B"), Pair("abd", "A C"), Pair("a", "A")]
    statistics = measure_lengths(texts, *tokenizers)
    expected = np.zeros((4, 4))
    expected[3, 3], expected[1, 2] = 2, 1
    np.testing.assert_array_equal(statistics.counts, expected)
    assert (statistics.pairs, statistics.tokens) == (3, 2 * 6 + 3)
    assert (statistics.dropped, caplog.text) == (0, "")


def padding_of_every_choice(counts, most):
    """Padded tokens of every way to cut the longer lengths, ``most`` parts at most."""
    shapes = [
        (max(source, target), source, target, int(number))
        for (source, target), number in np.ndenumerate(counts)
        if number
    ]
    lengths = sorted({length for length, *_ in shapes})
    for cuts in range(min(most, len(lengths))):
        for inner in itertools.combinations(lengths[:-1], cuts):
            padded, below = 0, 0
            for top in (*inner, lengths[-1]):
                inside = [shape[1:] for shape in shapes if below < shape[0] <= top]
                sources, targets, numbers = zip(*inside, strict=True)
                padded += sum(numbers) * (max(sources) + max(targets))
                below = top
            yield padded


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_length_bound_leaves_half_as_much_room_again_over_every_pair(seed):
    generator = np.random.default_rng(seed)
    counts = generator.integers(0, 9, (12, 30)) * (generator.random((12, 30)) < 0.1)
    counts[0] = counts[:, 0] = 0
    bound = learn_length_bound(LengthStatistics(counts, 0))
    limits = bound.limit(tf.range(12)).numpy()
    for source, target in zip(*np.nonzero(counts), strict=True):
        assert limits[source] >= np.floor(1.5 * target)
    tokens = np.einsum("st,t->", counts, np.arange(30))
    ratio = tokens / np.einsum("st,s->", counts, np.arange(12))
    assert 1.5 * ratio <= bound.ratio <= 1.5 * ratio + 1 / 64


def test_the_length_bound_of_equal_lengths_is_tight():
    counts = np.zeros((9, 9), int)
    counts[[2, 3, 8], [2, 3, 8]] = 5
    bound = learn_length_bound(LengthStatistics(counts, 0))
    assert bound == LengthBound(1.5, 0.0)
    # What no pair had is bounded in proportion.
    assert bound.limit(tf.constant([1, 8, 100])).numpy().tolist() == [1, 12, 150]


def test_a_bound_means_the_same_limit_in_every_arithmetic():
    counts = np.zeros((70, 90), int)
    counts[[7, 69, 13], [11, 89, 2]] = [3, 1, 5]
    bound = learn_length_bound(LengthStatistics(counts, 0))
    lengths = np.arange(3000)
    exact = [
        int(Fraction(bound.ratio) * n + Fraction(bound.offset)) for n in range(3000)
    ]
    assert bound.limit(tf.constant(lengths)).numpy().tolist() == exact


@pytest.mark.parametrize("most", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_chosen_buckets_pad_least_of_all_choices(seed, most):
    generator = np.random.default_rng(seed)
    counts = generator.integers(0, 50, (9, 8)) * (generator.random((9, 8)) < 0.4)
    counts[0] = counts[:, 0] = 0
    buckets = choose_buckets(LengthStatistics(counts, 0), batch_tokens=8, most=most)
    assert len(buckets) <= most
    padded = 0
    for (source, target), number in np.ndenumerate(counts):
        holding = [
            bucket.source_length + bucket.target_length
            for bucket in buckets
            if max(source, target) <= max(bucket[:2])
        ]
        padded += int(number) * holding[0]
    assert padded == min(padding_of_every_choice(counts, most))


def test_a_batch_has_as_many_rows_as_its_tokens_allow():
    counts = np.zeros((11, 11), int)
    counts[2, 3], counts[10, 10] = 1000, 1000
    buckets = choose_buckets(LengthStatistics(counts, 0), batch_tokens=64, most=2)
    assert buckets == [Bucket(2, 3, 64 // 5), Bucket(10, 10, 64 // 20)]


def test_a_batch_has_one_row_at_least():
    counts = np.zeros((11, 11), int)
    counts[10, 10] = 1
    (bucket,) = choose_buckets(LengthStatistics(counts, 0), batch_tokens=5, most=2)
    assert bucket == Bucket(10, 10, 1)


def test_a_small_corpus_gets_few_buckets():
    counts = np.ones((11, 11), int)
    statistics = LengthStatistics(counts, 0)
    tokens = sum(source + target for source, target in np.ndindex(11, 11))
    assert statistics.tokens == tokens
    assert len(choose_buckets(statistics, batch_tokens=tokens, most=8)) == 1
    assert len(choose_buckets(statistics, batch_tokens=tokens // 16, most=8)) == 2


def test_the_real_share_counts_both_sides():
    lengths = np.array([4, 2]), np.array([2, 4])
    batch = Batch(np.ones((2, 4)), lengths[0], np.ones((2, 4)), lengths[1])
    assert real_share([batch, batch]) == pytest.approx(24 / 32)


def test_the_default_recipe_pads_less_than_15_percent_away():
    config = load_recipe("pronunciation")
    pairs = list(Corpus(config.data.train))
    # Which letters and phones are known makes no difference to lengths.
    tokenizers = (
        CharacterTokenizer.learn(["a"], max_code_points=config.source.max_code_points),
        WordTokenizer.learn(["A"], max_code_points=config.target.max_code_points),
    )
    buckets = choose_buckets(
        measure_lengths(pairs, *tokenizers),
        batch_tokens=config.training.batch_tokens,
        most=config.training.buckets,
    )
    batches = batches_of(pairs, tokenizers, buckets, config=config)
    rows = sum(np.count_nonzero(batch.source_length) for batch in batches)
    assert rows == len(pairs)
    assert real_share(batches) >= 0.85
