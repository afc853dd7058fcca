"""Tests of pocketseq.pipeline.data.unknown: characters that only a dev set has."""

import logging

import pytest

from pocketseq.pipeline.configuration import Config, override
from pocketseq.pipeline.data.unknown import count_unknown, report_unknown
from pocketseq.pipeline.text.normalization import Normalization
from pocketseq.pipeline.text.tokenizers import TOKENIZERS


def learned(kind, texts, **normalization):
    return TOKENIZERS[kind].learn(texts, Normalization(**normalization))


def report(references, sources, targets, *settings):
    """Reports on tokenizers that have learned from some texts."""
    config = override(Config(), settings)
    sides = ((config.source, sources), (config.target, targets))
    source, target = (learned(side.tokenizer, texts) for side, texts in sides)
    report_unknown(references, (source, target), config)


@pytest.fixture(autouse=True)
def all_lines(caplog):
    caplog.set_level(logging.INFO)


def test_words_are_counted_whole_and_characters_one_by_one():
    words, characters = learned("word", ["A B"]), learned("character", ["ab"])
    assert count_unknown(words, ["A X", "B  AB", ""]) == (2, 4)
    assert count_unknown(characters, ["abxa", "q"]) == (2, 5)
    assert count_unknown(learned("wordpiece", ["ab a"]), ["ab xb"]) == (1, 5)


def test_normal_forms_are_what_is_counted():
    folded = learned("character", ["\u00e4"], fold_case=True, decompose=True)
    assert count_unknown(folded, ["\u00c4A\u0308B"]) == (1, 5)


def test_numbers_of_which_no_word_is_known_are_a_warning_with_advice(caplog):
    references = {f"n{i}": [str(i)] for i in range(100, 110)}
    report(references, ["n0123456789"], ["1", "2"], "target.tokenizer=word")
    known, warned = caplog.records
    assert known.levelname == "INFO"
    assert "0.0 % of the dev set's source characters are not in" in known.message
    assert warned.levelname == "WARNING"
    assert "100.0 % of the dev set's target symbols are not in" in warned.message
    assert "what may help: --set target.tokenizer=character" in warned.message


def test_decomposing_is_advised_where_it_would_help(caplog):
    # Two syllables of the letters of two others.
    references = {"\uac01\ub098": ["x"]}
    report(references, ["\uac00\ub099"], ["x"])
    assert "100.0 % of the dev set's source characters" in caplog.text
    assert "--set source.decompose=true (0.0 % would be unknown)" in caplog.text


def test_decomposing_is_not_advised_where_it_would_not(caplog):
    report({"\u4e00": ["x"]}, ["\u4e8c"], ["x"])
    assert "100.0 % of the dev set's source characters" in caplog.text
    assert "what may help" not in caplog.text


def test_a_minimum_count_is_named(caplog):
    report({"q": ["x"]}, ["a"], ["x"], "source.minimum_count=3")
    assert "what may help: --set source.minimum_count=1" in caplog.text
