import json
import logging
import math
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import click.testing
import numpy as np
import pytest
from conftest import backwards

import pocketseq
from pocketseq.cli import main
from pocketseq.pipeline.runs import read_arrays, write_arrays

TINY = [
    "target.tokenizer=word", "source.max_code_points=8", "target.max_code_points=16",
    "model.embedding_size=4", "model.units=4", "model.bidirectional=false",
    "training.updates=4", "training.evaluate_every=2", "training.batch_tokens=100",
    "training.buckets=1",
]  # fmt: skip

COMMANDS = [
    "train", "check", "distill", "evaluate", "compare", "translate", "export",
    "benchmark",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run_command(*arguments, stdin=None):
    """Runs the command line in this process; an unforeseen error is the test's own."""
    # The handler of an earlier command would write to that command's output.
    logging.getLogger("pocketseq").handlers.clear()
    result = click.testing.CliRunner().invoke(
        main, list(map(str, arguments)), input=stdin, catch_exceptions=False
    )
    assert "Traceback" not in result.stderr
    return result


def output_of(*arguments, stdin=None):
    """Standard output of a command that succeeds, as lines."""
    result = run_command(*arguments, stdin=stdin)
    assert result.exit_code == 0, result.stderr
    return result.stdout.splitlines()


def mistake_in(*arguments, stdin=None):
    """The one line that a command with a mistake says."""
    result = run_command(*arguments, stdin=stdin)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.fixture(scope="module")
def model(trained_run):
    return ["--model", trained_run.folder]


@pytest.fixture
def train_file():
    path = Path("train.tsv")
    words = [a + b + c for a in "abc" for b in "def" for c in "abcdef"]
    path.write_text("".join(f"{word}\t{backwards(word)}\n" for word in words))
    return path


def settings(*more):
    return [part for setting in (*TINY, *more) for part in ("--set", setting)]


# Starting.


def test_help_answers_without_importing_what_is_slow():
    code = (
        "import sys, runpy\n"
        "sys.argv = ['cli.py', '--help']\n"
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as error:\n    assert not error.code, error.code\n"
        "slow = {'tensorflow', 'keras', 'numpy', 'rich', 'sacrebleu'}\n"
        "assert not slow & set(sys.modules), slow & set(sys.modules)\n"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root
    )
    assert done.returncode == 0, done.stderr
    for command in COMMANDS:
        assert command in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command):
    assert "Usage:" in "\n".join(output_of(command, "--help"))


# Translating.


def test_arguments_are_translated_to_a_line_each(model):
    found = output_of("translate", *model, "cafe", "ab")
    assert found == [backwards("cafe"), backwards("ab")]


def test_there_is_a_line_for_each_line_of_standard_input_empty_ones_too(model):
    found = output_of("translate", *model, stdin="cafe\n\nab\r\n\nfed")
    expected = [backwards("cafe"), "", backwards("ab"), "", backwards("fed")]
    assert found == expected


def test_no_input_gives_no_output(model):
    assert output_of("translate", *model, stdin="") == []


def test_scores_come_before_the_text(model):
    first, second = output_of("translate", *model, "--scores", "cafe", "")
    score, text = first.split("\t")
    assert text == backwards("cafe")
    assert -0.5 < float(score) < 0
    score, text = second.split("\t")
    assert (float(score), text) == (0, "")


def test_the_alignment_is_a_json_object_a_line(model):
    lines = output_of("translate", *model, "--alignment", "cafe", "\u00e9")
    first, second = map(json.loads, lines)
    assert set(first) == {"text", "translation", "score", "alignment", "tokens"}
    assert first["text"] == "cafe"
    assert first["translation"] == backwards("cafe")
    assert [len(row) for row in first["alignment"]] == [4] * len(backwards("cafe"))
    for row in first["alignment"]:
        assert sum(row) == pytest.approx(1, abs=1e-3)
    assert second["text"] == "\u00e9"
    assert "\u00e9" in lines[1]


