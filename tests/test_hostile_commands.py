"""Command lines that nobody should type, and machines that nobody should have.

Each ends with one line and exit status 2, and touches nothing. Most run in this
process; what belongs to a process, such as signals and closed pipes, has a real one.
"""

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import backwards
from manifests import OLD_BUNDLE
from test_cli import mistake_in, output_of, run_command

import pocketseq
from pocketseq.export import bundle
from pocketseq.export.bundle import Options, Report, export_bundle
from pocketseq.export.contract import LICENSES, MANIFEST, SAVED_MODEL, tflite_name
from pocketseq.pipeline.runs import Run, read_arrays, write_arrays

CLI = Path(__file__).parents[1] / "cli.py"

LONG = 300 * "x"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["cafe", "ab", "fed"]
    lines = [f"{word}\t{backwards(word)}\n" for word in words]
    Path("pairs.tsv").write_text("".join(lines))
    Path("words.txt").write_text("".join(f"{word}\n" for word in words))
    Path("deep.toml").write_text("name = " + 10**5 * "[")
    Path("broken.toml").write_text("name")


@pytest.fixture
def copied_run(trained_run):
    shutil.copytree(trained_run.folder, "run")
    return Run(Path("run"))


# Words of a command, and what its line says; {run} is a trained run.
MISTAKES = [
    # Empty values, as of a variable that is not set.
    (["train", "--train", ""], "--train: the value is empty, expected FILE"),
    (["train", "--dev", ""], "--dev: the value is empty"),
    (["train", "--train-target", ""], "--train-target: the value is empty"),
    (["train", "--dev-target", ""], "--dev-target: the value is empty"),
    (["train", "--run", ""], "--run: the value is empty"),
    (["train", "--from", ""], "--from: the value is empty"),
    (["train", "--set", ""], "--set: the value is empty"),
    (["train", "--set", "name=a", "--set", ""], "--set: the value is empty"),
    (["train", ""], "RECIPE: the value is empty"),
    (["translate", "--model", "", "cafe"], "--model: the value is empty"),
    (["evaluate", "--model", "", "pairs.tsv"], "--model: the value is empty"),
    (["evaluate", ""], "FILE: the value is empty"),
    (["evaluate", "--target", "", "pairs.tsv"], "--target: the value is empty"),
    (["evaluate", "--errors", "", "pairs.tsv"], "--errors: the value is empty"),
    (["evaluate", "--report", "", "pairs.tsv"], "--report: the value is empty"),
    (["evaluate", "--alignments", ""], "--alignments: the value is empty"),
    (["compare", "", "{run}", "pairs.tsv"], "A: the value is empty"),
    (["compare", "{run}", "", "pairs.tsv"], "B: the value is empty"),
    (["compare", "{run}", "{run}", ""], "FILE: the value is empty"),
    (["export", "--model", ""], "--model: the value is empty"),
    (["export", "--output", ""], "--output: the value is empty"),
    (["export", "--length", ""], "--length: the value is empty"),
    (["export", "--exceptions", ""], "--exceptions: the value is empty"),
    # An earlier export that is to be replaced is still there.
    (
        ["export", "--model", "{run}", "--force", "--exceptions", "no.tsv"],
        "no.tsv: no such file",
    ),
    (["benchmark", "--model", ""], "--model: the value is empty"),
    (["lexicon", "--tokens", "", "pairs.tsv"], "--tokens: the value is empty"),
    (["lexicon", "--model", "{run}", "no.txt"], "no.txt: cannot be read: No such file"),
    (
        ["lexicon", "--model", "{run}", "--dictionary", "no.tsv", "pairs.tsv"],
        "no.tsv: no such file",
    ),
    # Names that no file can have.
    (["train", LONG], f"{LONG}: no such recipe"),
    (["train", f"{LONG}.toml"], "File name too long"),
    (["train", "--train", LONG], "File name too long"),
    (["train", "--run", LONG, "--resume"], "File name too long"),
    (["train", "--from", LONG], "File name too long"),
    (["translate", "--model", LONG, "a"], "File name too long"),
    (["evaluate", "--model", "{run}", LONG], "File name too long"),
    (["evaluate", "--model", "{run}", "pairs.tsv", "--errors", LONG], "too long"),
    (["evaluate", "--model", "{run}", "words.txt", "--target", LONG], "too long"),
    (["evaluate", "--model", "{run}", "pairs.tsv", "--report", LONG], "too long"),
    (["compare", "{run}", LONG, "pairs.tsv"], "File name too long"),
    (["export", "--model", "{run}", "--output", LONG], "File name too long"),
    (["benchmark", "--model", LONG], "File name too long"),
    (["translate", "--model", "{run}", "caf\udce9"], r"TEXT 'caf\udce9': expected UTF"),
    (["translate", "--model", "\udce9", "a"], r"--model '\udce9': expected UTF-8"),
    # Files that are folders, and folders that are files.
    (["train", "--train", "."], ".: no such file"),
    (["train", "broken.toml"], "broken.toml: not valid TOML"),
    (["train", "deep.toml"], "deep.toml: not valid TOML: nested too deeply"),
    (["evaluate", "--model", "{run}", "pairs.tsv", "--errors", "."], "Is a directory"),
    (["evaluate", "--model", "{run}", "pairs.tsv", "--report", "."], "not a page"),
    (["evaluate", "--model", "{run}", "pairs.tsv", "--report", "no/a"], "no folder no"),
    (["compare", "{run}", ".", "pairs.tsv"], ".: no config.toml in it"),
    (["export", "--model", "{run}", "--output", "pairs.tsv/x"], "Not a directory"),
    (["export", "--model", "{run}", "--output", "pairs.tsv", "--force"], "no export"),
    # Values outside of all bounds.
    (["train", "--set", "training.seed=18446744073709551616"], "training.seed = 184"),
    (["train", "--set", "target.max_code_points=100000000"], "from 1 up to 4096"),
    (["train", "--set", "training.learning_rate=nan"], "training.learning_rate = nan"),
    (["train", "--set", "training.learning_rate=inf"], "training.learning_rate = inf"),
    (["train", "--set", "model.units=" + 4000 * "9"], "model.units = 999"),
    (["train", "--set", "data.dev_share=" + 4000 * "9"], "data.dev_share = inf"),
    (["train", "--set", "name=" + 10**5 * "["], "nested too deeply"),
    (["train", "--set", "name=../../x", "--train", "pairs.tsv"], "plain name"),
    (["train", "--set", "base=x"], "--set base=x: expected --from RUN"),
    # Recipes by a way around.
    (["train", "../recipes/pronunciation"], "../recipes/pronunciation: no such recipe"),
    (["train", "./pronunciation"], "./pronunciation: no such recipe"),
    # What would be ignored.
    (["train", "pronunciation", "--run", "{run}", "--resume"], "keeps its own recipe"),
    (["train", "--from", "{run}", "--set", "model.units=8"], "was trained with 48"),
    (["train", "--from", "{run}", "--set", "source.fold_case=true"], "source.fold_cas"),
    (["train", "--from", "{run}", "--set", "target.tokenizer=character"], "'word'"),
    # Teachers that cannot teach.
    (["distill"], "no teachers: expected run folders"),
    (["distill", "nowhere"], "nowhere: no such folder, expected a run"),
    (["distill", "{run}", "--run", "{run}"], "exists already"),
    (["distill", "{run}", "--run", "new", "--words", "none.txt"], "none.txt: cannot"),
    (["distill", "{run}", "--run", "new", "--words", "wordfreq:xx"], "wordfreq:xx: "),
    (["distill", "{run}", "--run", "{run}", "--resume"], "keeps its own teachers"),
    (["distill", "{run}", "--set", "distillation.teachers=1"], "expected a list of te"),
    # What would be lost.
    (["evaluate", "--model", "{run}", "pairs.tsv", "--errors", "pairs.tsv"], "overwr"),
    (["evaluate", "--model", "{run}", "pairs.tsv", "--errors", "./pairs.tsv"], "overw"),
    (["evaluate", "--model", "{run}", "pair*.tsv", "--errors", "pairs.tsv"], "overwri"),
    (["evaluate", "--model", "{run}", "words.txt", "--target", "words.txt",
      "--errors", "words.txt"], "would overwrite words.txt"),
    (["evaluate", "--model", "{run}", "pairs.tsv", "--errors", "{run}/best.npz"],
     "best.npz, expected another file"),
    (["evaluate", "--model", "{run}", "pairs.tsv", "--report", "pairs.tsv"],
     "--report pairs.tsv: would overwrite pairs.tsv"),
    (["evaluate", "--model", "{run}", "pairs.tsv", "--report", "words.txt"],
     "words.txt: exists already and is not a page"),
    (["evaluate", "--model", "{run}", "pairs.tsv", "--report", "a", "--errors", "./a"],
     "expected two different files"),
    (["compare", "{run}", "{run}", "pairs.tsv", "--report", "{run}/source.json"],
     "source.json, expected another file"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "expected"), MISTAKES)
