"""Making the models in the box: the table, what is kept, and the cards."""

import os
import shlex
from pathlib import Path

import click
import pytest
from manifests import made_up_manifest

import make_models
from box.card import Measured, model_card
from box.entries import Entry, difference, read_entries
from make_models import chosen, exported, into_box
from pocketseq.cli import main
from pocketseq.export.contract import Exceptions, ModelFile
from pocketseq.pipeline.analysis.analysis import analyse
from pocketseq.pipeline.analysis.answers import Answers
from pocketseq.pipeline.analysis.results import evaluation_json
from pocketseq.pipeline.configuration import Config, override
from pocketseq.pipeline.data.installed import installed, is_installed
from pocketseq.pipeline.runs import Run, compose
from pocketseq.pipeline.text.known import KnownText
from pocketseq.pipeline.translation import Knowledge, Translation

ENTRIES = read_entries(Path(__file__).parents[1] / "models/box.toml")

NAMES = Entry(
    name="names", summary="Names to names.", recipe="transliteration",
    train="train.tsv", dev="dev.tsv", test="test.tsv", examples=("a", "b"),
    license="CC0", exceptions="training", beam=3, settings=("training.updates=7",),
)  # fmt: skip
WORDS = Entry(
    name="words", summary="Words to phones.", recipe="pronunciation",
    train="cmudict:train", dev="cmudict:dev", examples=("ab", "ba"),
    exceptions="cmudict:all", limits=("No names.",),
)  # fmt: skip


# The table.


def test_the_table_has_what_is_asked_for():
    names = {entry.name for entry in ENTRIES}
    assert {"english-pronunciation", "hebrew-transliteration"} < names
    assert sum(entry.train.startswith("gruut:") for entry in ENTRIES) >= 4


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_commands_of_the_table_are_commands(entry):
    for name, *arguments in (entry.training_command(None), entry.export_command()):
        main.commands[name].make_context(name, arguments)  # a UsageError otherwise
    corpora = entry.corpora(None)
    config = compose(
        entry.recipe,
        (corpora["train"], None, corpora["dev"], None),
        settings=entry.changes(None),
    )
    assert config.name == entry.name
    assert config.data.license != Config().data.license
    assert [config.data.train, config.data.dev, config.data.test] == list(
        corpora.values()
    )
    for name in (*corpora.values(), entry.exceptions):
        assert not is_installed(name) or installed(name)
    assert len(entry.examples) >= 2 and entry.summary.endswith(".")


def test_files_are_those_of_the_folder_of_data_and_dictionaries_are_not():
    assert WORDS.files == []
    assert WORDS.corpora(Path("there"))["test"] == "cmudict:test"
    assert NAMES.files == ["train.tsv", "dev.tsv", "test.tsv"]
    assert NAMES.corpora(Path("there"))["dev"] == "there/dev.tsv"


def test_a_command_states_what_the_recipe_does_not_know():
    assert shlex.join(NAMES.training_command(Path("there"))) == (
        "train transliteration --train there/train.tsv --dev there/dev.tsv --set "
        "name=names --set data.test=there/test.tsv --set data.license=CC0 --set "
        "training.updates=7"
    )
    assert shlex.join(NAMES.export_command()) == (
        "export --tflite --quantize int8 --max-loss 1 --beam 3 --exceptions"
    )
    assert shlex.join(WORDS.export_command()) == (
        "export --tflite --quantize int8 --max-loss 1 --exceptions cmudict:all"
    )
    plain = "export --tflite --quantize int8 --max-loss 1"
    assert shlex.join(NAMES.export_command(plain=True)) == plain


def test_models_without_their_data_are_left_out_in_a_line(tmp_path, capsys):
    (tmp_path / "train.tsv").touch()
    assert chosen([NAMES, WORDS], [], tmp_path) == [WORDS]
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "names: its data are not part of the project, expected --data DIR with "
        "dev.tsv, test.tsv; left out"
    )
    for name in ("dev.tsv", "test.tsv"):
        (tmp_path / name).touch()
    assert chosen([NAMES, WORDS], [], tmp_path) == [NAMES, WORDS]


