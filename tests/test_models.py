"""Every model in the box: it opens without TensorFlow, and its card is true."""

import fnmatch
import hashlib
import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pocketseq.export.contract import Manifest
from pocketseq.export.places import names_in_box
from pocketseq.pipeline.configuration import DataConfig

ROOT = Path(__file__).parents[1]
FOLDERS = sorted(path for path in (ROOT / "models").iterdir() if path.is_dir())
each_model = pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)

#: Of all files in the folder of a model.
MOST_BYTES = 2_500_000

#: Of quantized files; see the contract of golden.jsonl.
SCORE_TOLERANCE = 0.05

# Prints what each model answers to its golden texts, and what was imported for that.
ANSWER_ALL = """
import json, sys
import pocketseq

found = {}
for name, texts in json.load(sys.stdin).items():
    translator = pocketseq.load(name)
    best = [best for best, *_ in translator.translate(texts)]
    found[name] = [[one.text, one.score] for one in best]
print(json.dumps([found, sorted({"tensorflow", "keras"} & set(sys.modules))]))
"""


def golden_of(folder):
    # Lines end with \n; texts may hold other line separators.
    lines = (folder / "golden.jsonl").read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines if line]


def manifest_of(folder):
    return Manifest.from_json((folder / "manifest.json").read_text(encoding="utf-8"))


def card_of(folder):
    return (folder / "MODEL_CARD.md").read_text(encoding="utf-8")


def run_python(*arguments, **options):
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True,
        encoding="utf-8", **options,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """The answers of every model to its golden texts, from a process of its own."""
    texts = {path.name: [one["text"] for one in golden_of(path)] for path in FOLDERS}
    output = run_python(
        "-c", ANSWER_ALL, input=json.dumps(texts), cwd=tmp_path_factory.mktemp("empty")
    )
    return json.loads(output)


def test_there_are_models_in_the_box_and_all_are_found_by_name():
    assert FOLDERS
    assert names_in_box() == [folder.name for folder in FOLDERS]
    assert "english-pronunciation" in names_in_box()


def test_no_model_needs_tensorflow(answers):
    found, imported = answers
    assert imported == []
    assert list(found) == [folder.name for folder in FOLDERS]


@each_model
def test_a_model_gives_its_golden_answers(folder, answers):
    lines = golden_of(folder)
    assert len(lines) >= 100
    for line, (text, score) in zip(lines, answers[0][folder.name], strict=True):
        assert text == line["translation"], line["text"]
        assert score == pytest.approx(line["score"], abs=SCORE_TOLERANCE)


@each_model
def test_a_folder_is_small_and_holds_what_the_manifest_says(folder):
    assert sum(path.stat().st_size for path in folder.iterdir()) < MOST_BYTES
    manifest = manifest_of(folder)
    assert manifest.name == folder.name
    (file,) = manifest.models.values()
    data = (folder / file.file).read_bytes()
    assert file.file == "model-int8.tflite"
    assert len(data) == file.bytes
    assert hashlib.sha256(data).hexdigest() == file.sha256
    beam = {"golden_beam.jsonl"} if manifest.beam_size else set()
    assert {path.name for path in folder.iterdir()} == beam | {
        "LICENSES.md", "MODEL_CARD.md", "README.md", "golden.jsonl", "manifest.json",
        file.file,
    }  # fmt: skip


@each_model
def test_the_licence_of_the_data_goes_with_a_model(folder):
    manifest = manifest_of(folder)
    assert manifest.license not in ("", DataConfig.license)
    assert manifest.license in (folder / "LICENSES.md").read_text(encoding="utf-8")
    assert manifest.license in " ".join(card_of(folder).split())


@each_model
def test_a_card_has_the_numbers_of_the_manifest(folder):
    card, manifest = card_of(folder), manifest_of(folder)
    (file,) = manifest.models.values()
    prose = " ".join(card.split())
    assert f"`{file.file}`, {file.bytes:,} bytes" in prose
    assert f"**Time**: {file.milliseconds} ms" in prose
    assert f"`{manifest.recipe['data']['train']}`" in prose
    if exceptions := file.exceptions:
        assert f"{exceptions.entries:,} texts in {exceptions.bytes:,} bytes" in prose
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in card.splitlines()
        if line.startswith("|")
    ]
    _, _, metric, _, other = next(row for row in rows if row[1] == "texts")
    _, texts, first, interval, second = next(row for row in rows if row[0] == "dev")
    assert texts == f"{file.quality['examples']:,}"
    assert first == f"{file.quality[metric.lower()]:.2f}"
    assert second == f"{file.quality[other.lower()]:.2f}"
    low, high = map(float, interval.split(" to "))
    assert low <= float(first) <= high
    parts = {row[0].partition(",")[0] for row in rows if len(row) == 5}
    assert {"dev", "test"} <= parts