def test_the_probabilities_of_tokens_make_up_the_score(model):
    (line,) = output_of("translate", *model, "--alignment", "cafe")
    found = json.loads(line)
    # The last is the end token.
    texts = [token["text"] for token in found["tokens"]]
    assert texts == [*found["translation"].split(), ""]
    logs = [math.log(token["probability"]) for token in found["tokens"]]
    assert sum(logs) / len(logs) == pytest.approx(found["score"], abs=1e-4)


def test_the_n_best_have_their_own_tokens(model):
    arguments = ["--beam", "3", "--n-best", "3", "--alignment", "cafe", "", "fed"]
    lines = list(map(json.loads, output_of("translate", *model, *arguments)))
    assert [line["text"] for line in lines].count("") == 1
    for found in lines:
        texts = [token["text"] for token in found["tokens"] if token["text"]]
        assert " ".join(texts) == found["translation"]


def test_a_text_with_fewer_translations_has_as_many_lines(model):
    arguments = ["--beam", "3", "--n-best", "3"]
    first, *others = output_of("translate", *model, *arguments, "", "cafe")
    assert (first, others[:2]) == ("", ["", ""]) and all(others[2:])
    lines = output_of("translate", *model, *arguments, "--scores", "")
    assert lines == ["0.0000\t", "-inf\t", "-inf\t"]


def test_the_n_best_have_a_line_each_best_first(model):
    arguments = ["--beam", "3", "--n-best", "2", "--scores", "cafe", "xayz"]
    lines = output_of("translate", *model, *arguments)
    scores = [float(line.split("\t")[0]) for line in lines]
    assert len(lines) == 4
    assert scores[0] > scores[1]
    assert scores[2] > scores[3]
    assert lines[0].split("\t")[1] == backwards("cafe")


def test_an_over_long_line_is_cut_and_said_to_be(model):
    result = run_command("translate", *model, "ab" * 20)
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 1
    assert "cut 1 of 1 texts to 16 code points" in result.stderr


def test_the_newest_run_is_the_default_model(trained_run):
    Path("runs").mkdir()
    Path("runs/mine").symlink_to(trained_run.folder)
    assert output_of("translate", "cafe") == [backwards("cafe")]


def test_input_that_is_not_utf_8_is_a_mistake(model):
    assert "expected UTF-8" in mistake_in("translate", *model, stdin=b"a\xff\n")


# Checking a corpus.


@pytest.fixture
def corpora():
    """A training file, and a dev file of which one source is in it."""
    words = ["cafe", "ab", "fed", "bead", "face"] * 20
    lines = [f"{word}{n}\t{backwards(word)}\n" for n, word in enumerate(words)]
    Path("train.tsv").write_text("".join(lines))
    Path("dev.tsv").write_text(lines[0] + "new1\tA0\n")
    Path("clean.tsv").write_text("feda1\tF5\n")


@pytest.mark.usefixtures("corpora")
def test_check_prints_a_table_and_advice():
    lines = output_of("check", "train.tsv", "--dev", "dev.tsv")
    assert lines[0].split() == ["train", "dev"]
    assert lines[1].split() == ["pairs", "100", "2"]
    assert any(line.startswith("WRONG overlap: dev pairs with") for line in lines)
    command = "python cli.py train pronunciation-small --train train.tsv --dev dev.tsv"
    assert f"  {command}" in lines


@pytest.mark.usefixtures("corpora")
def test_check_prints_one_json_object():
    (line,) = output_of("check", "train.tsv", "--dev", "dev.tsv", "--json")
    found = json.loads(line)
    assert found["pairs"] == 100 and found["overlap"] == {"dev": 1, "test": None}
    assert found == pocketseq.check("train.tsv", dev="dev.tsv")