def test_a_mistake_is_one_line_and_touches_nothing(trained_run, words, expected):
    words = [word.replace("{run}", str(trained_run.folder)) for word in words]
    before = contents(Path.cwd()) | contents(trained_run.folder)
    message = mistake_in(*words)
    assert expected in message
    assert contents(Path.cwd()) | contents(trained_run.folder) == before


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_errors_do_not_overwrite_the_corpus_under_another_name(trained_run, link):
    link(Path("other.tsv"), Path("pairs.tsv"))
    arguments = ["--model", trained_run.folder, "pairs.tsv", "--errors", "other.tsv"]
    assert "would overwrite pairs.tsv" in mistake_in("evaluate", *arguments)


@pytest.mark.parametrize("value", ["nan", "inf"])
@pytest.mark.parametrize("option", [["train", "--minutes"], ["export", "--max-loss"]])
def test_a_number_that_is_none_is_out_of_range(option, value):
    result = run_command(*option, value)
    assert result.exit_code == 2
    assert f"{value} is not a finite number" in result.stderr


# Damaged and foreign files of a run.

DAMAGED = {
    "config.toml": [b"", b"name = ", b"\xff", b"[data]\n", b"name = " + 10**5 * b"["],
    "source.json": [b"", b"{", b"[]", b"null", b"\xff", b"{}", 10**5 * b"["],
    "target.json": [b"", b'{"tokenizer": "word"}', b"5", b'"x"'],
    "best.npz": [b"", b"PK", b"\x93NUMPY"],
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_of_a_run_is_named(copied_run, name):
    path = copied_run.folder / name
    for data in DAMAGED[name]:
        path.write_bytes(data)
        assert f"{path}: " in mistake_in("translate", "--model", "run", "cafe")
    path.unlink()
    path.mkdir()
    assert str(copied_run.folder) in mistake_in("translate", "--model", "run", "cafe")


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"[]", b"null", b"\xff", b'{"pairs": 3}',
        b'{"pairs": 3, "buckets": []}', b'{"pairs": 3, "buckets": [[1, 2]]}',
        b'{"pairs": 3, "buckets": [[1, 2, 0]]}', 10**5 * b"[",
        b'{"pairs": "x", "buckets": [[1, 2, 3]]}',
    ],
)  # fmt: skip
def test_damaged_shapes_are_named(copied_run, data):
    copied_run.shapes_path.write_bytes(data)
    message = mistake_in("train", "--run", "run", "--resume", "--quiet")
    assert "run/shapes.json: damaged" in message