def test_a_model_that_is_asked_for_by_name_is_not_left_out():
    with pytest.raises(click.ClickException, match="names: its data are not part of"):
        chosen([NAMES, WORDS], ["names"], None)
    with pytest.raises(click.ClickException, match="other: not in the table, expected"):
        chosen([NAMES, WORDS], ["other"], None)
    assert chosen([NAMES, WORDS], ["words"], None) == [WORDS]


# What is kept.


def test_what_a_run_decides_by_itself_is_no_difference():
    expected = override(Config(), ["source.decompose=auto"])
    decided = ["training.metric=cer", "training.parts=4", "training.precision=float32"]
    found = override(expected, ["source.decompose=true", *decided])
    assert difference(expected, found) is None
    assert difference(expected, override(found, ["model.units=8"])) == (
        "model.units", 256, 8
    )  # fmt: skip
    named = override(expected, ["training.metric=exact"])
    assert difference(named, found) == ("training.metric", "exact", "cer")


def test_a_run_of_other_settings_is_not_used(tmp_path):
    run = Run(tmp_path)
    files = ("cmudict:train", None, "cmudict:dev", None)
    config = compose("pronunciation", files, settings=["name=words"])
    run.config_path.write_text(config.to_toml())
    WORDS.check_run(run, None)
    run.config_path.write_text(override(config, ["training.seed=2"]).to_toml())
    with pytest.raises(
        click.ClickException, match=r"training.seed = 2, expected 1 for"
    ):
        WORDS.check_run(run, None)


def test_an_export_is_made_anew_after_other_options_or_a_longer_training(
    tmp_path, monkeypatch
):
    commands = []

    class Done:
        returncode = 0

    def run(words, **_):
        commands.append(words[2:])
        return Done()

    monkeypatch.setattr(make_models.subprocess, "run", run)
    best = Run(tmp_path).best_path
    best.touch()
    os.utime(best, (1e9, 1e9))
    for options in ([], [], ["--beam", "3"], ["--beam", "3"]):
        folder = exported(tmp_path, "plain", ["export", "--tflite", *options])
        assert folder == tmp_path / "plain"
    expected = ["export", "--model", tmp_path, "--output", folder, "--force"]
    expected = [*map(str, expected), "--apps", "none", "--tflite"]
    assert commands == [expected, [*expected, "--beam", "3"]]
    os.utime(best, (4e9, 4e9))
    exported(tmp_path, "plain", ["export", "--tflite", "--beam", "3"])
    assert len(commands) == 3
    Done.returncode = 1
    for _ in range(2):
        with pytest.raises(click.ClickException, match="export has failed"):
            exported(tmp_path, "other", ["export"])
    assert len(commands) == 5


def bundle_of(folder, size):
    folder.mkdir()
    (folder / "model-int8.tflite").write_bytes(bytes(size))
    return folder


def test_a_bundle_replaces_the_one_in_the_box(tmp_path):
    box = tmp_path / "models"
    assert into_box("one", bundle_of(tmp_path / "a", 30), "card", box) == 34
    (box / "one" / "old").touch()
    newer = bundle_of(tmp_path / "b", 10)
    (newer / "sources").mkdir()
    assert into_box("one", newer, "new card", box) == 18
    assert [path.name for path in box.iterdir()] == ["one"]
    assert sorted(path.name for path in (box / "one").iterdir()) == [
        "MODEL_CARD.md", "model-int8.tflite", "sources",
    ]  # fmt: skip
    assert (box / "one" / "MODEL_CARD.md").read_text() == "new card"
    assert (tmp_path / "b").is_dir()  # is kept beside the run


def test_a_bundle_that_is_too_large_leaves_the_box_as_it_was(tmp_path):
    box = tmp_path / "models"
    into_box("one", bundle_of(tmp_path / "a", 30), "card", box)
    large = bundle_of(tmp_path / "b", 2_500_000)
    with pytest.raises(
        click.ClickException, match="one: 2,500,004 bytes, expected few"
    ):
        into_box("one", large, "card", box)
    assert (box / "one" / "model-int8.tflite").stat().st_size == 30
    assert [path.name for path in box.iterdir()] == ["one"]


# Cards.


