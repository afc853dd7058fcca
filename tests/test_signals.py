"""Tests of pocketseq.pipeline.signals."""

from pathlib import Path

import pytest

from pocketseq.pipeline.signals import temporary_folder


def test_a_temporary_folder_is_private_and_gone_at_the_end(tmp_path):
    with temporary_folder(tmp_path, ".work-") as folder:
        assert folder.parent == tmp_path and folder.name.startswith(".work-")
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "file").touch()
    assert not list(tmp_path.iterdir())


def test_ctrl_c_just_when_the_folder_is_made_leaves_nothing(tmp_path, monkeypatch):
    made = Path.mkdir

    def interrupted(*arguments, **options):
        made(*arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "mkdir", interrupted)
    with pytest.raises(KeyboardInterrupt), temporary_folder(tmp_path, ".work-"):
        raise AssertionError("is never reached")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_the_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError), temporary_folder(tmp_path / "none", "x"):
        raise AssertionError("is never reached")
