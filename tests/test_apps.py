"""The wrappers for apps: how they come into a bundle, and the one for Python.

The other ones are compiled and run by ``tests/apps``.
"""

import importlib.util
import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from manifests import OLD_BUNDLE, made_up_manifest

from pocketseq.export.apps import (
    FOLDER,
    PLATFORMS,
    description,
    description_name,
    foreign_files,
    platforms_named,
    write_apps,
)
from pocketseq.export.contract import MANIFEST, ModelFile, tflite_name
from pocketseq.export.folders import refuse_to_destroy
from pocketseq.pipeline.errors import UserError

ROOT = Path(__file__).parents[1]
WRAPPER = ROOT / "apps/python/pocketseq_model.py"
BOX = ROOT / "models/english-pronunciation"

SHA256 = "0123456789abcdef" * 4
FILES = {
    "float32": ModelFile(tflite_name("float32"), 4000, "0" * 64, "2.8.0"),
    "int8": ModelFile(tflite_name("int8"), 7654321, SHA256, "2.17.0"),
}
MADE_UP = made_up_manifest(
    [(64, 128), (256, 384)], beam_size=4, name="my-model 2", models=FILES
)


# What describes a model.


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("english-pronunciation", ("english_pronunciation", "EnglishPronunciation")),
        ("G2P", ("g2p", "G2p")),
        ("2 words", ("my_2_words", "My2Words")),
        ("Änderung", ("nderung", "Nderung")),
        ("עברית", ("my", "My")),
        ("", ("my", "My")),
        ('a"; drop(); // \n', ("a_drop", "ADrop")),
        ("../../etc/passwd", ("etc_passwd", "EtcPasswd")),
        ("int", ("int", "Int")),
        ("a__b--c", ("a_b_c", "ABC")),
        ("{{ 7 * 7 }}", ("my_7_7", "My77")),
    ],
)
def test_any_name_of_a_model_gives_names_for_sources(name, expected):
    snake, pascal = expected
    assert description_name(name, "_model.h") == f"{snake}_model.h"
    assert description_name(name, "Model.kt") == f"{pascal}Model.kt"
    manifest = made_up_manifest(name=name, models=FILES)
    header = description(manifest, "_model.h")
    assert f"#ifndef {snake.upper()}_MODEL_H\n" in header
    assert f"static const pocketseq_description {snake}_model = {{\n" in header
    camel = pascal[0].lower() + pascal[1:]
    assert f"val {camel}Model = ModelDescription(" in description(manifest, "Model.kt")
    swift = description(manifest, "Model.swift")
    assert f"public let {camel}Model = ModelDescription(" in swift


@pytest.mark.parametrize(
    ("template", "signature"),
    [
        ("_model.h", '    {{"{}", {}, {}, {}}},\n'),
        ("Model.kt", '        Signature("{}", {}, {}, {}),\n'),
        (
            "Model.swift",
            '        Signature(\n            name: "{}", sourceLength: {}, '
            "targetLength: {},\n            hypotheses: {}),\n",
        ),
    ],
)
def test_a_description_has_the_file_to_ship_and_every_signature(template, signature):
    text = description(MADE_UP, template)
    for part in ('"model-int8.tflite"', "7654321", f'"{SHA256}"'):
        assert text.count(part) == 1
    expected = [
        ("translate", 64, 128, 1), ("translate_beam", 64, 128, 4),
        ("translate_256", 256, 384, 1), ("translate_beam_256", 256, 384, 4),
    ]  # fmt: skip
    assert "".join(signature.format(*one) for one in expected) in text


def test_without_an_int8_file_the_first_one_is_described():
    manifest = made_up_manifest(models={"float32": FILES["float32"]})
    assert '"model-float32.tflite"' in description(manifest, "_model.h")


# What goes into a bundle.


def test_platforms_are_named_in_any_order_and_none_stands_for_none():
    assert platforms_named("c, web,c") == ("web", "c")
    assert platforms_named(",".join(PLATFORMS)) == tuple(PLATFORMS)
    assert platforms_named("none") == ()
    assert platforms_named("all") == tuple(PLATFORMS)