@pytest.mark.usefixtures("corpora")
@pytest.mark.parametrize(
    ("dev", "options", "status"),
    [("dev.tsv", [], 0), ("dev.tsv", ["--strict"], 1), ("clean.tsv", ["--strict"], 0)],
)
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_only_a_strict_check_fails_and_says_as_much(dev, options, status, form):
    result = run_command("check", "train.tsv", "--dev", dev, *options, *form)
    assert result.exit_code == status
    assert result.stdout.splitlines() == output_of(
        "check", "train.tsv", "--dev", dev, *form
    )


@pytest.mark.usefixtures("corpora")
def test_check_takes_several_files_patterns_and_parallel_ones():
    def pairs(*arguments):
        (line,) = output_of("check", *arguments, "--json")
        return json.loads(line)["pairs"]

    assert pairs("train.tsv", "dev.tsv") == 102
    assert pairs("*n.tsv", "cmudict:dev") == 101 + 1629
    for name, column in (("x", 0), ("y", 1)):
        lines = Path("train.tsv").read_text().splitlines()
        texts = [line.split("\t")[column] for line in lines]
        Path(name).write_text("\n".join(texts) + "\n")
    assert pairs("x", "--target", "y") == 100


@pytest.mark.usefixtures("corpora")
def test_mistakes_in_checking_are_one_line(monkeypatch):
    assert "nowhere.tsv: no such file" in mistake_in("check", "nowhere.tsv")
    assert "FILE: the value is empty" in mistake_in("check", "")
    for side in ("dev", "test"):
        line = mistake_in("check", "train.tsv", f"--{side}-target", "dev.tsv")
        assert f"--{side}-target dev.tsv: expected --{side} FILE with it" in line
    line = mistake_in("check", "train.tsv", "dev.tsv", "--target", "dev.tsv")
    assert "--target dev.tsv: expected one FILE with it" in line

    def no_files(package):
        raise metadata.PackageNotFoundError(package)

    # On a machine that has the package, too.
    monkeypatch.setattr("pocketseq.pipeline.data.installed.metadata.files", no_files)
    assert "pip install gruut-lang-lb" in mistake_in("check", "gruut:lb")


def test_check_says_which_lines_are_broken_and_skips_them_on_demand():
    Path("broken.tsv").write_text("a\tX\nb\n")
    result = run_command("check", "broken.tsv")
    assert result.exit_code == 2
    assert "broken.tsv:2: expected two columns" in result.stderr
    (line,) = output_of("check", "broken.tsv", "--skip-bad-lines", "--json")
    assert json.loads(line)["pairs"] == 1


# Evaluating.


@pytest.fixture
def test_file():
    """Four words: one with alternatives, and one that no model gets right."""
    path = Path("test.tsv")
    right = [(word, backwards(word)) for word in ("cafe", "ab", "fed")]
    lines = [*right, ("ab", "X"), ("bb", "A0 X X")]
    path.write_text("".join(f"{source}\t{target}\n" for source, target in lines))
    return path


def test_evaluate_prints_one_json_object(model, test_file):
    (line,) = output_of("evaluate", *model, "--json", test_file)
    result = json.loads(line)
    # "B1 B1" against "A0 X X": three edits; 4 + 2 + 3 + 3 symbols.
    expected = {"examples": 4, "wer": 25.0, "per": 100 * 3 / 12}
    assert {name: result.pop(name) for name in expected} == pytest.approx(expected)
    assert set(result) == {"intervals", "confidence"}
    # Of four outputs 20 % are one: that with the lowest score.
    rejections = result["confidence"]["rejections"]
    assert [one["rejected"] for one in rejections] == [0, 0, 1]


def test_evaluate_prints_a_line_for_each_measure(model, test_file):
    lines = output_of("evaluate", *model, test_file)
    values = dict(line.split()[:2] for line in lines[:3])
    assert values == {"examples": "4", "wer": "25.00", "per": "25.00"}
    assert "(95 %: 0.0 to 75.0)" in lines[1]
    rejecting, calibration = lines[3:6], lines[6:]
    for percent, line in zip((5, 10, 20), rejecting, strict=True):
        assert line.startswith(f"rejecting {percent} % (score below -")
        assert line.endswith(" % of the wrong outputs")
    assert len(calibration) == 1 and "calibration error" in calibration[0]


