"""The layers as Keras layers: functional, subclassed, fit, compiled, mixed, saved."""

import functools
from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf

from pocketseq.layers import (
    ATTENTIONS,
    LSTM,
    AdditiveAttention,
    Attention,
    AttentiveLSTMDecoder,
    CosineAttention,
    DecoderState,
    DotProductAttention,
    GeneralAttention,
    LSTMEncoder,
    LSTMState,
    Memory,
    NoAttention,
    ScaledDotProductAttention,
    recurrence,
)
from pocketseq.layers.attention import dot_products
from pocketseq.layers.policy import FLOAT32_WEIGHT
from pocketseq.pipeline.model import EncoderDecoder

UNITS = 6
# Short, because XLA takes long for each unrolled step.
MASK = np.arange(2) < np.array([[2], [1], [0]])


def random_array(*shape, seed=1):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def random_ids(*shape, seed=1):
    return np.random.default_rng(seed).integers(1, 9, shape).astype("int32")


def encoder(**options):
    return LSTMEncoder(9, 4, UNITS, **options)


def decoder(**options):
    return AttentiveLSTMDecoder(9, 4, UNITS, **options)


def decoder_arguments(feeding):
    """Arguments of a decoder's call, such as an encoder's outputs lead to."""
    keys, values = random_array(2, 3, 2, UNITS)
    states = (LSTMState(*random_array(2, 3, UNITS)),)
    context = random_array(3, UNITS, seed=3) if feeding else ()
    memory = Memory(keys, values, MASK)
    return [random_ids(3, 2), memory, DecoderState(states, context)]


ATTENTION_ARGUMENTS = [random_array(3, 4, UNITS), random_array(3, 2, UNITS), MASK]
LSTM_ARGUMENTS = [random_array(3, 2, 4), MASK, LSTMState(*random_array(2, 3, UNITS))]

#: The constructor of each layer, and the arguments of its call.
LAYERS: dict[str, tuple[Callable, list]] = {
    "cosine": (CosineAttention, ATTENTION_ARGUMENTS),
    "dot": (DotProductAttention, ATTENTION_ARGUMENTS),
    "none": (NoAttention, ATTENTION_ARGUMENTS),
    "scaled_dot": (ScaledDotProductAttention, ATTENTION_ARGUMENTS),
    "general": (GeneralAttention, ATTENTION_ARGUMENTS),
    "additive": (AdditiveAttention, ATTENTION_ARGUMENTS),
    "lstm": (functools.partial(LSTM, UNITS), LSTM_ARGUMENTS),
    "encoder": (encoder, [random_ids(3, 2), MASK]),
    "decoder": (decoder, decoder_arguments(feeding=False)),
    "feeding_decoder": (
        functools.partial(decoder, input_feeding=True),
        decoder_arguments(feeding=True),
    ),
}
EVERY_LAYER = pytest.mark.parametrize("name", LAYERS)
WITH_PRODUCTS = pytest.mark.parametrize(
    "name", ["lstm", "encoder", "decoder", "feeding_decoder"]
)
MIXED = pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])

# Of numbers of about 1, after some products of factors with 8 bits.
ROUNDING = 0.05


@pytest.fixture(autouse=True)
def _own_policy():
    before = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(before)


def made(name, **options):
    """Returns a layer with seeded weights, and the arguments of its call."""
    keras.utils.set_random_seed(1)
    make, arguments = LAYERS[name]
    return make(**options), arguments


def flat(nest):
    """Returns nested tensors as float32 arrays."""
    return [tf.cast(tensor, tf.float32).numpy() for tensor in tf.nest.flatten(nest)]


def assert_all_close(results, expected, atol):
    for result, value in zip(flat(results), flat(expected), strict=True):
        np.testing.assert_allclose(result, value, atol=atol)


