"""Tests of lexicons for speech programs."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner
from conftest import backwards

from pocketseq.cli import main
from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.lexicon import FORMATS, read_symbols


@pytest.fixture
def files(tmp_path):
    """Words, some twice, and a dictionary that knows one of them in two ways."""
    words = "fed\nbead\n\nfed\nFace\nab cd\n"
    (tmp_path / "words.txt").write_text(words, encoding="utf-8")
    entries = "bead\tX Y\nbead\tZ\nunused\tX\n"
    (tmp_path / "dictionary.tsv").write_text(entries, encoding="utf-8")
    return tmp_path


def run(trained_run, *arguments, **options):
    command = ["lexicon", "--model", str(trained_run.folder), *map(str, arguments)]
    return CliRunner().invoke(main, command, **options)


def test_the_dictionary_comes_first_and_each_word_once(trained_run, files):
    result = run(
        trained_run, "--dictionary", files / "dictionary.tsv", files / "words.txt"
    )
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[:3] == [f"fed {backwards('fed')}", "bead X Y", "bead Z"]
    assert [line.split()[0] for line in lines[3:]] == ["Face"]
    assert "left out: 1 word with whitespace inside" in result.stderr
    assert "ab cd" in result.stderr


def test_standard_input_and_other_formats(trained_run):
    result = run(trained_run, "--format", "kaldi", "-", input="fed\n")
    assert result.stdout == f"fed\t{backwards('fed')}\n"
    result = run(trained_run, "--format", "json", "--n-best", 2, "-", input="fed\n")
    first, second = map(json.loads, result.stdout.splitlines())
    assert first["word"] == second["word"] == "fed"
    assert first["symbols"] == backwards("fed").split() != second["symbols"]
    assert 0 > first["score"] > second["score"]
    offered = CliRunner().invoke(main, ["lexicon", "--help"]).stdout
    assert f"[{'|'.join(FORMATS)}]" in offered


def test_symbols_that_the_program_does_not_know_are_listed(trained_run, files):
    tokens = files / "tokens.txt"
    tokens.write_text("<blk> 0\nF5 1\n  2\nE4 3\nD3\t4\n", encoding="utf-8")
    words = files / "words.txt"
    words.write_text("fed\n", encoding="utf-8")
    assert run(trained_run, "--tokens", tokens, words).exit_code == 0
    words.write_text("fed\nface\nface\nbead\n", encoding="utf-8")
    result = run(trained_run, "--tokens", tokens, words)
    assert result.exit_code == 1
    # In face and bead; the most frequent first.
    assert f"not in {tokens}: A0 (2 times)" in result.stderr.splitlines()[0]
    assert "F5" not in result.stderr
    assert len(result.stdout.splitlines()) == 3


@pytest.mark.parametrize(
    ("line", "problem"), [("ab", ":2: expected a symbol and its number"), ("a b", ":2")]
)
def test_a_broken_list_of_symbols_is_an_error(line, problem, tmp_path):
    path = tmp_path / "tokens.txt"
    path.write_text(f"a 0\n{line}\n")
    with pytest.raises(UserError) as error:
        read_symbols(str(path))
    assert f"{path}{problem}" in str(error.value)


def test_words_that_the_model_reads_alike_have_one_entry(tmp_path):
    from random_models import random_translator

    from pocketseq.pipeline.data.corpora import Corpus
    from pocketseq.pipeline.lexicon import Lexicon
    from pocketseq.pipeline.text.normalization import Normalization

    translator = random_translator(
        "character",
        "word",
        lengths=(16, 16),
        normalization=Normalization(fold_case=True),
    )
    path = tmp_path / "dictionary.tsv"
    path.write_text("Straße\tX\n", encoding="utf-8")
    lexicon = Lexicon(translator, Corpus(str(path)))
    found = list(lexicon.pronunciations(["STRASSE", "Straße", "q"]))
    assert [(one.word, one.symbols) for one in found[:2]] == [
        ("STRASSE", ("X",)), ("Straße", ("X",)),
    ]  # fmt: skip
    assert [one.score is None for one in found] == [True, True, False][: len(found)]


def test_a_lexicon_by_a_file_needs_no_tensorflow(tmp_path):
    (tmp_path / "words.txt").write_text("phone\n", encoding="utf-8")
    (tmp_path / "tokens.txt").write_text("F 0\nOW1 1\nN 2\n", encoding="utf-8")
    program = (
        "import sys; from pocketseq.cli import main; "
        "line = 'lexicon --model english-pronunciation --tokens tokens.txt words.txt'; "
        "main(line.split(), standalone_mode=False); "
        "print([one for one in ('tensorflow', 'keras') if one in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, cwd=tmp_path, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["phone F OW1 N", "[]"]