def test_damaged_metrics_are_removed_with_a_count(copied_run, caplog):
    whole = copied_run.metrics_path.read_bytes()
    junk = b'\xff\n5\nnull\n{"update": "x"}\n{}\n[[[\n' + 10**5 * b"[" + b"\n"
    copied_run.metrics_path.write_bytes(junk + whole)
    copied_run.cut_metrics(10**6)
    assert copied_run.metrics_path.read_bytes() == whole
    assert "run/metrics.jsonl: removed 7 damaged lines" in caplog.text


def foreign_weights(arrays, kind):
    """Returns weights as another model, or another program, would have them."""
    first, *_ = arrays
    if kind == "names":
        return {f"other/{name}": value for name, value in arrays.items()}
    if kind == "shapes":
        return {**arrays, first: np.zeros((3, 3), np.float32)}
    if kind == "texts":
        return {**arrays, first: np.full(arrays[first].shape, "x")}
    return {}


@pytest.mark.parametrize("kind", ["names", "shapes", "texts", "nothing"])
def test_weights_of_another_model_are_a_mistake(copied_run, kind):
    path = copied_run.best_path
    write_arrays(path, foreign_weights(read_arrays(path), kind))
    message = mistake_in("translate", "--model", "run", "cafe")
    assert "run/best.npz: belongs to another model, expected " in message