@each_model
def test_a_card_shows_answers_that_the_model_gives(folder):
    shown = re.findall(
        r"^\| `(.+)` \| `(.+)` \| (.+) \|$", card_of(folder), re.MULTILINE
    )
    assert len(shown) >= 2
    words = [source for source, _, _ in shown]
    output = run_python(
        ROOT / "cli.py", "translate", "--model", folder.name, "--scores", *words,
        cwd=folder.parent,
    )  # fmt: skip
    for line, (_, answer, where) in zip(output.splitlines(), shown, strict=True):
        score, _, text = line.partition("\t")
        assert text == answer
        assert where in ("from its table", "by the model")
        assert float(score) == 0 or where == "by the model"


def test_the_readme_and_the_guide_list_the_models_in_the_box():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    guide = (ROOT / "docs/embedding.md").read_text(encoding="utf-8")
    names = [folder.name for folder in FOLDERS]
    assert re.findall(r"^\| `([\w-]+)` \|.*MODEL_CARD", readme, re.MULTILINE) == names
    assert re.findall(r"^- `([\w-]+)`: ", guide, re.MULTILINE) == names


def test_the_readme_shows_answers_that_the_model_gives():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    pattern = r"^\$ python cli\.py (translate --model [a-z-]+ .*)\n((?:[^$`].*\n)+)"
    shown = re.findall(pattern, readme, re.MULTILINE)
    assert shown
    for command, output in shown:
        assert run_python(ROOT / "cli.py", *shlex.split(command)) == output


def test_the_example_says_its_words(tmp_path):
    output = run_python(ROOT / "examples/pronounce.py", "phone", "zzyzx", cwd=tmp_path)
    lines = output.splitlines()
    said = [line for line in lines if not line.startswith(" ")]
    assert [line.partition(":")[0] for line in said] == ["phone", "zzyzx"]
    assert all(re.search(r" \((from the table|score -[\d.]+)\)$", one) for one in said)
    # A line per phone.
    phones = [re.sub(r" \(.*", "", line.partition(": ")[2]).split() for line in said]
    shown = [line.split()[0] for line in lines if line.startswith(" ")]
    assert shown == [phone for word in phones for phone in word]


def test_every_file_of_a_model_goes_into_a_wheel():
    options = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = options["tool"]["setuptools"]["package-data"]["pocketseq"]
    package = ROOT / "src/pocketseq"
    packed = {path for pattern in patterns for path in package.glob(pattern)}
    for folder in FOLDERS:
        for path in folder.iterdir():
            assert package / "models" / folder.name / path.name in packed
    assert not any(fnmatch.fnmatch(path.name, "box.toml") for path in packed)


# Refuses whatever `pip install ai-edge-litert numpy` does not bring.
LIGHT = """
import importlib.abc, sys

class Refusal(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        known = top in {"numpy", "ai_edge_litert", "pocketseq"}
        if not known and top not in sys.stdlib_module_names:
            raise ModuleNotFoundError(f"no {name}", name=name)

sys.meta_path.insert(0, Refusal())
import pocketseq

for model in sys.argv[1:]:
    translator = pocketseq.load(model)
    print(translator("phone"), translator.translate(["phone"], n_best=2)[0][1].text)
print("fcntl" in sys.modules)  # which Windows has not
"""


def test_a_file_answers_where_only_the_runtime_and_numpy_are_installed():
    folder = ROOT / "models" / "english-pronunciation"
    models = [folder.name, folder, folder / "model-int8.tflite"]
    done = subprocess.run(
        [sys.executable, "-c", LIGHT, *map(str, models)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["F OW1 N F OW1 N IY0"] * 3 + ["False"], (
        done.stderr
    )
