"""The README of a bundle: what it says, and its Python lines in a bare environment.

The lines of other languages are run by ``tests/apps/platforms.py``.
"""

import json
import subprocess
import sys

import pytest
from conftest import backwards
from manifests import made_up_manifest
from readme_lines import lines_of

from pocketseq.export.contract import (
    GOLDEN_BEAM,
    README,
    TRANSLATE_BEAM,
    ModelFile,
    Side,
    tflite_name,
)
from pocketseq.export.readme import bundle_readme, choose_example
from pocketseq.pipeline.text.normalization import Normalization

# Runs lines, then translates a JSON list of texts with what they have defined.
PASTED = """
import io, json, sys
sys.path.append(sys.argv[1])
exec(open(sys.argv[2], encoding="utf-8").read())
print(json.dumps([translate(text) for text in json.load(open(sys.argv[3]))]))
"""


@pytest.fixture(scope="module")
def readme(full_bundle):
    return (full_bundle / README).read_text(encoding="utf-8")


def test_the_python_lines_run_where_only_the_runtime_is_installed(
    full_bundle, readme, bare_environment, tmp_path
):
    (tmp_path / "lines.py").write_text(lines_of(readme)["python"], encoding="utf-8")
    text = (full_bundle / "golden.jsonl").read_text(encoding="utf-8")
    golden = [json.loads(line) for line in text.split("\n") if line]
    texts = [line["text"] for line in golden] + ["caf\u00e9", "cafe\u0301", "ab" * 20]
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    # -I and -S: neither this project nor its environment can be imported.
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", PASTED, bare_environment,
         tmp_path / "lines.py", tmp_path / "texts.json"],
        cwd=full_bundle, check=True, stdout=subprocess.PIPE, encoding="utf-8",
    )  # fmt: skip
    shown, answers = done.stdout.splitlines()
    assert shown == backwards(example_of(readme)[0])
    *answers, composed, decomposed, cut = json.loads(answers)
    assert answers == [line["translation"] for line in golden]
    assert composed == decomposed
    assert cut.count(" ") <= 15


def example_of(readme):
    """The text and the translation in the first sentence."""
    return readme.split("`")[1:4:2]


def test_the_example_is_one_that_the_model_gets_right(readme):
    text, translation = example_of(readme)
    assert translation == backwards(text)
    # It stands beside the lines of every language that has a string for it.
    for language in ("python", "kotlin", "swift", "js"):
        assert text in lines_of(readme)[language]
        assert translation in lines_of(readme)[language]


def test_nothing_is_left_of_the_template(readme):
    assert "${" not in readme and "$$" not in readme


def test_the_characters_are_those_of_the_training_text(readme):
    assert "**Characters it knows:** `a`–`f`." in readme


def golden(*pairs):
    return [
        json.dumps({"text": text, "translation": translation, "score": score})
        for text, translation, score in pairs
    ]


def test_a_right_example_is_chosen_before_a_shorter_or_surer_one():
    lines = golden(("abcde", "wrong", -0.01), ("abcdefgh", "right", -0.5))
    assert choose_example(lines, {"abcdefgh": ["right"]}) == ("abcdefgh", "right")


def test_of_right_examples_one_of_about_five_letters_and_the_surest_is_chosen():
    lines = golden(("a", "x", 0), ("bcdef", "y", -0.3), ("ghijk", "z", -0.1))
    references = {"a": ["x"], "bcdef": ["y"], "ghijk": ["z"]}
    assert choose_example(lines, references) == ("ghijk", "z")


@pytest.mark.parametrize("text", ['a"b', "a\\b", "a$b", "a`b", "a\nb", "a\u200bb", ""])
def test_no_example_breaks_a_string_literal(text):
    lines = golden((text, "x", 0), ("long enough", "y", -1))
    assert choose_example(lines, {text: ["x"]}) == ("long enough", "y")


def test_without_a_line_that_can_be_shown_the_example_is_empty():
    assert choose_example(golden(("", "", 0)), {}) == ("", "")


def made_up(*, alphabet="ab", runtimes=None, **changes):
    """A README for a made-up manifest."""
    runtimes = runtimes or {"float32": "2.8.0", "int8": "2.17.0"}
    models = {
        name: ModelFile(tflite_name(name), 1234567, "", runtime)
        for name, runtime in runtimes.items()
    }
    manifest = made_up_manifest([(64, 128)], models=models, **changes)
    return bundle_readme(
        manifest,
        descriptions=dict.fromkeys(runtimes, "A sentence."),
        alphabet=alphabet,
        example=("text", "answer"),
        compatible_runtime="2.14.0",
    )


def flat(readme):
    return " ".join(readme.split())


def test_a_file_that_needs_a_newer_runtime_has_the_remedy_beside_it():
    readme = made_up()
    assert "| `model-int8.tflite` | 1,234,567 | 2.17.0 | A sentence. |" in readme
    assert (
        "For an older runtime than `model-int8.tflite` asks for, export with "
        "`--compatible`: such files run from 2.14.0 on."
    ) in flat(readme)


def test_files_for_old_runtimes_need_no_remedy():
    assert "--compatible" not in made_up(runtimes={"int8": "2.14.0"})


def test_the_lines_open_the_file_that_an_app_would_ship():
    assert 'Interpreter("model-int8.tflite")' in made_up()
    assert 'Interpreter("model-int4.tflite")' in made_up(runtimes={"int4": "2.14.0"})


def test_neighbours_in_the_alphabet_are_a_range_and_the_invisible_has_a_number():
    readme = made_up(alphabet="abcxy -\u0301`")
    listed = "space `-` `U+0060`–`c` `x` `y` `U+0301`."
    assert f"**Characters it knows:** {listed}" in flat(readme)


def test_a_large_alphabet_is_cut_short():
    alphabet = [chr(code) for code in range(0x4E00, 0x4E00 + 200, 2)]
    assert "and 60 more." in flat(made_up(alphabet=alphabet))


def test_normalisation_is_told_in_words():
    source = Side("word", Normalization(fold_case=True, decompose=True), 64)
    readme = flat(made_up(source=source))
    assert "Upper and lower case are the same to it." in readme
    assert "takes letters with accents apart" in readme
    assert "It reads words" in readme


def test_beam_signatures_come_with_how_to_call_them_and_with_their_golden_lines():
    readme = flat(made_up(beam_size=4))
    assert f'get_signature_runner("{TRANSLATE_BEAM}")' in readme
    assert f"`{GOLDEN_BEAM}`" in readme
    assert f"`{GOLDEN_BEAM}`" not in made_up()
    assert "called by name" not in made_up()


def test_every_language_normalises():
    lines = lines_of(made_up())
    signs = {
        "python": 'normalize("NFC"', "kotlin": "Normalizer.Form.NFC",
        "swift": "precomposedStringWithCanonicalMapping", "js": "normalize('NFC')",
        "c": "utf8proc_NFC(",
    }  # fmt: skip
    for language, sign in signs.items():
        assert sign in lines[language]


def test_the_readme_is_written_without_tensorflow():
    code = "import sys, pocketseq.export.readme; print('tensorflow' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True
    )
    assert done.stdout.strip() == "False"
