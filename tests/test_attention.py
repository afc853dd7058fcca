"""Tests of pocketseq.layers.attention."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from pocketseq.layers import (
    ATTENTIONS,
    AdditiveAttention,
    CosineAttention,
    DotProductAttention,
    GeneralAttention,
    NoAttention,
    ScaledDotProductAttention,
)
from pocketseq.layers.attention import masked_softmax

EAGER_AND_GRAPH = pytest.mark.parametrize(
    "wrap", [lambda function: function, tf.function], ids=["eager", "graph"]
)
EVERY_ATTENTION = pytest.mark.parametrize("attention_class", ATTENTIONS.values())
MASK = np.array([[True] * 5, [True, True, True, False, False]])


@pytest.fixture
def arrays():
    """Queries (2, 3, 4) and encoder outputs (2, 5, 4)."""
    random = np.random.default_rng(1)
    return (
        random.normal(size=(2, 3, 4)).astype("float32"),
        random.normal(size=(2, 5, 4)).astype("float32"),
    )


def softmax(scores):
    """Softmax over the last axis, in NumPy."""
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def expected_attention(scores, encoder_outputs, mask):
    """Context and weights in NumPy: each row by itself, over its real tokens only."""
    weights = np.zeros(scores.shape)
    for row, real in enumerate(mask.sum(axis=1)):
        weights[row, :, :real] = softmax(scores[row, :, :real])
    return weights @ encoder_outputs, weights


def cosines(query, keys):
    """The cosine of every query with every key, in NumPy."""
    lengths = np.linalg.norm(query, axis=-1)[:, :, None]
    return (
        query @ keys.swapaxes(1, 2) / lengths / np.linalg.norm(keys, axis=-1)[:, None]
    )


def assert_attends(attention, scores, arrays, wrap):
    query, outputs = arrays
    results = wrap(attention)(*map(tf.constant, arrays), tf.constant(MASK))
    for result, value in zip(
        results, expected_attention(scores, outputs, MASK), strict=True
    ):
        np.testing.assert_allclose(result, value, atol=1e-5)


@EAGER_AND_GRAPH
@pytest.mark.parametrize(
    ("attention", "scale"),
    [
        (CosineAttention(), 10.0),
        (CosineAttention(4.5, learned_scale=False), 4.5),
        (CosineAttention(1.0, learned_scale=False), 1.0),
    ],
    ids=["learned", "fixed", "bare"],
)
def test_cosine_attention_is_a_softmax_of_scaled_cosines(
    attention, scale, wrap, arrays
):
    assert_attends(attention, scale * cosines(*arrays), arrays, wrap)


@EAGER_AND_GRAPH
def test_dot_product_attention_is_a_softmax_of_dot_products(wrap, arrays):
    query, outputs = arrays
    scores = query @ outputs.swapaxes(1, 2)
    assert_attends(DotProductAttention(), scores, arrays, wrap)


@EAGER_AND_GRAPH
def test_scaled_dot_products_are_divided_by_the_root_of_the_units(wrap, arrays):
    query, outputs = arrays
    scores = query @ outputs.swapaxes(1, 2) / 2  # 4 units
    assert_attends(ScaledDotProductAttention(), scores, arrays, wrap)


@EAGER_AND_GRAPH
def test_general_attention_is_a_softmax_of_a_bilinear_form(wrap, arrays):
    attention = GeneralAttention()
    query, outputs = arrays
    outputs = np.concatenate([outputs, outputs[:, :, :2] ** 2], axis=-1)  # 6 units
    attention.build(query.shape, outputs.shape)
    scores = np.einsum("bti,ji,bsj->bts", query, attention.kernel.numpy(), outputs)
    assert_attends(attention, scores, (query, outputs), wrap)


@EAGER_AND_GRAPH
def test_additive_attention_is_a_softmax_of_a_small_network(wrap, arrays):
    attention = AdditiveAttention(width=7)
    query, outputs = arrays
    outputs = np.concatenate([outputs, outputs[:, :, :2] ** 2], axis=-1)  # 6 units
    attention.build(query.shape, outputs.shape)
    kernels = attention.query_kernel.numpy(), attention.key_kernel.numpy()
    scores = np.zeros((2, 3, 5))
    for text, step, place in np.ndindex(scores.shape):
        read = query[text, step] @ kernels[0] + outputs[text, place] @ kernels[1]
        scores[text, step, place] = np.tanh(read) @ attention.vector.numpy()
    assert_attends(attention, scores, (query, outputs), wrap)


def scores_of(attention, query, outputs):
    """The scores of one query, as the docstrings show them."""
    query, outputs = tf.constant([[query]]), tf.constant([outputs])
    return attention.score(query, attention.prepare(outputs)).numpy()[0, 0]


def test_the_worked_numbers_of_the_docstrings():
    query, outputs = [1.0, 2.0], [[3.0, 0.0], [1.0, 1.0]]
    assert scores_of(DotProductAttention(), query, outputs).tolist() == [3, 3]
    wide = [3.0, 0.0, 5.0, 0.0], [1.0] * 4
    found = scores_of(ScaledDotProductAttention(), [1.0, 2.0, 0.0, 2.0], wide)
    assert found.tolist() == [1.5, 2.5]

    general = GeneralAttention()
    general.build((None, None, 2), (None, None, 2))
    general.kernel.assign([[0.0, 1.0], [1.0, 0.0]])
    assert scores_of(general, query, outputs).tolist() == [6, 3]

    additive = AdditiveAttention(width=1)
    additive.build((None, None, 2), (None, None, 2))
    additive.query_kernel.assign([[1.0], [0.0]])
    additive.key_kernel.assign([[0.0], [1.0]])
    additive.vector.assign([2.0])
    found = scores_of(additive, query, [[3.0, 0.0], [1.0, -1.0]])
    np.testing.assert_allclose(found, [1.523, 0.0], atol=5e-4)


def test_a_width_that_cannot_be_is_an_error():
    with pytest.raises(ValueError, match="width must be at least 1, received 0"):
        AdditiveAttention(0)


@EAGER_AND_GRAPH
def test_no_attention_weighs_all_real_tokens_the_same(wrap, arrays):
    assert_attends(NoAttention(), np.zeros((2, 3, 5)), arrays, wrap)
    assert not NoAttention.gives_context


def test_the_worked_example_of_the_design():
    query = np.array([0.91, 0.38])
    first_word = np.array([-0.76, 0.75])
    # The second word: dot product 0.01, and so long that its cosine is 0.01 as well.
    length = np.linalg.norm(query)
    across = np.array([-0.38, 0.91]) / length
    second_word = (0.01 * query / length + np.sqrt(1 - 0.01**2) * across) / length
    arrays = [
        tf.constant(array, tf.float32)
        for array in ([[query]], [[first_word, second_word]])
    ]
    mask = tf.constant([[True, True]])

    dot = DotProductAttention()
    np.testing.assert_allclose(dot.score(*arrays)[0, 0], [-0.407, 0.01], atol=5e-4)
    np.testing.assert_allclose(dot(*arrays, mask)[1][0, 0], [0.397, 0.603], atol=5e-4)

    cosine = CosineAttention(1.0, learned_scale=False)
    weights = cosine(*arrays, mask)[1][0, 0]
    scores = cosine.score(arrays[0], cosine.prepare(arrays[1]))
    np.testing.assert_allclose(scores[0, 0], [-0.386, 0.01], atol=5e-4)
    # The design's (0.401, 0.599) is of the rounded scores, below.
    np.testing.assert_allclose(weights, [0.402, 0.598], atol=5e-4)


@pytest.mark.parametrize(
    ("scores", "weights"),
    [((-0.41, 0.01), (0.397, 0.603)), ((-0.39, 0.01), (0.401, 0.599))],
    ids=["dot", "cosine"],
)
def test_softmax_turns_scores_into_the_percentages_of_the_design(scores, weights):
    result = masked_softmax(tf.constant([[scores]]), tf.constant([[True, True]]))
    np.testing.assert_allclose(result[0, 0], weights, atol=5e-4)


@EVERY_ATTENTION
def test_weights_sum_to_one_and_are_zero_on_padding(attention_class, arrays):
    _, weights = attention_class()(*arrays, MASK)
    np.testing.assert_allclose(np.sum(weights, axis=-1), 1.0, atol=1e-6)
    assert np.all(weights.numpy()[1, :, 3:] == 0.0)


@EVERY_ATTENTION
def test_zero_vectors_and_fully_masked_rows_stay_finite(attention_class, arrays):
    attention = attention_class()
    query, outputs = (tf.Variable(array) for array in arrays)
    query[0].assign(tf.zeros([3, 4]))
    outputs[0, 1].assign(tf.zeros([4]))
    mask = np.array([[True] * 5, [False] * 5])
    with tf.GradientTape() as tape:
        context, weights = attention(query, outputs, mask)
        loss = tf.reduce_sum(context**2) + tf.reduce_sum(weights**2)
    variables = [query, outputs, *attention.trainable_variables]
    gradients = tape.gradient(
        loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    for values in (context, weights, *gradients):
        assert np.all(np.isfinite(values))
    assert np.all(context.numpy()[1] == 0.0)
    assert np.all(weights.numpy()[1] == 0.0)


def test_a_zero_vector_has_the_cosine_zero_with_everything(arrays):
    attention = CosineAttention()
    attention.build()
    keys = attention.prepare(arrays[1])
    assert np.all(attention.score(np.zeros((2, 3, 4), "float32"), keys) == 0.0)


@EVERY_ATTENTION
def test_padding_does_not_change_the_context(attention_class, arrays):
    query, outputs = arrays
    attention = attention_class()
    short, short_weights = attention(query, outputs[:, :3], np.full((2, 3), True))
    padded = np.concatenate([outputs[:, :3], np.full((2, 4, 4), 99.0, "float32")], 1)
    context, weights = attention(query, padded, np.arange(7) < np.array([[3], [3]]))
    np.testing.assert_allclose(context, short, atol=1e-6)
    np.testing.assert_allclose(weights[:, :, :3], short_weights, atol=1e-6)


def test_the_scale_stops_at_its_maximum(arrays):
    attention = CosineAttention(initial_scale=10.0, maximum_scale=20.0)
    attention.build()
    np.testing.assert_allclose(attention.scale, 10.0, rtol=1e-5)
    attention.log_scale.assign(np.log(1000.0))
    assert attention.scale == 20.0
    assert_attends(attention, 20.0 * cosines(*arrays), arrays, lambda call: call)


def test_only_a_learned_scale_is_trainable():
    learned, fixed = CosineAttention(), CosineAttention(learned_scale=False)
    learned.build()
    fixed.build()
    assert len(learned.trainable_weights) == 1
    assert fixed.trainable_weights == []


def test_a_bare_softmax_over_20_cosines_cannot_pass_28_percent():
    keys = np.tile([[[-1.0, 0.0]]], (1, 20, 1)).astype("float32")
    keys[0, 7] = [1.0, 0.0]  # the sharpest case: one cosine 1, all others -1
    query = np.array([[[3.0, 0.0]]], "float32")
    attention = CosineAttention(1.0, learned_scale=False)
    _, weights = attention(query, keys, np.full((1, 20), True))
    np.testing.assert_allclose(np.max(weights), np.e / (np.e + 19 / np.e), rtol=1e-5)
    np.testing.assert_allclose(np.max(weights), 0.28, atol=1e-4)


@pytest.mark.parametrize(
    "attention",
    [
        CosineAttention(3.0, learned_scale=False, maximum_scale=3.5, name="other"),
        DotProductAttention(name="other"),
        NoAttention(name="other"),
        ScaledDotProductAttention(name="other"),
        GeneralAttention(name="other"),
        AdditiveAttention(3, name="other"),
    ],
    ids=["cosine", "dot", "none", "scaled_dot", "general", "additive"],
)
def test_a_saved_attention_gives_equal_outputs(attention, arrays, tmp_path):
    inputs = [keras.Input((None, 4)), keras.Input((None, 4))]
    inputs.append(keras.Input((None,), dtype="bool"))
    model = keras.Model(inputs, attention(*inputs))
    if isinstance(attention, CosineAttention):
        attention.log_scale.assign(np.log(50.0))  # so that the maximum decides
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")

    for result, expected in zip(
        loaded([*arrays, MASK]), model([*arrays, MASK]), strict=True
    ):
        np.testing.assert_array_equal(result, expected)
    assert len(loaded.trainable_weights) == len(model.trainable_weights)
    assert loaded.get_layer("other").get_config() == attention.get_config()


@pytest.mark.parametrize("initial_scale", [0.0, -1.0, 101.0])
def test_a_scale_out_of_range_is_an_error(initial_scale):
    text = rf"at most maximum_scale \(100.0\), received {initial_scale}"
    with pytest.raises(ValueError, match=text):
        CosineAttention(initial_scale)