def test_fine_tuning_from_weights_of_another_model_is_a_mistake(copied_run):
    path = copied_run.best_path
    write_arrays(path, foreign_weights(read_arrays(path), "shapes"))
    Path("dev.tsv").write_text(f"dab\t{backwards('dab')}\n")
    arguments = ["--from", "run", "--train", "pairs.tsv", "--dev", "dev.tsv"]
    message = mistake_in("train", *arguments, "--run", "new", "--quiet")
    assert "initial.npz: belongs to another model" in message


def test_an_array_file_of_another_program_is_a_mistake(copied_run):
    packed = io.BytesIO()
    np.savez(packed, a=np.zeros(3))
    copied_run.best_path.write_bytes(packed.getvalue())
    message = mistake_in("translate", "--model", "run", "cafe")
    assert "run/best.npz: damaged" in message


# Standard input and output.


def test_a_byte_order_mark_on_standard_input_is_no_text(trained_run):
    data = b"\xef\xbb\xbfcafe\r\nab\n"
    found = output_of("translate", "--model", trained_run.folder, stdin=data)
    assert found == [backwards("cafe"), backwards("ab")]


def test_a_line_that_is_not_utf_8_is_named(trained_run):
    data = b"cafe\nab\ncaf\xe9\n"
    message = mistake_in("translate", "--model", trained_run.folder, stdin=data)
    assert "standard input, line 3: expected UTF-8" in message


# An export under way, without TensorFlow.

OLD = json.loads(OLD_BUNDLE)


def fake_bundle(run, options, folder):
    """Writes a bundle of two files."""
    (folder / MANIFEST).write_text(json.dumps({**OLD, "new": True}))
    (folder / LICENSES).write_text("new")
    return Report(folder, "wer", (), (), ())


@pytest.fixture
def export(trained_run, monkeypatch):
    """Returns a function that exports to a folder with --force."""
    monkeypatch.setattr(bundle, "write_bundle", fake_bundle)

    def export(folder):
        return export_bundle(
            trained_run, Options(recipes=()), output=folder, force=True
        )

    return export


def old_export(folder):
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_text(OLD_BUNDLE)
    (folder / tflite_name("int4")).write_text("old")
    (folder / SAVED_MODEL).mkdir()
    (folder / SAVED_MODEL / "saved_model.pb").write_text("old")
    return folder


def assert_new(folder):
    names = sorted(path.name for path in folder.iterdir())
    assert names == [LICENSES, MANIFEST]
    assert json.loads((folder / MANIFEST).read_text())["new"]


def assert_old(folder):
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) == [
        MANIFEST, tflite_name("int4"), SAVED_MODEL, f"{SAVED_MODEL}/saved_model.pb",
    ]  # fmt: skip
    assert (folder / MANIFEST).read_text() == OLD_BUNDLE


@pytest.mark.parametrize(
    "manifest",
    [
        '{"name": "My App", "start_url": "/", "icons": []}', "{}", "[]", "", "\x00",
        json.dumps({**OLD, "format": 2}), '{"format": 1}', "[" * 10**5,
        json.dumps({**OLD, "signatures": []}),
    ],
)  # fmt: skip
def test_a_web_app_is_no_export(trained_run, manifest):
    Path("app").mkdir()
    Path("app/manifest.json").write_text(manifest)
    arguments = ["--model", trained_run.folder, "--output", "app", "--force"]
    assert "app: no export is in it" in mistake_in("export", *arguments)
    assert Path("app/manifest.json").read_text() == manifest


