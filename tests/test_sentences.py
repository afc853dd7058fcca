"""Tests of paragraphs that are translated sentence by sentence."""

import sys

import pytest
from click.testing import CliRunner
from conftest import backwards

from pocketseq.cli import main
from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.text.sentences import translate_paragraphs


def test_what_is_between_sentences_stays():
    asked = []

    def translate(sentences):
        asked.extend(sentences)
        return [f"<{sentence}>" for sentence in sentences]

    texts = ["  Dr. Smith slept.  Did he? Yes!\n", "", " ", "No end"]
    found = translate_paragraphs(texts, translate, "en")
    assert found[0] == "  <Dr. Smith slept.>  <Did he?> <Yes!>\n"
    assert found[3] == "<No end>"
    assert [text.strip("<>") for text in found[1:3]] in (["", " "], ["", ""])
    assert [sentence for sentence in asked if sentence] == [
        "Dr. Smith slept.", "Did he?", "Yes!", "No end",
    ]  # fmt: skip


def test_other_languages_end_their_sentences_in_their_own_way():
    texts = ["今日は晴れ。明日は雨。", "यह घर है। वह पेड़ है।"]
    counts = []

    def translate(sentences):
        counts.append(len([one for one in sentences if one]))
        return sentences

    for text, language in zip(texts, ("ja", "hi"), strict=True):
        assert translate_paragraphs([text], translate, language) == [text]
    assert counts == [2, 2]


def test_without_the_package_there_is_an_error_that_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencex", None)
    with pytest.raises(UserError, match="sentencex is missing, expected it installed"):
        translate_paragraphs(["a"], list, "en")


def test_translate_splits_sentences(trained_run):
    command = ["translate", "--model", str(trained_run.folder), "--split-sentences"]
    result = CliRunner().invoke(main, [*command, "ab? cd? ef?", "fed"])
    assert result.exit_code == 0, result.output
    first, second = result.stdout.splitlines()
    assert second == backwards("fed")
    # Each sentence was a text of its own, and the model cannot read a question mark.
    alone = CliRunner().invoke(main, [*command[:3], "ab?", "cd?", "ef?"])
    assert first == " ".join(alone.stdout.splitlines())


@pytest.mark.parametrize("option", [["--scores"], ["--alignment"], ["--n-best", "2"]])
def test_a_paragraph_has_no_score(option, trained_run):
    command = ["translate", "--model", str(trained_run.folder), "--split-sentences"]
    result = CliRunner().invoke(main, [*command, *option, "ab"])
    assert result.exit_code == 2
    assert "--split-sentences: prints text alone" in result.stderr