class Wrapped(keras.Model):
    """A subclassed model around a layer, which its first call builds."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.head = keras.layers.Dense(1, dtype="float32")

    def call(self, arguments):
        return self.head(self.layer(*arguments)[0])


class Translator(keras.Model):
    """A subclassed model of an encoder and a decoder."""

    def __init__(self, layer):
        super().__init__()
        self.encoder = encoder()
        self.layer = layer

    def call(self, arguments):
        source_ids, source_mask, target_ids = arguments
        outputs, states = self.encoder(source_ids, source_mask)
        memory = self.layer.memory(outputs, source_mask)
        state = self.layer.initial_state(states)
        return self.layer(target_ids, memory, state)[0]


def training_case(name):
    """Returns a subclassed model of a layer, and its inputs."""
    layer, arguments = made(name)
    if isinstance(layer, AttentiveLSTMDecoder):
        return Translator(layer), [random_ids(3, 2), MASK, arguments[0]]
    return Wrapped(layer), arguments[: 2 if isinstance(layer, LSTM) else 3]


def losses(name, policy, *, jit_compile):
    """Returns the losses of three updates by ``fit``, which move every weight."""
    keras.config.set_dtype_policy(policy)
    model, inputs = training_case(name)
    optimizer = keras.optimizers.SGD(0.1)
    model.compile(optimizer, loss="mse", jit_compile=jit_compile)
    target = random_array(*model(inputs).shape, seed=7)
    before = [weight.numpy() for weight in model.trainable_weights]
    history = model.fit(inputs, target, epochs=3, verbose=0).history
    for weight, old in zip(model.trainable_weights, before, strict=True):
        assert np.any(weight.numpy() != old), weight.path
        assert weight.dtype == "float32"
    assert history["loss"][-1] < history["loss"][0]
    return history["loss"]


@functools.cache
def plain_losses(name):
    return losses(name, "float32", jit_compile=False)


def symbolic(arguments):
    """Returns inputs of a functional model; lengths of texts are left open."""

    def one(array):
        shape = array.shape[1:]
        if array.ndim == 3 or array.dtype != np.float32:  # no state
            shape = (None, *shape[1:])
        return keras.Input(shape, dtype=array.dtype.name)

    return tf.nest.map_structure(one, arguments)


def functional_model(layer, arguments):
    inputs = symbolic(arguments)
    return keras.Model(tf.nest.flatten(inputs), layer(*inputs))


@EVERY_LAYER
def test_the_first_call_builds_what_build_builds(name):
    layer, arguments = made(name)
    assert not layer.built
    results = layer(*arguments)
    assert layer.built

    built, _ = made(name)
    if name in ATTENTIONS:
        built.build(*[(None, None, array.shape[-1]) for array in arguments[:2]])
    elif name == "lstm":
        built.build((None, None, arguments[0].shape[-1]))
    else:
        built.build((None, None))
    paths = [[w.path.partition("/")[2] for w in x.weights] for x in (layer, built)]
    assert paths[0] == paths[1]
    assert_all_close(built(*arguments), results, atol=0)


def test_a_decoder_is_built_by_the_encoder_outputs_it_is_given():
    layer = decoder(encoder_units=4, encoder_layers=2)
    memory = layer.memory(random_array(3, 2, 4), MASK)
    assert memory.values.shape == (3, 2, UNITS)
    state = decoder(encoder_units=4, encoder_layers=2).initial_state(
        [LSTMState(*random_array(2, 3, 4))] * 2
    )
    assert [part.shape for part in state.lstm[0]] == [(3, UNITS)] * 2


@EVERY_LAYER
def test_a_functional_model_gives_what_the_layer_gives(name):
    layer, arguments = made(name)
    model = functional_model(layer, arguments)
    assert_all_close(model(tf.nest.flatten(arguments)), layer(*arguments), atol=1e-6)


# The decoder with input feeding is below.
@pytest.mark.parametrize("name", sorted(LAYERS.keys() - {"feeding_decoder"}))
def test_a_subclassed_model_learns_the_same_by_fit_compiled_or_not(name):
    found = losses(name, "float32", jit_compile=True)
    np.testing.assert_allclose(found, plain_losses(name), rtol=1e-4)  # other kernels


def test_a_graph_loop_learns_the_same_compiled(monkeypatch):
    expected = plain_losses("feeding_decoder")
    monkeypatch.setattr(recurrence, "UNROLL_LIMIT", 0)
    found = losses("feeding_decoder", "float32", jit_compile=True)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@MIXED
def test_a_mixed_policy_can_be_compiled(policy):
    found = losses("lstm", policy, jit_compile=True)
    np.testing.assert_allclose(found, plain_losses("lstm"), rtol=ROUNDING)


# An encoder is in the model of each decoder.
@MIXED
@pytest.mark.parametrize("name", sorted(LAYERS.keys() - {"encoder"}))
def test_under_a_mixed_policy_fit_learns_nearly_the_same(name, policy):
    found = losses(name, policy, jit_compile=False)
    np.testing.assert_allclose(found, plain_losses(name), rtol=ROUNDING)


@MIXED
@EVERY_LAYER
def test_under_a_mixed_policy_outputs_are_in_its_dtype(name, policy):
    layer, arguments = made(name, dtype=policy)
    results = layer(*arguments)
    assert_all_close(results, made(name)[0](*arguments), atol=ROUNDING)

    dtype = policy.removeprefix("mixed_")
    outputs, others = results
    assert outputs.dtype == dtype
    if not isinstance(layer, (LSTM, LSTMEncoder)):  # attention weights, not states
        dtype = "float32"
    assert {tensor.dtype.name for tensor in tf.nest.flatten(others)} == {dtype}


@MIXED
def test_under_a_mixed_policy_scale_norms_and_softmax_are_float32(policy):
    """What is left is the rounding of the inputs."""
    layer, arguments = made("cosine", dtype=policy)
    dtype = policy.removeprefix("mixed_")
    rounded = [tf.cast(tf.cast(array, dtype), array.dtype) for array in arguments[:2]]
    _, weights = layer(*arguments)
    _, expected = made("cosine")[0](*rounded, MASK)
    np.testing.assert_array_equal(weights, expected)


@pytest.mark.parametrize("feeding", [False, True])
@MIXED
def test_under_a_mixed_policy_a_search_takes_the_steps_of_a_call(policy, feeding):
    """Both from what a call of the encoder gives, in the compute dtype."""
    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(1)
    layer, target_ids = decoder(input_feeding=feeding), random_ids(3, 4)
    outputs, states = encoder()(random_ids(3, 2), MASK)
    memory, state = layer.memory(outputs, MASK), layer.initial_state(states)
    logits, weights = layer(target_ids, memory, state)
    for time in range(4):
        step_logits, step_weights, state = layer.step(
            target_ids[:, time], state, memory
        )
        results = step_logits, step_weights
        assert_all_close(results, (logits[:, time], weights[:, time]), atol=ROUNDING)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cosine", dict(initial_scale=3, learned_scale=False, maximum_scale=3.5)),
        ("dot", {}),
        ("none", {}),
        ("scaled_dot", {}),
        ("general", {}),
        ("additive", dict(width=3)),
        ("lstm", dict(reverse=True, product_dtype="float16")),
        (
            "encoder",
            dict(layers=2, bidirectional=False, dropout=0.5, product_dtype="float16"),
        ),
        (
            "decoder",
            dict(
                attention="dot",
                tied_output=False,
                dropout=0.5,
                encoder_units=4,
                encoder_layers=2,
                product_dtype="float16",
            ),
        ),
        ("decoder", dict(tied_output=False, readout=False, read_as=(1, 2))),
        ("feeding_decoder", {}),
    ],
)
def test_a_saved_functional_model_gives_equal_outputs(name, options, tmp_path):
    layer, arguments = made(name, dtype="mixed_bfloat16", **options)
    model = functional_model(layer, arguments)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    arrays = tf.nest.flatten(arguments)
    assert_all_close(loaded(arrays), model(arrays), atol=0)
    loaded_layer = loaded.get_layer(layer.name)
    config, loaded_config = (
        {key: value for key, value in one.get_config().items() if key != "attention"}
        for one in (layer, loaded_layer)
    )
    assert loaded_config == config
    assert len(loaded_layer.trainable_weights) == len(layer.trainable_weights)


def test_a_decoder_of_a_file_of_version_0_1_loads():
    """Files of then name the shape of the encoder only as what it was built with."""
    layer = decoder(encoder_units=4, encoder_layers=2)
    layer.build()
    saved = keras.saving.serialize_keras_object(layer)
    for key in ("encoder_units", "encoder_layers", "product_dtype"):
        del saved["config"][key]
    loaded = keras.saving.deserialize_keras_object(saved)
    shapes = [[weight.shape for weight in one.weights] for one in (loaded, layer)]
    assert shapes[0] == shapes[1]
    assert loaded.get_config() == layer.get_config()


@WITH_PRODUCTS
def test_a_product_dtype_rounds_factors_and_nothing_else(name):
    layer, arguments = made(name, product_dtype="bfloat16")
    if name == "lstm":  # a policy rounds a state on its way in
        arguments = arguments[:2]
    results = layer(*arguments)
    assert {tensor.dtype for tensor in tf.nest.flatten(results)} == {tf.float32}
    plain = made(name)[0](*arguments)
    assert_all_close(results, plain, atol=ROUNDING)
    assert np.any(results[0] != plain[0])

    outputs, _ = made(name, dtype="mixed_bfloat16")[0](*arguments)
    np.testing.assert_array_equal(tf.cast(results[0], "bfloat16"), outputs)


def test_under_a_policy_a_product_dtype_of_float32_rounds_no_factor():
    layer, (inputs, mask, _) = made(
        "lstm", dtype="mixed_bfloat16", product_dtype="float32"
    )
    inputs = np.round(inputs)  # so that the policy rounds nothing on its way in
    outputs, _ = layer(inputs, mask)
    plain, _ = made("lstm")[0](inputs, mask)
    np.testing.assert_array_equal(outputs, tf.cast(plain, "bfloat16"))


@WITH_PRODUCTS
def test_a_product_dtype_that_is_not_known_is_an_error(name):
    with pytest.raises(ValueError, match="product_dtype must be one of .*'int8'"):
        made(name, product_dtype="int8")


def test_a_product_dtype_leaves_steps_and_loops_in_float32():
    source_ids, target_ids = tf.constant(random_ids(3, 2)), random_ids(3, 4)
    found = []
    for dtype in ("bfloat16", "float32"):
        keras.utils.set_random_seed(1)
        reader, writer = encoder(product_dtype=dtype), decoder(product_dtype=dtype)
        outputs, states = reader.loop(source_ids, MASK)
        state = writer.initial_state(states)
        found.append(writer.step(target_ids[:, 0], state, writer.memory(outputs, MASK)))
    in_bfloat16, in_float32 = found
    assert_all_close(in_bfloat16, in_float32, atol=0)


def test_an_lstm_follows_the_mask_of_keras_and_passes_it_on():
    ids = np.array([[3, 1, 2], [4, 0, 0], [0, 0, 0]])
    embedding, (layer, _) = keras.layers.Embedding(9, 4, mask_zero=True), made("lstm")
    inputs = keras.Input((None,), dtype="int32")
    outputs, state = layer(embedding(inputs))
    pooled = keras.layers.GlobalAveragePooling1D()(outputs)
    model = keras.Model(inputs, [outputs, state, pooled])
    *results, pooled = model(ids)
    expected = layer(tf.convert_to_tensor(embedding(ids).numpy()), ids > 0)
    assert_all_close(results, expected, atol=0)
    # A mean over real tokens only, so the mask has come through.
    means = expected[0].numpy()[:2].sum(axis=1) / np.array([[3], [1]])
    np.testing.assert_allclose(pooled[:2], means, rtol=1e-5)


@keras.saving.register_keras_serializable(package="test")
class BilinearAttention(Attention):
    """Only a score, with a weight of its own."""

    def build(self, query_shape=None, encoder_outputs_shape=None):
        self.kernel = self.add_weight(
            name="kernel",
            shape=(query_shape[-1], encoder_outputs_shape[-1]),
            **FLOAT32_WEIGHT,
        )

    def score(self, query, keys):
        return dot_products(tf.matmul(query, self.kernel), keys)


@pytest.mark.parametrize("feeding", [False, True])
def test_a_new_attention_is_its_score_and_a_name(feeding, monkeypatch, tmp_path):
    monkeypatch.setitem(ATTENTIONS, "bilinear", BilinearAttention)
    keras.utils.set_random_seed(1)
    layer = decoder(attention="bilinear", input_feeding=feeding)
    arguments = decoder_arguments(feeding)
    with tf.GradientTape() as tape:
        logits, weights = layer(*arguments)
        loss = tf.reduce_sum(logits**2)
    gradient = tape.gradient(loss, layer.attention.kernel)
    assert np.all(np.isfinite(gradient)) and np.any(gradient != 0)

    ids, (_, values, mask), state = arguments
    memory = layer.memory(values, mask)
    logits, weights = layer(ids, memory, state)
    for time in range(ids.shape[1]):
        *found, state = layer.step(ids[:, time], state, memory)
        assert_all_close(found, (logits[:, time], weights[:, time]), atol=1e-5)

    model = functional_model(layer, arguments)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    arrays = tf.nest.flatten(arguments)
    assert_all_close(loaded(arrays), model(arrays), atol=0)


def test_encoder_and_decoder_take_part_in_a_functional_model(tmp_path):
    part = EncoderDecoder(encoder(), decoder(), name="part")
    inputs = [
        keras.Input((None,), dtype="int32"),
        keras.Input((), dtype="int32"),
        keras.Input((None,), dtype="int32"),
    ]
    model = keras.Model(inputs, part(*inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    arrays = [random_ids(3, 5), np.array([5, 2, 1], "int32"), random_ids(3, 4)]
    assert_all_close(model(arrays), part(*arrays), atol=1e-6)
    assert_all_close(loaded(arrays), model(arrays), atol=0)


def test_a_cosine_attention_with_an_integer_scale_works_and_saves(tmp_path):
    layer, arguments = made("cosine", initial_scale=1, maximum_scale=2)
    model = functional_model(layer, arguments)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    expected = made("cosine", initial_scale=1.0)[0](*arguments)
    assert_all_close(loaded(arguments), expected, atol=0)


def masked(name, **options):
    """Returns ``(*mask) -> results`` of a layer."""
    layer, arguments = made(name, **options)
    if isinstance(layer, AttentiveLSTMDecoder):
        target_ids, memory, state = arguments

        def run(*mask):
            return layer(target_ids, layer.memory(memory.values, *mask), state)

        return run
    before = 1 if isinstance(layer, (LSTM, LSTMEncoder)) else 2
    return functools.partial(layer, *arguments[:before])


@EVERY_LAYER
def test_without_a_mask_all_positions_are_real(name):
    run = masked(name)
    expected = run(np.full((3, 2), True))
    assert_all_close(run(), expected, atol=1e-6)
    assert_all_close(run(None), expected, atol=1e-6)


def test_an_lstm_takes_its_mask_by_name_as_by_place():
    layer, (inputs, mask, _) = made("lstm")
    assert_all_close(layer(inputs, mask=mask), layer(inputs, mask), atol=0)


def test_a_loop_without_a_mask_reads_all_positions():
    layer = encoder()
    source_ids = random_ids(3, 2)
    results = layer.loop(tf.constant(source_ids))  # which builds the layer
    assert_all_close(layer(source_ids), results, atol=1e-6)


@EVERY_LAYER
@pytest.mark.parametrize("dtype", ["int32", "int64", "float32"])
def test_a_mask_that_is_not_boolean_is_an_error(name, dtype):
    text = rf"mask must be boolean, True = real token, received {dtype}"
    with pytest.raises(TypeError, match=text):
        masked(name)(MASK.astype(dtype))


def test_integers_for_the_mask_in_a_memory_are_an_error():
    layer, (target_ids, memory, state) = made("decoder")
    memory = memory._replace(source_mask=MASK.astype("int32"))
    with pytest.raises(TypeError, match="source_mask must be boolean.* int32"):
        layer(target_ids, memory, state)