def analysis_of(outputs):
    """Of words of two letters, whose phones are the letters in upper case."""
    sources = ["ab", "ba", "aa", "bb"]
    known = Knowledge(KnownText("character"), KnownText("word"), 1.0, None)
    answers = Answers(
        "model", known, sources, [[" ".join(word.upper())] for word in sources],
        [Translation(s, o, -0.5, None) for s, o in zip(sources, outputs, strict=True)],
    )  # fmt: skip
    return analyse("file", [answers])


RIGHT = ["A B", "B A", "A A", "B B"]


@pytest.fixture
def card():
    """A card, with each paragraph and each row of a table in a line of its own."""
    file = ModelFile(
        "model-int8.tflite", 1234567, "", "2.17.0", milliseconds=0.25,
        exceptions=Exceptions(1500, 12000),
    )  # fmt: skip
    manifest = made_up_manifest(
        [(64, 128)], beam_size=4, name="words", task="grapheme to phoneme",
        models={"int8": file},
        recipe={
            "search": {"beam_size": 1, "length_penalty": 1.0},
            "data": {
                "train": "cmudict:train", "dev": "cmudict:dev", "test": "cmudict:test",
                "license": "BSD",
            },
            "model": {
                "units": 256, "encoder_layers": 2, "decoder_layers": 1,
                "bidirectional": True, "attention": {"score": "cosine"},
            },
            "training": {"updates": 6000, "batch_tokens": 2048, "seed": 1},
        },
    )  # fmt: skip
    right = evaluation_json(analysis_of(RIGHT).models[0])
    measured = Measured(
        texts={"train": 117073, "dev": 4, "test": 4},
        plain={
            "dev": analysis_of(["A B", "B A", "A A", "B"]),
            "test": analysis_of(["A B", "B A", "A B", "B A"]),
        },
        shipped={"dev": right, "test": right},
        examples=[
            Translation("ab", "A B", 0.0, None), Translation("ba", "B", -0.5, None),
        ],
        weights=734000,
    )  # fmt: skip
    commands = [WORDS.training_command(None), WORDS.export_command()]
    return model_card(WORDS, manifest, measured, commands)


def test_a_card_has_the_chapters_of_a_card(card):
    headings = [line[3:] for line in card.splitlines() if line.startswith("## ")]
    assert headings == [
        "The model", "Use", "Data", "Quality", "Limits", "How it was made",
    ]  # fmt: skip
    assert card.startswith("# Model card: words\n\nWords to phones.\n")
    assert max(map(len, card.splitlines())) <= 88


def test_a_card_shows_examples_and_where_they_are_from(card):
    assert "\n| `ab` | `A B` | from its table |\n" in card
    assert "\n| `ba` | `B` | by the model |\n" in card


def test_a_card_says_how_good_a_model_is_with_its_dictionary_and_without(card):
    # Of 4 texts, 8 symbols: 1 wrong by 1 edit, 2 wrong by 1 edit each.
    rows = [line for line in card.splitlines() if line.startswith(("| dev", "| test"))]
    figures = [[c.strip() for c in row.strip("|").split("|")] for row in rows]
    assert [[one[0], one[1], one[2], one[4]] for one in figures] == [
        ["dev", "4", "25.00", "12.50"],
        ["test", "4", "50.00", "25.00"],
        ["dev, with dictionary", "4", "0.00", "0.00"],
        ["test, with dictionary", "4", "0.00", "0.00"],
    ]
    assert "| set | texts | WER | 95 % | PER |" in card


def test_a_card_says_what_the_model_is_and_what_it_is_not(card):
    prose = " ".join(card.split())
    for part in (
        "`model-int8.tflite`, 1,234,567 bytes",
        "0.73 million weights",
        "encoder 2 x 256, read both ways, decoder 1 x 256",
        "every text of `cmudict:all` is answered as it stands there",
        "1,500 texts in 12,000 bytes",
        "**Time**: 0.25 ms",
        "`cmudict:train`, 117,073 different texts",
        "**Licence**, which holds for the model, too: BSD.",
        "- No names.",
        "after 64 code points",
        "2 of 2 wrong outputs (100 %) are one symbol off.",
        "At most 6,000 updates of 2,048 tokens, seed 1",
        "python cli.py train pronunciation --train cmudict:train",
        "python cli.py export --tflite --quantize int8 --max-loss 1",
    ):
        assert part in prose
    assert "<bdi" not in card
