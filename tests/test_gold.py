"""Tests of attention beside gold alignments."""

import json
import sqlite3

import numpy as np
import pytest
from click.testing import CliRunner

import pocketseq
from pocketseq.cli import main
from pocketseq.pipeline.analysis.gold import by_source, judge_attention
from pocketseq.pipeline.data.alignments import parse_alignment, read_alignments
from pocketseq.pipeline.data.installed import _gruut
from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.translation import Translation


def test_an_alignment_is_read_as_symbols_and_their_letters():
    pair = parse_alignment("A|a}aː c|h}χ e}_ _}ʔ x}k|s")
    assert pair.source == "Aachex"
    assert pair.symbols == ("aː", "χ", "ʔ", "k", "s")
    assert [list(places) for places in pair.places] == [[0, 1], [2, 3], [], [5], [5]]


@pytest.mark.parametrize("unit", ["abc", "}a", "a}", "}"])
def test_what_is_not_aligned_is_an_error(unit):
    with pytest.raises(ValueError, match="is not aligned, expected letters}phones"):
        parse_alignment(f"a}}b {unit}")


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ("ab\ta}A b}B\nab a}A\n", ":2: expected source TAB alignment, found no TAB"),
        ("ab\ta}A c}B\n", ":1: the alignment has the letters 'ac', expected 'ab'"),
        ("ab\ta}A b\n", ":1: 'b' is not aligned"),
        ("", ": no alignments, expected lines source TAB alignment"),
    ],
)
def test_a_broken_file_is_an_error_that_names_the_line(lines, problem, tmp_path):
    path = tmp_path / "gold.tsv"
    path.write_text(lines, encoding="utf-8")
    with pytest.raises(UserError) as error:
        list(read_alignments(str(path)))
    assert f"{path}{problem}" in str(error.value)


def test_a_dictionary_without_alignments_is_an_error():
    with pytest.raises(UserError, match="cmudict:test: has no alignments"):
        list(read_alignments("cmudict:test"))


def test_alignments_of_a_lexicon_have_the_letters_and_phones_of_its_corpus(tmp_path):
    path = tmp_path / "lexicon.db"
    rows = [
        (1, "Abc", "A}ˈa b|c}b"),  # lower case, without stress
        (2, "-x", "-|x}k"),  # a part of a word
        (3, "e\u0301", "e}e \u0301}_"),  # two code points that are one in NFC
    ]
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE g2p_alignments (id, word, alignment)")
        connection.executemany("INSERT INTO g2p_alignments VALUES (?, ?, ?)", rows)
    connection.close()
    corpus = _gruut(stress=False)("gruut:de:all", "de:all")
    assert corpus.alignments is not None
    assert list(corpus.alignments(path)) == [("abc", "a}a b|c}b")]


def translation(source, text, weights):
    return Translation(source, text, -0.1, np.array(weights, np.float32))


def test_a_symbol_is_aligned_if_its_largest_weight_is_at_one_of_its_letters():
    gold = by_source(map(parse_alignment, ["a|b}XX c}Y", "a}X b}Y", "a}Z b|c}XX"]))
    assert list(gold) == ["abc", "ab"]
    rows = {"X": [0.1, 0.8, 0.1], " ": [0, 0, 1], "Y": [0.2, 0.5, 0.3]}
    found = judge_attention(
        [
            translation("abc", "XX Y", [rows[c] for c in "XX Y"]),
            translation("ab", "X", [[1, 0]]),  # no alignment has only this symbol
        ],
        gold,
        "word",
    )
    assert (found.texts, found.right, found.symbols) == (2, 1, 2)
    assert found.aligned == 50  # XX looks at b, one of its letters; Y does, too
    # The middle of XX is 0.75, at a; that of Y 2.25, at c.
    assert found.diagonal == 100


def test_equal_weights_count_for_their_share():
    gold = by_source([parse_alignment("a|b}X c|d}Y")])
    weights = np.full((2, 4), 0.25)
    found = judge_attention([translation("abcd", "XY", weights)], gold, "character")
    assert found.aligned == 50


def test_letters_that_no_symbol_comes_from_are_nobodys():
    gold = by_source([parse_alignment("a}X b}_ _}Z")])
    found = judge_attention(
        [translation("ab", "XZ", [[0, 1], [1, 0]])], gold, "character"
    )
    assert (found.symbols, found.aligned) == (1, 0)


def test_nothing_right_is_nothing_to_compare():
    gold = by_source([parse_alignment("a}X")])
    found = judge_attention([translation("a", "Y", [[1]])], gold, "character")
    assert found.to_json() == {
        "texts": 1, "right": 0, "symbols": 0, "aligned": None, "diagonal": None,
    }  # fmt: skip


def test_evaluate_compares_a_model_with_a_file(trained_run, tmp_path):
    # Words that are the same backwards, whose symbols may come from either side.
    words = ["aba", "cdc", "efe", "bb", "fafaf"]
    path = tmp_path / "gold.tsv"
    numbers = {letter: f"{letter.upper()}{i}" for i, letter in enumerate("abcdef")}
    path.write_text(
        "".join(
            f"{word}\t{' '.join(f'{c}}}{numbers[c]}' for c in word)}\n"
            for word in words
        )
    )
    right = symbols = hits = 0
    for (best,), word in zip(
        pocketseq.load(trained_run.folder).translate(words), words, strict=True
    ):
        if best.text.split() == [numbers[c] for c in word]:
            right += 1
            symbols += len(word)
            assert best.alignment is not None
            looked_at = best.alignment[::3].argmax(axis=1)  # symbols of two characters
            hits += (looked_at == np.arange(len(word))).sum()
    assert right >= 2
    command = ["evaluate", "--model", str(trained_run.folder), "--alignments"]
    result = CliRunner().invoke(main, [*command, str(path), "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["alignments"]
    assert (found["texts"], found["right"], found["symbols"]) == (5, right, symbols)
    assert found["aligned"] == pytest.approx(100 * hits / symbols, abs=1e-3)
    result = CliRunner().invoke(main, [*command, str(path)])
    assert f"of {symbols} symbols look most at their own letters" in result.stdout


def test_evaluate_without_anything_to_measure_on_is_an_error(trained_run):
    result = CliRunner().invoke(main, ["evaluate", "--model", str(trained_run.folder)])
    assert result.exit_code == 2
    assert "no FILE of pairs to measure on, expected one" in result.stderr


def test_broken_alignments_are_found_before_anything_is_translated(
    trained_run, tmp_path, monkeypatch
):
    (tmp_path / "gold.tsv").write_text("ab\ta}A\n")
    (tmp_path / "pairs.tsv").write_text("ab\tB1 A0\n")
    monkeypatch.setattr(
        "pocketseq.pipeline.reports.progress.translate_all", lambda *_, **__: 1 / 0
    )
    command = ["evaluate", "--model", str(trained_run.folder)]
    command += ["--alignments", str(tmp_path / "gold.tsv"), str(tmp_path / "pairs.tsv")]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 2
    assert "the alignment has the letters 'a', expected 'ab'" in result.stderr