def test_a_file_that_no_export_has_written_is_named_and_kept(trained_run):
    folder = old_export(Path("out"))
    (folder / "thesis.txt").write_text("mine")
    arguments = ["--model", trained_run.folder, "--output", "out", "--force"]
    message = mistake_in("export", *arguments)
    assert "out/thesis.txt: no export has written it" in message
    assert (folder / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("state", ["old", "empty", "absent"])
def test_a_link_as_output_stays_and_leads_to_the_new_export(export, state):
    target, link = Path("there/real").absolute(), Path("link")
    if state == "old":
        old_export(target)
    elif state == "empty":
        target.mkdir(parents=True)
    link.symlink_to(target)
    assert export(link).folder == link
    assert link.is_symlink()
    assert link.readlink() == target
    assert_new(target)
    assert os.listdir("there") == ["real"]


def test_a_mount_point_keeps_its_folder(export, monkeypatch):
    folder = old_export(Path("volume"))
    (folder / ".export-killed").mkdir()
    (folder / "lost+found").mkdir()
    number = folder.stat().st_ino
    monkeypatch.setattr("os.path.ismount", lambda path: Path(path).name == "volume")
    made = []

    def looked_at(run, options, bundle_folder):
        made.append(len(list(folder.glob(".export-*"))) == 2)
        return fake_bundle(run, options, bundle_folder)

    monkeypatch.setattr(bundle, "write_bundle", looked_at)
    export(folder)
    assert made == [True]  # it worked inside, where all is one file system
    shutil.rmtree(folder / ".export-killed")
    (folder / "lost+found").rmdir()
    assert_new(folder)
    assert folder.stat().st_ino == number


@pytest.mark.parametrize("number", ["EBUSY", "EXDEV"])
def test_a_folder_that_cannot_be_renamed_gets_new_contents(export, monkeypatch, number):
    folder = old_export(Path("bound"))
    refuse_to_rename(monkeypatch, folder.absolute(), getattr(errno, number))
    export(folder)
    assert_new(folder)
    assert [path.name for path in Path().glob(".export-*")] == []


def refuse_to_rename(monkeypatch, path, number):
    original = Path.rename

    def rename(self, target):
        if path in (self, Path(target)):
            raise OSError(number, os.strerror(number), str(self))
        return original(self, target)

    monkeypatch.setattr(Path, "rename", rename)


@pytest.mark.parametrize("mounted", [False, True])
def test_what_fails_half_way_leaves_the_old_export(export, monkeypatch, mounted):
    folder = old_export(Path("out").absolute())
    if mounted:
        monkeypatch.setattr("os.path.ismount", lambda path: Path(path) == folder)
    original = Path.rename
    renamed: list[Path] = []

    def rename(self, target):
        if self.parent.name == "bundle" or self.name == "bundle":
            if renamed or not mounted:  # the second of the new files
                raise OSError(errno.ENOSPC, "No space left on device", str(self))
            renamed.append(self)
        return original(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(OSError, match="No space left"):
        export(folder)
    monkeypatch.undo()
    assert_old(folder)
    assert [path.name for path in folder.parent.glob(".export-*")] == []


def test_a_full_disk_under_an_export_is_one_line(trained_run, monkeypatch):
    def full(run, options, folder):
        raise OSError(28, "No space left on device", str(folder / "a"))

    monkeypatch.setattr(bundle, "write_bundle", full)
    arguments = ["--model", trained_run.folder, "--saved-model", "--output", "out"]
    assert "No space left on device" in mistake_in("export", *arguments)
    assert not Path("out").exists()
    assert list(Path().glob(".export-*")) == []


# Faults of ours.


@pytest.mark.parametrize(
    "fault", [ValueError("x"), OSError("no number"), io.UnsupportedOperation("x")]
)
def test_a_fault_of_ours_keeps_its_traceback(trained_run, monkeypatch, fault):
    def translate(*_, **__):
        raise fault

    monkeypatch.setattr(pocketseq, "load", translate)
    with pytest.raises(type(fault)):
        run_command("translate", "cafe")


# Real processes.


def process(*words, **options):
    environment = {**os.environ, **options.pop("environment", {})}
    return subprocess.Popen(
        [sys.executable, CLI, *map(str, words)],
        stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        **{"stdout": subprocess.PIPE, **options},
    )  # fmt: skip


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["--version"]])
def test_a_full_disk_under_standard_output_is_one_line(words):
    with open("/dev/full", "w") as full:
        _, line = process(*words, stdout=full).communicate(timeout=60)
    assert line == "error: No space left on device\n"


@pytest.fixture(scope="module")
def fast_model(full_bundle):
    """A .tflite file, for processes without TensorFlow."""
    return full_bundle / "model-float32.tflite"