@pytest.mark.parametrize("names", ["", "windows", "c,", "none,c", "C"])
def test_other_platforms_are_an_error_that_lists_them(names):
    with pytest.raises(UserError, match="none, or some of web, android, ios, c, pyth"):
        platforms_named(names)


def files_in(folder):
    return {
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()
    }


def test_a_bundle_has_the_sources_of_the_platforms_asked_for_and_no_others(tmp_path):
    write_apps(MADE_UP, ("android", "c", "python"), tmp_path)
    assert files_in(tmp_path / FOLDER) == {
        "android/Pocketseq.kt", "android/LiteRtRuntime.kt", "android/MyModel2Model.kt",
        "android/README.md", "c/pocketseq.h", "c/pocketseq.c", "c/my_model_2_model.h",
        "c/example.c",
        "c/README.md", "python/pocketseq_model.py", "python/README.md",
    }  # fmt: skip
    copied = tmp_path / FOLDER / "python/pocketseq_model.py"
    assert copied.read_bytes() == WRAPPER.read_bytes()
    write_apps(MADE_UP, (), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_every_source_is_there_and_goes_into_a_wheel():
    options = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = options["tool"]["setuptools"]["package-data"]["pocketseq"]
    package = ROOT / "src/pocketseq"
    packed = {path for pattern in patterns for path in package.glob(pattern)}
    for name, platform in PLATFORMS.items():
        for source in (*platform.sources, "README.md"):
            assert package / "apps" / name / source in packed
    templates = options["tool"]["setuptools"]["package-data"]["pocketseq.export"]
    assert templates == ["templates/*"]


@pytest.fixture
def written(tmp_path):
    """A bundle with wrappers."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / MANIFEST).write_text(OLD_BUNDLE)
    write_apps(MADE_UP, ("ios", "c"), folder)
    return folder


def test_force_may_replace_the_wrappers_of_another_model(written):
    assert list(foreign_files(written / FOLDER)) == []
    refuse_to_destroy(written, force=True)
    assert list(foreign_files(written / "no such folder")) == []


@pytest.mark.parametrize(
    "mine",
    ["mine.txt", "c/main.c", "c/build/pocketseq.c", "rust/README.md", "c/Pocketseq.kt"],
)
def test_force_destroys_no_file_beside_the_wrappers(written, mine):
    path = written / FOLDER / mine
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    with pytest.raises(UserError, match="no export has written it"):
        refuse_to_destroy(written, force=True)
    assert path.read_text() == "mine"


def test_force_destroys_neither_links_nor_empty_folders(written):
    (written / FOLDER / "c" / "README.md").unlink()
    (written / FOLDER / "web").symlink_to(written)
    (written / FOLDER / "c" / "build").mkdir()
    names = [path.name for path in foreign_files(written / FOLDER)]
    assert names == ["build", "web"]
    shutil.rmtree(written / FOLDER)
    (written / FOLDER).symlink_to(written.parent)
    assert list(foreign_files(written / FOLDER)) == [written / FOLDER]


# The wrapper for Python.

# Answers golden lines; its arguments: a folder for sys.path, a bundle.
ANSWERED = """
import json, pathlib, sys
sys.path[:0] = ["", sys.argv[1]]
from pocketseq_model import Model
model = Model(sys.argv[2])
def lines(name):
    text = pathlib.Path(sys.argv[2], name).read_text("utf-8")
    return [json.loads(line) for line in text.split("\\n") if line]
print(json.dumps([
    [model(line["text"]) for line in lines("golden.jsonl")],
    [[one.text for one in model.best(line["text"])] for line in
     lines("golden_beam.jsonl")],
]))
"""


def golden(name, key):
    text = (BOX / name).read_text(encoding="utf-8")
    return [json.loads(line)[key] for line in text.split("\n") if line]


def test_python_answers_golden_lines_where_only_the_runtime_is_installed(
    bare_environment, tmp_path
):
    shutil.copy(WRAPPER, tmp_path)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", ANSWERED, bare_environment, BOX],
        cwd=tmp_path, check=True, stdout=subprocess.PIPE, encoding="utf-8",
    )  # fmt: skip
    greedy, beams = json.loads(done.stdout)
    assert greedy == golden("golden.jsonl", "translation")
    assert beams == golden("golden_beam.jsonl", "translations")


@pytest.fixture(scope="module")
def wrapper():
    spec = importlib.util.spec_from_file_location("pocketseq_model", WRAPPER)
    assert spec and spec.loader
    sys.modules["pocketseq_model"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["pocketseq_model"]


@pytest.fixture(scope="module")
def model(wrapper):
    dictionary = {"e\u0301": "A B", "abc " * 40: "long", "phone": "N OW F"}
    return wrapper.Model(BOX, dictionary=dictionary)


def test_an_answer_comes_with_its_score_and_an_alignment_of_its_own(model):
    found = model.translate("pocket\0et")
    assert (found.text, found.source) == ("P AA1 K AH0 T", "pocket")
    assert found.alignment.shape == (len(found.text), 6)
    np.testing.assert_allclose(found.alignment.sum(1), 1, atol=1e-3)
    assert model.translate("pocket") is found  # from memory
    # It is remembered: nobody may change it, and it keeps no more than itself.
    assert not found.alignment.flags.writeable and found.alignment.base is None
    assert model.has_beam and len(model.best("zzyzxed")) == 4
    assert [one.text for one in model.best("")] == [""]


def test_an_apps_own_answers_come_first(model):
    found = model.translate("\u00e9")
    assert (found.text, found.score, found.source) == ("A B", 0, "\u00e9")
    np.testing.assert_allclose(found.alignment, np.ones((3, 1)))
    assert model("abc " * 40) == "long"  # before it is cut
    assert [one.text for one in model.best("phone")] == ["N OW F"]


def test_long_texts_are_cut_at_whitespace_and_broken_ones_are_read(model):
    source = "abcdefgh " * 7 + "i"
    assert model.translate(source).source == source
    assert model.translate(source + "j").source == source[:62]
    assert model.translate("a" * 70).source == "a" * 64
    assert model.translate(" " + "a" * 70).source == " " + "a" * 63
    assert model.translate(" " * 70).source == " " * 64
    assert model.translate("a\ud800").source == "a\ufffd"


def damaged(folder, **files):
    shutil.copytree(BOX, folder)
    for name, content in files.items():
        (folder / name.replace("__", "-").replace("_", ".")).write_bytes(content)
    return folder


def test_what_cannot_be_opened_is_named_in_one_line(wrapper, tmp_path):
    whole = (BOX / "model-int8.tflite").read_bytes()
    mistakes = {
        "manifest.json: expected the manifest of an export": tmp_path,
        "damaged, or of another export: 3 bytes, expected 1,6": damaged(
            tmp_path / "short", model__int8_tflite=b"abc"
        ),
        "with the SHA-256 in manifest.json": damaged(
            tmp_path / "other", model__int8_tflite=whole[:-1] + b"?"
        ),
        "manifest.json: expected": damaged(tmp_path / "list", manifest_json=b"[]"),
    }
    for message, folder in mistakes.items():
        with pytest.raises(wrapper.ModelError, match=message) as raised:
            wrapper.Model(folder)
        assert "\n" not in str(raised.value)
    with pytest.raises(wrapper.ModelError, match="no int4, expected one of int8"):
        wrapper.Model(BOX, "int4")
    (tmp_path / "short" / "model-int8.tflite").unlink()
    with pytest.raises(wrapper.ModelError, match="cannot be read: No such file"):
        wrapper.Model(tmp_path / "short")


def test_a_file_without_a_beam_says_how_it_gets_one(wrapper):
    greedy = wrapper.Model(ROOT / "models/italian-pronunciation")
    assert not greedy.has_beam
    with pytest.raises(wrapper.ModelError, match="expected an export with --beam"):
        greedy.best("ciao")