def test_evaluate_with_a_beam_reads_parallel_files(model, test_file):
    words = ["cafe", "fed"]
    Path("a.src").write_text("".join(f"{word}\n" for word in words))
    Path("a.tgt").write_text("".join(f"{backwards(word)}\n" for word in words))
    arguments = ["--beam", "3", "--json", "a.src", "--target", "a.tgt"]
    (line,) = output_of("evaluate", *model, *arguments)
    found = json.loads(line)
    assert (found["examples"], found["wer"], found["per"]) == (2, 0, 0)
    # Nothing is wrong, so nothing can be caught.
    assert [one["caught"] for one in found["confidence"]["rejections"]] == 3 * [None]


def test_evaluate_writes_what_was_wrong(model, test_file):
    output_of("evaluate", *model, "--errors", "errors.tsv", test_file)
    assert Path("errors.tsv").read_text() == "bb\tB1 B1\tA0 X X\n"


def test_evaluate_skips_broken_lines_on_demand(model, test_file):
    with test_file.open("a") as file:
        file.write("broken\n")
    result = run_command("evaluate", *model, "--skip-bad-lines", "--json", test_file)
    assert json.loads(result.stdout)["examples"] == 4
    assert "skipped 1 broken lines" in result.stderr


def test_evaluate_says_which_lines_are_broken(model, test_file):
    with test_file.open("a") as file:
        file.write("broken\n")
    result = run_command("evaluate", *model, test_file)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "1 broken line " in result.stderr
    assert "test.tsv:6: expected two columns" in result.stderr


def test_a_file_for_errors_that_cannot_be_written_is_a_mistake(model, test_file):
    arguments = ["--errors", "nowhere/errors.tsv", test_file]
    assert "nowhere/errors.tsv" in mistake_in("evaluate", *model, *arguments)


def test_evaluate_writes_a_page(model, test_file):
    output_of("evaluate", *model, test_file, "--report", "page.html")
    page = Path("page.html").read_text(encoding="utf-8")
    # What is wrong, and what it should be; the letters were counted in training.
    assert "<!doctype html>" in page
    assert '<bdi class="text">bb</bdi>' in page
    assert "stands in train.tsv, the training pairs" in page
    output_of("evaluate", *model, test_file, "--report", "page.html")


# Comparing.


@pytest.fixture
def weaker(trained_run, tmp_path):
    """The same run with the weights of its last encoder blurred: some words wrong."""
    folder = tmp_path / "weaker"
    shutil.copytree(trained_run.folder, folder)
    arrays = read_arrays(folder / "best.npz")
    generator = np.random.default_rng(0)
    noisy = {
        name: array + generator.normal(0, 0.12, array.shape).astype(array.dtype)
        for name, array in arrays.items()
    }
    write_arrays(folder / "best.npz", noisy)
    return folder


def test_compare_counts_what_only_one_model_gets_right(
    trained_run, weaker, corpus_folder
):
    dev = corpus_folder / "dev.tsv"
    (line,) = output_of("compare", trained_run.folder, weaker, dev, "--json")
    found = json.loads(line)
    wrong = {}
    for name, folder in (("a", trained_run.folder), ("b", weaker)):
        output_of("evaluate", "--model", folder, dev, "--errors", f"{name}.tsv")
        lines = Path(f"{name}.tsv").read_text().splitlines()
        wrong[name] = {line.split("\t")[0] for line in lines}
    assert wrong["b"] - wrong["a"]
    assert found["only_a_right"] == len(wrong["b"] - wrong["a"])
    assert found["only_b_right"] == len(wrong["a"] - wrong["b"])
    assert found["both_wrong"] == len(wrong["a"] & wrong["b"])
    assert found["examples"] == found["a"]["examples"] == 150
    assert found["a"]["model"] == str(trained_run.folder)
    assert found["a"]["wer"] == pytest.approx(100 * len(wrong["a"]) / 150)
    named = {one["source"] for one in found["differences"]}
    assert named == wrong["a"] ^ wrong["b"]
    assert 0 < found["p_value"] <= 1


