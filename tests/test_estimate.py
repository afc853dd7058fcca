"""Tests of pocketseq.pipeline.estimate, against built models and measured files."""

import pytest

from pocketseq.pipeline.configuration import Config, load_recipe, override
from pocketseq.pipeline.estimate import (
    Tokens,
    Vocabularies,
    count_weights,
    file_bytes,
    minutes,
)
from pocketseq.pipeline.model import build_model


@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("encoder_layers=2", "decoder_layers=2"),
        ("encoder_layers=2", "input_feeding=true"),
        ("bidirectional=false", "tied_output=false", "decoder_layers=3"),
        ("attention=none", "units=14"),
        ("attention=dot", "input_feeding=true", "embedding_size=9"),
        ("attention.learned_scale=false",),
        ("attention=general",),
        ("readout=false", "tied_output=false"),
        ("attention=additive", "attention.width=5"),
        ("longest_ngram=2",),
        ("longest_ngram=4", "ngram_rows=130", "ngram_size=3"),
    ],
)
def test_weights_are_those_of_the_built_model(settings):
    small = ("embedding_size=8", "units=12", *settings)
    config = override(Config(), [f"model.{setting}" for setting in small]).model
    expected = build_model(config, 11, 17).count_params()
    assert count_weights(config, Vocabularies(11, 17)) == expected


# Sizes that exports had: English from the CMU dictionary, 31 and 43 tokens, and English
# to German of 4,000 pieces each.
@pytest.mark.parametrize(
    ("recipe", "sizes", "pieces", "measured"),
    [
        ("pronunciation", Vocabularies(31, 43), 0, 1.1e6),
        ("translation", Vocabularies(4000, 4000), 8000, 2.1e6),
    ],
)
def test_a_file_is_about_as_large_as_measured(recipe, sizes, pieces, measured):
    model = load_recipe(recipe).model
    assert file_bytes(model, sizes, pieces=pieces) == pytest.approx(measured, rel=0.1)


def test_minutes_are_about_those_measured_and_grow_with_the_work():
    recipe, sizes, tokens = (
        load_recipe("pronunciation"), Vocabularies(31, 43), Tokens(8.4, 7.4)
    )  # fmt: skip
    measured = minutes(recipe, sizes, tokens, 125_000)
    assert measured == pytest.approx(8, rel=0.25)
    twice = override(recipe, ["training.updates=12000"])
    assert minutes(twice, sizes, tokens, 125_000) == pytest.approx(2 * measured)
    # A batch has each pair once: ten pairs of 15.8 tokens are not 2,048 tokens.
    few = minutes(recipe, sizes, tokens, 10)
    assert few == pytest.approx(measured * 10 * 15.8 / 2048)
