import json
import os

import numpy as np
import pytest

from pocketseq.pipeline.configuration import Config
from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.runs import (
    Run,
    new_run_folder,
    newest_run,
    open_run,
    read_arrays,
    write_arrays,
    write_atomically,
)

ARRAYS = {
    "weights/kernel": np.arange(12, dtype=np.float32).reshape(3, 4),
    "counters": np.array('{"update": 3}'),
}


def make_run(folder):
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(Config().to_toml())
    return Run(folder)


def assert_equal_arrays(found, expected):
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)


def test_arrays_are_read_back_as_they_were(tmp_path):
    path = tmp_path / "deeper" / "a.npz"
    write_arrays(path, ARRAYS)
    assert_equal_arrays(read_arrays(path), ARRAYS)
    assert os.listdir(path.parent) == ["a.npz"]


def test_a_file_half_written_by_a_killed_program_does_not_matter(tmp_path):
    path = tmp_path / "a.npz"
    (tmp_path / "a.partial").write_bytes(b"half")
    write_arrays(path, ARRAYS)
    assert_equal_arrays(read_arrays(path), ARRAYS)


@pytest.mark.parametrize("write", [write_arrays, write_atomically])
def test_a_failed_write_leaves_the_old_file_whole(tmp_path, monkeypatch, write):
    path = tmp_path / "a.npz"
    write_arrays(path, ARRAYS)

    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(UserError, match="cannot be written: no space left"):
        write(path, {"other": np.zeros(3)} if write is write_arrays else b"other")
    assert_equal_arrays(read_arrays(path), ARRAYS)


def test_a_truncated_file_is_an_error_that_names_it(tmp_path):
    path = tmp_path / "a.npz"
    write_arrays(path, ARRAYS)
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match="a.npz: damaged"):
            read_arrays(path)


@pytest.mark.parametrize("bit", [1, 4, 128])
def test_a_flipped_bit_is_an_error_that_names_the_file_or_does_no_harm(tmp_path, bit):
    path = tmp_path / "a.npz"
    write_arrays(path, ARRAYS)
    whole = path.read_bytes()
    found = 0
    for place in range(len(whole)):
        flipped = bytes([whole[place] ^ bit])
        path.write_bytes(whole[:place] + flipped + whole[place + 1 :])
        try:
            # Some fields of a ZIP file, such as the date, mean nothing here.
            assert_equal_arrays(read_arrays(path), ARRAYS)
        except UserError as error:
            assert "a.npz: damaged" in str(error)
            found += 1
    # All data and names are guarded.
    assert found > sum(value.nbytes for value in ARRAYS.values())


def test_a_missing_file_of_arrays_is_an_error_that_names_it(tmp_path):
    with pytest.raises(UserError, match="nothing.npz"):
        read_arrays(tmp_path / "nothing.npz")


def test_only_the_two_newest_checkpoints_are_kept(tmp_path):
    run = Run(tmp_path)
    for update in (5, 10, 999, 1000):
        run.save_checkpoint(update, {"update": np.array(update)})
    newest, older = run.checkpoint_paths()
    assert int(read_arrays(newest)["update"]) == 1000
    assert int(read_arrays(older)["update"]) == 999
    assert len(os.listdir(tmp_path / "checkpoints")) == 2


def test_a_run_has_no_checkpoints_at_first(tmp_path):
    assert Run(tmp_path).checkpoint_paths() == []


def test_metrics_are_a_json_object_a_line(tmp_path):
    run = Run(tmp_path)
    run.append_metrics(update=1, loss=0.5)
    run.append_metrics(update=2, loss=0.25)
    lines = run.metrics_path.read_text().splitlines()
    expected = [{"update": 1, "loss": 0.5}, {"update": 2, "loss": 0.25}]
    assert list(map(json.loads, lines)) == expected


@pytest.mark.parametrize(
    "half", ["", '{"update": 1', '{"update": 40, "lo', "{", "\0\0"]
)
def test_metrics_of_repeated_updates_and_half_lines_are_removed(tmp_path, half):
    run = Run(tmp_path)
    for update in (10, 20, 30):
        run.append_metrics(update=update)
    with open(run.metrics_path, "a") as file:
        file.write(half)
    run.cut_metrics(20)
    run.append_metrics(update=30)
    lines = run.metrics_path.read_text().splitlines()
    assert [json.loads(line)["update"] for line in lines] == [10, 20, 30]


def test_a_run_without_metrics_has_none_to_remove(tmp_path):
    Run(tmp_path).cut_metrics(3)
    assert os.listdir(tmp_path) == []


def test_the_newest_run_is_the_one_configured_last(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for age, name in enumerate(["b", "c", "a"]):
        run = make_run(tmp_path / "runs" / name)
        os.utime(run.config_path, (1e9 - age, 1e9 - age))
    (tmp_path / "runs" / "no-run").mkdir()
    assert newest_run().folder.name == "b"


def test_no_run_at_all_is_an_error_that_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UserError, match="no run found, expected one .* or --model PATH"
    ):
        newest_run()


def test_a_new_run_folder_does_not_exist_yet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda _: "20250102-030405")
    names = []
    for _ in range(3):
        folder = new_run_folder("x")
        folder.mkdir(parents=True)
        names.append(str(folder))
    stem = "runs/x-20250102-030405"
    assert names == [stem, f"{stem}-2", f"{stem}-3"]


def test_a_run_is_opened_by_its_folder(tmp_path):
    make_run(tmp_path / "r")
    run = open_run(tmp_path / "r")
    assert run.config() == Config()


def test_a_missing_run_is_an_error(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such folder, expected a run"):
        open_run(tmp_path / "nowhere")


def test_a_folder_that_is_no_run_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no config.toml in it, expected a run folder"):
        open_run(tmp_path)


def test_a_run_without_weights_is_an_error_that_says_how_to_get_them(tmp_path):
    run = make_run(tmp_path / "r")
    with pytest.raises(UserError, match="no best.npz yet.*train --run .*r --resume"):
        run.load()


def test_a_trained_run_holds_the_files_that_the_contract_names(trained_run):
    assert {path.name for path in trained_run.folder.iterdir()} >= {
        "config.toml", "source.json", "target.json", "best.npz", "checkpoints",
        "metrics.jsonl",
    }  # fmt: skip
    assert not list(trained_run.folder.rglob("*.partial"))
