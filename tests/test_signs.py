"""Tests of pocketseq.pipeline.reports.signs."""

import unicodedata

import pytest

from pocketseq.pipeline.reports.signs import (
    describe,
    visible,
    visible_spaces,
    visible_symbol,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("한국", "한국"),
        ("क्\u200dष", "क्\u200dष"),  # a joiner within a word belongs to it
        ("\u0301a", "◌\u0301a"),
        ("\u093f", "◌\u093f"),
        ("a\nb\tc", "a↵b⇥c"),
        ("a\u0000b", "aU+0000b"),
        ("\u200d", "U+200D"),
        ("ab\u202ecd", "abU+202Ecd"),  # or all that follows would be turned around
        ("", ""),
    ],
)
def test_what_would_not_be_seen_becomes_a_sign(text, expected):
    assert visible(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b", "a b"),
        (" a", "␣a"),
        ("a  b ", "a␣␣b␣"),
        ("a\u00a0b", "aU+00A0b"),
        ("שלום עולם", "שלום עולם"),
    ],
)
def test_spaces_that_are_easily_missed_become_signs(text, expected):
    assert visible_spaces(text) == expected


@pytest.mark.parametrize(
    ("symbol", "expected"),
    [("", "∅"), (" ", "␣"), ("\u00a0", "U+00A0"), ("t͡ʃ", "t͡ʃ"), ("\u0303", "◌\u0303")],
)
def test_one_symbol_can_be_seen_by_itself(symbol, expected):
    assert visible_symbol(symbol) == expected


def test_a_symbol_is_described_by_its_code_points():
    assert describe("é") == f"U+00E9 {unicodedata.name('é')}"
    assert describe("e\u0301").count(", ") == 1
    assert describe("\ue000") == "U+E000"
