"""The layers as Keras layers: functional, subclassed, fit, compiled, mixed, saved."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from pocketseq.layers import (
    LSTM,
    AttentiveLSTMDecoder,
    CosineAttention,
    DecoderState,
    DotProductAttention,
    LSTMEncoder,
    LSTMState,
    Memory,
    NoAttention,
    recurrence,
)
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

#: What makes each layer, and the arguments of its call.
LAYERS = {
    "cosine": (CosineAttention, ATTENTION_ARGUMENTS),
    "dot": (DotProductAttention, ATTENTION_ARGUMENTS),
    "none": (NoAttention, ATTENTION_ARGUMENTS),
    "lstm": (functools.partial(LSTM, UNITS), LSTM_ARGUMENTS),
    "encoder": (encoder, [random_ids(3, 2), MASK]),
    "decoder": (decoder, decoder_arguments(feeding=False)),
    "feeding_decoder": (
        functools.partial(decoder, input_feeding=True),
        decoder_arguments(feeding=True),
    ),
}
EVERY_LAYER = pytest.mark.parametrize("name", LAYERS)
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
        ("lstm", dict(reverse=True)),
        ("encoder", dict(layers=2, bidirectional=False, dropout=0.5)),
        ("decoder", dict(attention="dot", tied_output=False, dropout=0.5)),
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
    assert loaded_layer.get_config()["dtype"] == layer.get_config()["dtype"]
    assert len(loaded_layer.trainable_weights) == len(layer.trainable_weights)


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
    results = layer(source_ids)
    assert_all_close(layer.loop(tf.constant(source_ids)), results, atol=1e-6)


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
