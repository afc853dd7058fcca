"""Tests of pocketseq.pipeline.training.updater."""

import numpy as np
import pytest
import tensorflow as tf

from pocketseq.pipeline.configuration import Config, override
from pocketseq.pipeline.data.batches import Batch
from pocketseq.pipeline.text.tokenizers import CharacterTokenizer, WordTokenizer
from pocketseq.pipeline.training.optimization import smoothed_loss
from pocketseq.pipeline.training.updater import new_updater

TOKENIZERS = CharacterTokenizer.learn(["abc"]), WordTokenizer.learn(["A B C"])
BATCH = Batch(
    tf.constant([[4, 5, 6], [5, 4, 0]]),
    tf.constant([3, 2]),
    tf.constant([[4, 5, 3], [6, 3, 0]]),
    tf.constant([3, 2]),
)


def updater(*settings, **options):
    small = [
        "target.tokenizer=word", "model.embedding_size=4", "model.units=4",
        "model.bidirectional=false", "training.precision=float32", "training.parts=1",
        "training.warmup_updates=0",
    ]  # fmt: skip
    return new_updater(override(Config(), [*small, *settings]), TOKENIZERS, **options)


def values(updater):
    return {name: v.numpy() for name, v in updater.variables().items()}


def test_a_loss_is_a_function_of_logits_and_batch():
    def unsmoothed(logits, batch):
        return smoothed_loss(logits, batch.target_ids, batch.target_length, 0.0)

    by_recipe = updater("training.label_smoothing=0")
    by_function = updater("training.label_smoothing=0.3", loss=unsmoothed)
    before = values(by_function)
    for one in (by_recipe, by_function):
        one.update(BATCH, 0)
    found, expected = values(by_function), values(by_recipe)
    assert any((found[name] != before[name]).any() for name in found)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert by_function.mean_loss() == by_recipe.mean_loss() > 0


def test_a_loss_that_is_not_finite_changes_nothing_and_neither_does_what_follows():
    broken = tf.Variable(False)

    def loss(logits, batch):
        return tf.where(broken, np.nan, 1.0) * tf.reduce_sum(logits)

    one = updater(loss=loss)
    one.update(BATCH, 0)
    assert one.broken_at is None
    before = values(one)
    for number, is_broken in ((1, True), (2, True), (3, False)):
        broken.assign(is_broken)
        one.update(BATCH, number)
    assert one.broken_at == 1
    for name, value in values(one).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)


def test_averaged_weights_are_there_while_the_context_lasts_and_only_then():
    one = updater()
    for number in range(2):
        one.update(BATCH, number)
    own = {v.path: v.numpy() for v in one.model.weights}
    averages = {
        name.removeprefix("averages/"): value
        for name, value in values(one).items()
        if name.startswith("averages/")
    }
    with pytest.raises(ZeroDivisionError), one.averaged_weights() as model:
        for weight in model.trainable_weights:
            np.testing.assert_array_equal(weight.numpy(), averages[weight.path])
        _ = 1 / 0
    for weight in one.model.weights:
        np.testing.assert_array_equal(weight.numpy(), own[weight.path])
    assert any((own[path] != value).any() for path, value in averages.items())