@pytest.mark.parametrize("lines", [1, 5000])
def test_translations_that_cannot_be_written_end_in_one_line(fast_model, lines):
    with open("/dev/full", "w") as full:
        child = process("translate", "--model", fast_model, "--alignment", stdout=full)
        _, errors = child.communicate("cafe\n" * lines, timeout=60)
    assert child.returncode == 2
    assert errors.splitlines()[-1] == (
        "error: standard output: No space left on device"
    )
    assert "Exception" not in errors


def test_a_closed_pipe_ends_the_command_quietly(fast_model):
    reader, writer = os.pipe()
    os.close(reader)
    child = process("translate", "--model", fast_model, stdout=writer)
    os.close(writer)
    _, errors = child.communicate("cafe\n" * 3000, timeout=60)
    assert child.returncode == 128 + signal.SIGPIPE
    assert "rror" not in errors
    assert "Exception" not in errors


C_LOCALE = {"LC_ALL": "C", "PYTHONIOENCODING": "", "PYTHONUTF8": "0"}


def test_text_is_utf_8_in_every_locale(fast_model):
    words = [sys.executable, CLI, "translate", "--model", fast_model]
    environment = {**os.environ, **C_LOCALE}
    found = subprocess.run(
        [*words, "--alignment"], input="caf\u00e9\n".encode(), capture_output=True,
        env=environment,
    )  # fmt: skip
    assert json.loads(found.stdout.decode("utf-8"))["text"] == "caf\u00e9"
    assert "caf\u00e9".encode() in found.stdout
    found = subprocess.run(
        words, input=b"caf\xe9\n", capture_output=True, env=environment
    )
    assert (found.returncode, found.stdout) == (2, b"")
    assert b"standard input, line 1: expected UTF-8" in found.stderr


def interrupted(child, number):
    """Sends a signal to a process; returns the last line that it says."""
    child.send_signal(number)
    output, errors = child.communicate(timeout=60)
    assert child.returncode == 130, errors[-3000:]
    assert "Traceback" not in errors
    assert output == ""
    return errors.splitlines()[-1]


def wait_until(condition, child):
    deadline = time.monotonic() + 120
    while not condition() and child.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_signal_ends_an_export_and_leaves_nothing(trained_run, tmp_path):
    words = ["--model", trained_run.folder, "--output", tmp_path / "out"]
    before = sorted(os.listdir(tmp_path))
    child = process("export", *words)
    wait_until(lambda: list(tmp_path.glob(".export-*")), child)
    assert interrupted(child, signal.SIGTERM) == "interrupted"
    assert sorted(os.listdir(tmp_path)) == before


def test_a_signal_ends_a_training_that_has_not_begun():
    child = process("train", "--train", "pairs.tsv", "--run", "mine")
    read = f"/proc/{child.pid}/maps"  # by then TensorFlow is being imported
    wait_until(lambda: "tensorflow" in Path(read).read_text(), child)
    assert interrupted(child, signal.SIGINT) == "interrupted"


def test_settings_of_keras_do_not_matter(trained_run, tmp_path):
    (tmp_path / "keras.json").write_text('{"backend": "jax", "floatx": "float64"}')
    environment = {"KERAS_BACKEND": "torch", "KERAS_HOME": str(tmp_path)}
    words = ["translate", "--model", trained_run.folder, "cafe"]
    child = process(*words, environment=environment)
    output, errors = child.communicate(timeout=120)
    assert (child.returncode, output) == (0, f"{backwards('cafe')}\n"), errors


def test_a_library_user_s_keras_is_set_up_or_the_error_says_how(tmp_path):
    (tmp_path / "keras.json").write_text('{"floatx": "float64"}')
    code = (
        "import sys, pocketseq.pipeline.model, keras\n"
        "assert keras.backend.backend() == 'tensorflow'\n"
        "assert keras.config.floatx() == 'float32'\n"
        "keras.backend.backend = lambda: 'jax'\n"
        "del sys.modules['pocketseq.layers']\n"
        "import pocketseq.layers\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True,
        env={**os.environ, "KERAS_BACKEND": "jax", "KERAS_HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.stderr.splitlines()[-1].startswith(
        "ImportError: Keras was imported with the backend jax before, expected tensor"
    )
