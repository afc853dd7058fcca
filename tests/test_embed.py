"""Tests of `embed`: an exported model, its files and the wrappers for an app."""

import hashlib
import json
import shutil

import pytest
from click.testing import CliRunner

from pocketseq.cli import main
from pocketseq.export.apps import PLATFORMS
from pocketseq.export.places import BOX

NAME = "italian-pronunciation"
BUNDLE = BOX / NAME
FILE = "model-int8.tflite"


def embed(*words):
    return CliRunner().invoke(main, ["embed", *map(str, words)])


def refusal(*words):
    """The one line of a command that must refuse."""
    result = embed(*words)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    return line


def test_a_model_in_the_box_comes_with_all_that_is_known_of_it(tmp_path):
    assert embed("--model", NAME, "--output", tmp_path / "app").exit_code == 0
    for path in BUNDLE.iterdir():
        assert (tmp_path / "app" / path.name).is_file()
    for name in (FILE, "golden.jsonl", "LICENSES.md", "MODEL_CARD.md"):
        assert (tmp_path / "app" / name).read_bytes() == (BUNDLE / name).read_bytes()
    platforms = {path.name for path in (tmp_path / "app" / "apps").iterdir()}
    assert platforms == {*PLATFORMS}
    assert [path.name for path in tmp_path.iterdir()] == ["app"]


def test_a_lone_file_is_enough(tmp_path):
    lone = tmp_path / "somewhere" / "names.tflite"
    lone.parent.mkdir()
    shutil.copy(BUNDLE / FILE, lone)
    result = embed("--model", lone, "--apps", "c,android", "--output", tmp_path / "app")
    assert (result.exit_code, result.stdout) == (0, f"written to {tmp_path / 'app'}\n")
    manifest = json.loads((tmp_path / "app" / "manifest.json").read_text("utf-8"))
    (entry,) = manifest["models"].values()
    data = lone.read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    assert (entry["file"], entry["bytes"]) == ("names.tflite", len(data))
    assert entry["sha256"] == sha256
    beside = json.loads((BUNDLE / "manifest.json").read_text("utf-8"))
    assert manifest["signatures"] == beside["signatures"]
    assert entry["operators"] == beside["models"]["int8"]["operators"]
    for path in (
        "c/italian_pronunciation_model.h",
        "android/ItalianPronunciationModel.kt",
    ):
        text = (tmp_path / "app" / "apps" / path).read_text(encoding="utf-8")
        assert sha256 in text and "names.tflite" in text
    assert (tmp_path / "app" / "names.tflite").read_bytes() == data


def test_nothing_that_is_there_is_written_over(tmp_path):
    (tmp_path / "app").mkdir()
    line = refusal("--model", NAME, "--output", tmp_path / "app")
    assert "exists already, expected another --output" in line
    assert not list((tmp_path / "app").iterdir())


def test_a_damaged_file_is_refused_and_nothing_is_written(tmp_path):
    bundle = shutil.copytree(BUNDLE, tmp_path / "bundle")
    data = bytearray((bundle / FILE).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / FILE).write_bytes(data)
    for model in (bundle, bundle / FILE):
        line = refusal("--model", model, "--output", tmp_path / "app")
        assert "damaged" in line
    assert not (tmp_path / "app").exists()


def test_the_file_of_another_export_is_refused(tmp_path):
    bundle = shutil.copytree(BUNDLE, tmp_path / "bundle")
    shutil.copy(BOX / "english-pronunciation" / FILE, bundle)
    line = refusal("--model", bundle, "--output", tmp_path / "app")
    assert "of another export: expected the SHA-256 in" in line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--model", "no-such-model"],
            "expected the folder of an export or a",
        ),
        (["--model", "."], "no manifest.json of an export in it, expected"),
        (
            ["--model", NAME, "--apps", "amiga"],
            "expected none, or some of web, andr",
        ),
    ],
)
def test_a_mistake_is_one_line(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert said in refusal(*words, "--output", "app")