def test_compare_shows_tables_and_writes_a_page(trained_run, weaker, test_file):
    models = [trained_run.folder, weaker]
    lines = output_of("compare", *models, test_file, "--report", "page.html")
    text = "\n".join(lines)
    assert lines[0] == f"A  {trained_run.folder}" and "examples of test.tsv" in text
    for title in (
        "B - A",
        "only A right",
        "length of the source",
        "times in train.tsv",
    ):
        assert title in text
    assert "Comparison of two models" in Path("page.html").read_text(encoding="utf-8")


def test_a_model_compared_with_itself_is_the_same(trained_run, test_file):
    folder = trained_run.folder
    lines = output_of("compare", folder, folder, test_file)
    assert "Both have the same WER." in lines
    (line,) = output_of("compare", folder, folder, test_file, "--json")
    found = json.loads(line)
    assert (found["difference"], found["p_value"]) == (0, 1)
    assert found["only_a_right"] == found["only_b_right"] == 0


# Training.


def test_train_makes_a_run_that_can_be_evaluated_and_gone_on_with(train_file):
    command = ["train", "--train", train_file, "--run", "mine", *settings()]
    (line,) = output_of(*command)
    assert line.startswith("mine: best dev wer ")
    assert "of 4," in line
    assert {"config.toml", "best.npz"} <= {path.name for path in Path("mine").iterdir()}
    (line,) = output_of("evaluate", "--model", "mine", "--json", train_file)
    assert json.loads(line)["examples"] == 54
    result = run_command("train", "--run", "mine", "--resume")
    assert result.exit_code == 0
    assert "resumed at update 4" in result.stderr
    before = Path("mine/config.toml").read_text()
    message = mistake_in(*command)
    assert "mine: exists already, expected --resume" in message
    assert Path("mine/config.toml").read_text() == before


def test_a_missing_train_file_is_a_mistake():
    message = mistake_in("train", "--train", "nowhere.tsv", "--run", "r")
    assert "nowhere.tsv: no such file" in message
    assert not Path("r").exists()


def test_a_missing_dev_file_is_a_mistake(train_file):
    arguments = ["--train", train_file, "--dev", "nowhere.tsv", "--run", "r"]
    assert "nowhere.tsv: no such file" in mistake_in("train", *arguments)
    assert not Path("r").exists()


def test_broken_training_lines_are_a_mistake_that_names_the_first_ten():
    Path("bad.tsv").write_text("a\tA\n" + "broken\n" * 12)
    result = run_command("train", "--train", "bad.tsv", "--run", "r")
    assert result.exit_code == 2
    first, *lines = result.stderr.splitlines()
    assert "bad.tsv: 12 broken lines, the first 10 of them" in first
    assert "--skip-bad-lines" in first
    assert [line.split(": ")[0].strip() for line in lines] == [
        f"bad.tsv:{number}" for number in range(2, 12)
    ]
    assert not Path("r").exists()


def test_an_unknown_recipe_is_a_mistake_that_lists_the_known():
    message = mistake_in("train", "nothing")
    assert "nothing: no such recipe" in message
    assert "pronunciation" in message


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("training.update=3", "unknown key training.update, expected one of: "),
        ("training.updates=few", "training.updates: expected a whole number"),
        ("training.updates=0", "training.updates = 0: expected"),
        ("training.updates", "expected section.key=value"),
        ("model.attention=best", "expected cosine, dot, scaled_dot, general"),
    ],
)
def test_a_wrong_setting_is_a_mistake(train_file, setting, expected):
    arguments = ["--train", train_file, "--run", "r", "--set", setting]
    assert expected in mistake_in("train", *arguments)
    assert not Path("r").exists()


