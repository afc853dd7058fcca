"""The folder of an export: what may be replaced, and replacing all of it or nothing."""

import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

from pocketseq.export.apps import FOLDER as APPS
from pocketseq.export.apps import foreign_files
from pocketseq.export.contract import (
    LICENSES,
    MANIFEST,
    MODEL_CARD,
    README,
    SAVED_MODEL,
    is_bundle_manifest,
    tflite_name,
)
from pocketseq.pipeline.errors import UserError, writing
from pocketseq.pipeline.signals import temporary_folder

# Patterns of the names that an export writes.
_WRITTEN = (
    MANIFEST, "golden*.jsonl", README, LICENSES, MODEL_CARD, tflite_name("*"),
    SAVED_MODEL, APPS,
)  # fmt: skip

# Of the folder that an export works in; one that was killed may have left such a
# folder behind.
_PREFIX = ".export-"

# A file system keeps this at its root.
_NOT_OURS = "lost+found"


def refuse_to_destroy(folder: Path, *, force: bool) -> None:
    """Makes sure that an export may write to a folder.

    Args:
        folder: Where the bundle is to be.
        force: Whether an export that is there may be replaced.

    Raises:
        UserError: The folder exists and may not be replaced, or it holds something that
            no export has written.
    """
    if not folder.exists():
        return
    if not force:
        raise UserError(f"{folder}: exists already, expected --force to replace it")
    if not folder.is_dir():
        raise UserError(f"{folder}: no export is in it, expected another --output")
    names = sorted(path.name for path in _contents(folder))
    if names and not _is_manifest(folder / MANIFEST):
        raise UserError(f"{folder}: no export is in it, expected another --output")
    foreign = [
        folder / name
        for name in names
        if not any(fnmatchcase(name, pattern) for pattern in _WRITTEN)
    ]
    for path in (*foreign, *foreign_files(folder / APPS)):
        raise UserError(
            f"{path}: no export has written it, expected it to be "
            f"elsewhere, or another --output"
        )


def _contents(folder: Path) -> Iterator[Path]:
    """Yields the paths in a folder that an export may replace."""
    for path in folder.iterdir():
        if not path.name.startswith(_PREFIX) and path.name != _NOT_OURS:
            yield path


def _is_manifest(path: Path) -> bool:
    try:
        return is_bundle_manifest(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there, or not UTF-8
        return False


@contextmanager
def workplace(folder: Path) -> Iterator[Path]:
    """Makes a temporary folder to work in, and removes it afterwards.

    It is on the same file system as the folder to write: beside it or above it, so that
    a failure leaves no new folders; inside it where it is a mount point, or where
    nothing may be written beside it.

    Args:
        folder: Where the bundle is to be.

    Raises:
        UserError: Nothing can be written there.
    """
    near = next(parent for parent in folder.parents if parent.exists())
    if folder.exists() and (os.path.ismount(folder) or not os.access(near, os.W_OK)):
        near = folder
    with ExitStack() as stack:
        with writing(folder):
            temporary = stack.enter_context(temporary_folder(near, _PREFIX))
        yield temporary


def put(bundle: Path, folder: Path, temporary: Path) -> None:
    """Moves a bundle to its folder, and removes what was there before.

    A mount point cannot be replaced: there the contents are.

    Args:
        bundle: A folder in ``temporary``, which is moved.
        folder: Where it is to be.
        temporary: The folder that :func:`workplace` has made.

    Raises:
        UserError: A new folder cannot be written.
        OSError: The system refused; everything is as it was before.
    """
    if not folder.exists():
        with writing(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            bundle.rename(folder)
    elif temporary.parent == folder:
        _replace_contents(bundle, folder, temporary)
    else:
        try:
            _move([(folder, temporary / "replaced"), (bundle, folder)])
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.EXDEV):
                raise
            with temporary_folder(folder, _PREFIX) as inside:
                copy = shutil.copytree(bundle, inside / "bundle")
                _replace_contents(copy, folder, inside)


def _replace_contents(bundle: Path, folder: Path, temporary: Path) -> None:
    replaced = temporary / "replaced"
    replaced.mkdir()
    _move(
        [(path, replaced / path.name) for path in _contents(folder)]
        + [(path, folder / path.name) for path in bundle.iterdir()]
    )


def _move(moves: Iterable[tuple[Path, Path]]) -> None:
    """Renames (from, to) one after the other: all of them, or none."""
    with ExitStack() as undo:
        for path, to in moves:
            path.rename(to)
            undo.callback(to.rename, path)
        undo.pop_all()
