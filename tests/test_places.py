"""Where models are: paths, the newest run, and the models in the box.

In the place of the box stands one with the bundle of an earlier version, which spells
backwards and needs no TensorFlow.
"""

import json
import logging
import shutil
from pathlib import Path

import click.testing
import pytest

import pocketseq
from pocketseq.cli import main
from pocketseq.export.places import find_model, names_in_box, shipped_file
from pocketseq.pipeline.errors import UserError

PAST = Path(__file__).with_name("past") / "format_1"
LISTED = "or a model in the box: backwards, forwards"


@pytest.fixture(autouse=True)
def box(tmp_path, monkeypatch):
    """A box with two models; the working directory is empty."""
    folder = tmp_path / "models"
    for name in ("forwards", "backwards"):
        shutil.copytree(PAST / "bundle", folder / name)
    (folder / "half a model").mkdir()
    (folder / "box.toml").touch()
    monkeypatch.setattr("pocketseq.export.places.BOX", folder)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return folder


def run_command(*arguments):
    logging.getLogger("pocketseq").handlers.clear()
    return click.testing.CliRunner().invoke(
        main, list(map(str, arguments)), catch_exceptions=False
    )


def output_of(*arguments):
    result = run_command(*arguments)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def mistake_in(*arguments):
    """The one line that a command with a mistake says."""
    result = run_command(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    return result.stderr


def test_a_model_in_the_box_is_a_folder_with_a_manifest():
    assert names_in_box() == ["backwards", "forwards"]


def test_a_name_opens_the_model_in_the_box(box):
    texts = json.loads((PAST / "answers.json").read_text())["texts"]
    expected = pocketseq.load(box / "backwards" / "model-int8.tflite").translate(texts)
    found = pocketseq.load("backwards").translate(texts)
    assert [best.text for (best,) in found] == [best.text for (best,) in expected]


def test_what_exists_under_a_name_comes_before_the_box(box):
    assert find_model("backwards") == box / "backwards"
    Path("backwards").mkdir()
    assert find_model("backwards") == Path("backwards")
    with pytest.raises(UserError, match="backwards: no config.toml in it, expected a"):
        pocketseq.load("backwards")


def test_the_folder_of_a_bundle_is_its_model(box, monkeypatch):
    monkeypatch.chdir(box)
    for model in (box / "forwards", "forwards"):  # here, the name is a path
        ((best,),) = pocketseq.load(model).translate(["ac"])
        assert best.text == "C A"


@pytest.mark.parametrize("command", [["translate", "a"], ["evaluate", "cmudict:dev"]])
def test_an_unknown_name_is_answered_by_those_there_are(command):
    name, argument = command
    message = mistake_in(name, "--model", "backward", argument)
    assert message == (
        "error: backward: no such model, expected a run folder, a SavedModel folder or "
        f"a .tflite file, {LISTED}\n"
    )


def test_a_name_is_no_path_inside_the_box():
    for name in ("backwards/manifest.json", "half a model", "box.toml", "./backwards"):
        with pytest.raises(UserError, match=LISTED):
            find_model(name)


def test_without_any_run_the_models_in_the_box_are_named():
    for command in (["translate", "a"], ["evaluate", "cmudict:dev"], ["benchmark"]):
        message = mistake_in(*command)
        assert message == (
            "error: runs/: no run found, expected one (train makes it) or --model "
            f"PATH, {LISTED}\n"
        )
    # Only a run can be exported.
    assert "box" not in mistake_in("export")


def test_an_empty_box_is_not_spoken_of(box):
    shutil.rmtree(box)
    with pytest.raises(UserError, match=r"expected a .* \.tflite file$"):
        find_model("backwards")
    with pytest.raises(UserError, match="or --model PATH$"):
        find_model(None)


def test_every_command_that_takes_a_model_takes_a_name():
    file = PAST / "dev.tsv"
    assert output_of("translate", "--model", "backwards", "ac") == "C A\n"
    shown = json.loads(output_of("evaluate", "--model", "backwards", file, "--json"))
    assert shown["wer"] == 0
    both = json.loads(output_of("compare", "backwards", "forwards", file, "--json"))
    assert [both[one]["model"] for one in "ab"] == ["backwards", "forwards"]
    lines = output_of("benchmark", "--model", "backwards", "--json").splitlines()
    assert [Path(json.loads(line)["file"]).name for line in lines] == [
        "model-float32.tflite", "model-int8.tflite",
    ]  # fmt: skip


def test_the_files_of_a_model_in_the_box_are_not_overwritten(box):
    golden = box / "backwards" / "golden.jsonl"
    before = golden.read_bytes()
    with pytest.raises(UserError, match="would overwrite"):
        pocketseq.evaluate("backwards", PAST / "dev.tsv", errors=golden)
    assert golden.read_bytes() == before


def test_of_several_files_of_a_bundle_the_default_is_opened(box):
    folder = box / "backwards"
    assert shipped_file(folder) == folder / "model-int8.tflite"
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["models"]["int8"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert shipped_file(folder) == folder / "model-float32.tflite"
    manifest["models"] = {}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert shipped_file(folder) is None


def test_other_folders_are_not_bundles(box):
    assert shipped_file(PAST / "run") is None
    manifest = box / "backwards" / "manifest.json"
    manifest.write_text('{"name": "a web app"}')
    assert shipped_file(manifest.parent) is None


def test_a_damaged_manifest_is_a_mistake(box):
    manifest = box / "backwards" / "manifest.json"
    values = json.loads(manifest.read_text())
    del values["models"]["int8"]["file"]
    manifest.write_text(json.dumps(values))
    assert "manifest.json: damaged: " in mistake_in(
        "translate", "--model", "backwards", "a"
    )
    manifest.write_bytes(b"\xff")
    assert "manifest.json: damaged: " in mistake_in(
        "translate", "--model", "backwards", "a"
    )