def test_a_recipe_file_with_an_unknown_key_is_a_mistake():
    Path("mine.toml").write_text("[model]\nunit = 3\n")
    message = mistake_in("train", "mine.toml")
    assert "mine.toml: unknown key model.unit" in message


def test_a_recipe_without_data_is_a_mistake_that_asks_for_it():
    Path("mine.toml").write_text('name = "mine"\n')
    assert "--train FILE" in mistake_in("train", "mine.toml", "--run", "r")


@pytest.mark.parametrize("side", ["--train", "--dev"])
def test_a_target_file_without_its_source_file_is_a_mistake(side):
    message = mistake_in("train", f"{side}-target", "x.tgt")
    assert f"{side}-target x.tgt: expected {side} FILE" in message


def test_going_on_needs_a_run():
    assert "expected --run DIR" in mistake_in("train", "--resume")
    message = mistake_in("train", "--resume", "--run", "nowhere")
    assert "nowhere: no such folder" in message


def test_going_on_with_other_settings_is_a_mistake(trained_run):
    arguments = ["--resume", "--run", trained_run.folder]
    for more in (["--set", "model.units=4"], ["--train", "x.tsv"], ["other"]):
        assert "keeps its own recipe" in mistake_in("train", *arguments, *more)


def test_going_on_while_skipping_broken_lines_is_a_mistake_too():
    Path("r").mkdir()
    Path("r/config.toml").write_text("")
    arguments = ["--resume", "--run", "r", "--skip-bad-lines"]
    assert "keeps its own recipe" in mistake_in("train", *arguments)


# Exporting.


@pytest.fixture(scope="module")
def saved_model(model, tmp_path_factory):
    """What ``export --saved-model --beam 3`` writes, checked here as it comes."""
    folder = tmp_path_factory.mktemp("saved") / "out"
    arguments = ["--saved-model", "--beam", "3", "--output", folder]
    result = run_command("export", *model, *arguments)
    assert result.exit_code == 0, result.stdout
    assert result.stdout.splitlines()[-1] == f"written to {folder}"
    assert "SavedModel against Keras on 150 dev texts" in result.stdout
    assert "with a beam of 3: 0 differences" in result.stdout
    assert "writing and checking the SavedModel" in result.stderr
    assert {path.name for path in folder.iterdir()} == {
        "saved_model", "manifest.json", "LICENSES.md", "MODEL_CARD.md",
    }  # fmt: skip
    return ["--model", folder / "saved_model"]


@pytest.fixture
def asked(monkeypatch):
    """Collects what export commands ask for, instead of doing it."""
    from pocketseq.export import bundle

    calls = []

    def export_bundle(run, options, *, output, force):
        calls.append((run, options, output, force))
        return bundle.Report(Path(output or "here"), "wer", [], [], [])

    monkeypatch.setattr(bundle, "export_bundle", export_bundle)
    return calls


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], {"recipes": ("int8",), "saved_model": True}),
        (["--tflite"], {"recipes": ("int8",), "saved_model": False}),
        (["--saved-model"], {"recipes": (), "saved_model": True}),
        (["--tflite", "--saved-model"], {"recipes": ("int8",), "saved_model": True}),
        (["--quantize", "int4"], {"recipes": ("int4",), "saved_model": True}),
        (
            ["--tflite", "--quantize", "float16", "--quantize", "float32"],
            {"recipes": ("float16", "float32"), "saved_model": False},
        ),
        ([], {"beam_size": None, "lengths": (), "compatible": False, "max_loss": 0.5}),
        (["--beam", "2", "--compatible"], {"beam_size": 2, "compatible": True}),
        (["--length", "32"], {"lengths": (32,)}),
        (["--length", "32, 8,256"], {"lengths": (32, 8, 256)}),
        (["--max-loss", "0"], {"max_loss": 0.0}),
        ([], {"exceptions": None}),
        (["--exceptions", "names.tsv"], {"exceptions": "names.tsv"}),
        (["--exceptions"], {"exceptions": ""}),  # the training corpus
        (["--exceptions", "--tflite"], {"exceptions": ""}),
        ([], {"apps": ("web", "android", "ios", "c", "python")}),
        (["--apps", "python,c"], {"apps": ("c", "python")}),
        (["--apps", "none"], {"apps": ()}),
    ],
)
def test_options_of_an_export_arrive_where_it_is_made(
    trained_run, model, asked, arguments, expected
):
    assert output_of("export", *model, *arguments)[-1] == "written to here"
    ((run, options, output, force),) = asked
    assert run.folder == trained_run.folder
    assert (output, force) == (None, False)
    assert {name: getattr(options, name) for name in expected} == expected


def test_an_export_goes_where_it_is_told_and_takes_the_newest_run(trained_run, asked):
    Path("runs").mkdir()
    Path("runs/mine").symlink_to(trained_run.folder)
    output_of("export", "--output", "there", "--force")
    ((run, _, output, force),) = asked
    assert (str(run.folder), output, force) == ("runs/mine", "there", True)


def test_an_export_that_fails_says_why_and_has_exit_status_1(model, asked, monkeypatch):
    from pocketseq.export import bundle

    failures = ["int8: loses 3.00 points"]
    failed = bundle.Report(Path("out"), "wer", [], failures, ["note"])
    monkeypatch.setattr(bundle, "export_bundle", lambda *_, **__: failed)
    result = run_command("export", *model)
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-4:] == [
        "note", "", "FAILED int8: loses 3.00 points", "nothing was written",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "length", ["a", "64,", ",64", "64,,32", "0", "64,0", "-1", "1.5", "8,8", "8;9"]
)
def test_lengths_that_are_no_different_whole_numbers_are_a_mistake(model, length):
    message = mistake_in("export", *model, "--length", length)
    expected = "expected different whole numbers above 0, such as 64,256"
    assert f"--length {length}: {expected}" in message


def test_quantizing_without_a_format_that_can_be_is_a_mistake(model):
    arguments = ["--saved-model", "--quantize", "int8"]
    message = mistake_in("export", *model, *arguments)
    assert "--quantize: expected --tflite with it" in message


def test_exceptions_without_a_format_that_has_them_are_a_mistake(model):
    message = mistake_in("export", *model, "--saved-model", "--exceptions")
    assert "--exceptions: expected --tflite with it" in message


def test_exporting_over_something_is_a_mistake(model):
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("mine")
    for arguments, expected in (([], "--force"), (["--force"], "no export is in it")):
        message = mistake_in("export", *model, "--output", "mine", *arguments)
        assert expected in message
    assert Path("mine/thesis.txt").read_text() == "mine"


def test_what_is_no_run_is_not_exported(saved_model):
    assert "expected a run" in mistake_in("export", *saved_model)
    assert "expected a run" in mistake_in("export", "--model", "nowhere")


def test_a_saved_model_translates_as_the_run_does(model, saved_model):
    arguments = ["--scores", "cafe", "", "xa\u00e9", "ab" * 20]
    expected, found = (
        [line.split("\t") for line in output_of("translate", *one, *arguments)]
        for one in (model, saved_model)
    )
    assert [text for _, text in found] == [text for _, text in expected]
    for (score, _), (other, _) in zip(found, expected, strict=True):
        assert float(score) == pytest.approx(float(other), abs=1e-3)


def test_a_saved_model_gives_its_n_best(model, saved_model):
    arguments = ["--beam", "3", "--n-best", "3", "cafe", "xayz"]
    expected = output_of("translate", *model, *arguments)
    assert output_of("translate", *saved_model, *arguments) == expected
    assert len(expected) == 6


def test_a_saved_model_is_evaluated_as_the_run_is(model, saved_model, test_file):
    for more in ([], ["--beam", "3"]):
        expected, found = (
            json.loads(*output_of("evaluate", *one, "--json", test_file, *more))
            for one in (model, saved_model)
        )
        confidences = [one.pop("confidence") for one in (expected, found)]
        assert found == expected
        first, second = (one["calibration_error"] for one in confidences)
        assert first == pytest.approx(second, abs=0.1)  # scores are rounded anew


def test_the_alignment_of_a_saved_model_is_a_mistake(saved_model):
    message = mistake_in("translate", *saved_model, "--alignment", "cafe")
    assert "--alignment: a SavedModel has none, expected" in message


def test_a_beam_that_a_saved_model_does_not_hold_is_a_mistake(saved_model):
    message = mistake_in("translate", *saved_model, "--beam", "2", "cafe")
    assert "this SavedModel holds a beam of 3: expected --beam" in message


def test_a_saved_model_of_other_origin_is_a_mistake():
    Path("other").mkdir()
    Path("other/saved_model.pb").write_bytes(b"")
    message = mistake_in("translate", "--model", "other", "cafe")
    assert "other: no assets.extra/manifest.json in it, expected" in message


# Measuring.


def test_measuring_needs_an_exported_file():
    Path("run").mkdir()
    message = mistake_in("benchmark", "--model", "run")
    assert "run: no .tflite file in it or its export folder, expected" in message
    message = mistake_in("benchmark", "--model", "nowhere")
    assert "nowhere: no such model, expected a .tflite file" in message


# Models.


@pytest.mark.parametrize("command", [["translate", "a"], ["evaluate", "test.tsv"]])
def test_a_missing_model_is_a_mistake(command, test_file):
    name, argument = command
    message = mistake_in(name, "--model", "nowhere", argument)
    expected = "a run folder, a SavedModel folder or a .tflite file"
    assert f"nowhere: no such model, expected {expected}" in message


@pytest.mark.parametrize("command", [["translate", "a"], ["evaluate", "test.tsv"]])
def test_a_text_file_is_no_model(command, test_file):
    name, argument = command
    message = mistake_in(name, "--model", test_file, argument)
    assert "test.tsv: expected a run folder or a .tflite file" in message


def test_a_folder_that_is_no_run_is_no_model():
    assert "expected a run folder" in mistake_in("translate", "--model", ".", "a")


def test_no_model_at_all_is_a_mistake():
    assert "no run found" in mistake_in("translate", "a")


def test_a_damaged_model_is_a_mistake(trained_run):
    Path("damaged").mkdir()
    for name in ("config.toml", "source.json", "target.json", "best.npz"):
        data = (trained_run.folder / name).read_bytes()
        Path("damaged", name).write_bytes(data if name != "best.npz" else data[:999])
    assert "best.npz: damaged" in mistake_in("translate", "--model", "damaged", "a")


def test_more_translations_than_the_beam_holds_are_a_mistake(model):
    message = mistake_in("translate", *model, "--beam", "2", "--n-best", "3", "a")
    assert "--n-best 3: expected at most the beam, 2" in message


def test_a_missing_file_to_evaluate_on_is_a_mistake(model):
    assert "nowhere.tsv: no such file" in mistake_in("evaluate", *model, "nowhere.tsv")


@pytest.mark.parametrize(
    "arguments",
    [
        ["translate", "--beam", "0", "a"],
        ["train", "--minutes", "0"],
        ["export", "--beam", "1"],
        ["export", "--quantize", "int2"],
        ["export", "--max-loss", "-1"],
        ["x"],
    ],
)
def test_an_option_out_of_range_has_exit_status_2(arguments):
    result = run_command(*arguments)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ") and line.endswith(" --help)")
