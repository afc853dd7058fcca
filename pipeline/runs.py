"""Run folders: the files of a training run, written and read back."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import logging
import os
import re
import time
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pocketseq.pipeline.configuration import (
    Config,
    fine_tuned,
    load_recipe,
    model_of,
    override,
    read_config,
    student_of,
    undecided,
    with_files,
    with_license,
)
from pocketseq.pipeline.errors import UserError, writing

if TYPE_CHECKING:
    import keras

    from pocketseq.pipeline.search import LengthBound
    from pocketseq.pipeline.text.tokenizers import Tokenizer
    from pocketseq.pipeline.translator import ModelTranslator

logger = logging.getLogger(__name__)

# Recipe names that a folder may be named after.
_PLAIN_NAME = re.compile(r"(?!\.)[^/\\\x00-\x1f]{1,100}")

# Checkpoints kept: the newest, and the one before it, in case the newest is damaged.
_KEPT = 2


@dataclass(frozen=True)
class Run:
    """The files of one run folder.

    ``config.toml``, ``source.json`` and ``target.json`` (the tokenizers), ``best.npz``
    (the averaged weights with the best dev metric), ``checkpoints/update-*.npz``
    (the whole state of training, for ``--resume``), ``metrics.jsonl``, ``shapes.json``
    (the number of pairs, and the shapes of their batches), ``initial.npz`` (the weights
    that a fine-tuned run starts from), ``labels/`` (what the teachers of a student say)
    and TensorBoard events.
    """

    folder: Path

    @property
    def config_path(self) -> Path:
        return self.folder / "config.toml"

    @property
    def shapes_path(self) -> Path:
        return self.folder / "shapes.json"

    @property
    def initial_path(self) -> Path:
        return self.folder / "initial.npz"

    @property
    def metrics_path(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def lock_path(self) -> Path:
        return self.folder / ".lock"

    @property
    def best_path(self) -> Path:
        return self.folder / "best.npz"

    @property
    def labels_path(self) -> Path:
        return self.folder / "labels"

    def tokenizer_path(self, side: str) -> Path:
        return self.folder / f"{side}.json"

    def checkpoint_paths(self) -> list[Path]:
        """Returns the checkpoints, newest first."""
        paths = (self.folder / "checkpoints").glob("update-*.npz")
        return sorted(paths, reverse=True)

    def load_checkpoint(self) -> dict[str, np.ndarray] | None:
        """Returns the arrays of the newest valid checkpoint, None if there is none.

        A damaged one is renamed, with a warning, and the one before it is read.

        Raises:
            UserError: There are checkpoints, but all are damaged or unreadable.
        """
        damaged = []
        for path in self.checkpoint_paths():
            try:
                return read_arrays(path)
            except DamagedFile as error:
                aside = path.with_name(path.name + ".damaged")
                path.replace(aside)
                logger.warning("%s; set aside as %s", error, aside.name)
                damaged.append(str(aside))
        if damaged:
            raise UserError(
                f"{', '.join(damaged)}: damaged, and there is no checkpoint before; "
                f"start anew with another --run"
            )
        return None

    def save_checkpoint(self, update: int, arrays: Mapping[str, npt.ArrayLike]) -> None:
        """Writes a checkpoint and removes all but the newest two.

        Args:
            update: The number of updates done.
            arrays: ``{name: array}``, the state of training.

        Raises:
            UserError: It cannot be written; older checkpoints stay.
        """
        write_arrays(self.folder / "checkpoints" / f"update-{update:09d}.npz", arrays)
        for old in self.checkpoint_paths()[_KEPT:]:
            old.unlink()

    def shapes(self) -> dict[str, Any]:
        """Returns the contents of ``shapes.json``, from the first pass over the corpus.

        Raises:
            UserError: The file is missing or damaged.
        """
        return parse_shapes(read_text(self.shapes_path), self.shapes_path)

    def length_bound(self) -> LengthBound | None:
        """Returns the bound on the number of target tokens, None if there is none.

        Raises:
            UserError: ``shapes.json`` is damaged.
        """
        from pocketseq.pipeline.search import LengthBound

        if not self.shapes_path.is_file():
            return None
        match self.shapes().get("length_bound"):
            case None:
                return None
            case [int() | float() as ratio, int() | float() as offset]:
                return LengthBound(float(ratio), float(offset))
        raise UserError(f"{self.shapes_path}: damaged, expected two numbers as bound")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Reserves the folder for this process while the context lasts.

        The lock also ends with the process, however that ends. On a file system without
        locks there is none, and a warning is logged.

        Raises:
            UserError: Another process has the lock, or the folder cannot be written.
        """
        with writing(self.lock_path):
            file = open(self.lock_path, "a")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(
                    f"{self.folder}: another process is training here, expected it to "
                    f"end first, or another --run"
                ) from error
            except OSError as error:
                logger.warning("%s: cannot be locked: %s", self.folder, error.strerror)
            yield

    def config(self) -> Config:
        """Returns the configuration that the run was trained with.

        Raises:
            UserError: The file is damaged.
            OSError: The file cannot be read.
        """
        return read_config(self.config_path, whole=True)

    def load(self) -> ModelTranslator:
        """Loads the best model as a translator.

        Raises:
            UserError: The run has no weights yet, they belong to another model, or a
                file is missing or damaged.
        """
        from pocketseq.pipeline.model import build_model
        from pocketseq.pipeline.translator import ModelTranslator

        arrays = self.load_weights()
        config = self.config()
        source, target = self.load_tokenizers()
        model = build_model(config.model, len(source), len(target))
        variables = {variable.path: variable for variable in model.weights}
        assign_arrays(variables, arrays, self.best_path)
        return ModelTranslator(model, source, target, config, self.length_bound())

    def load_weights(self) -> dict[str, np.ndarray]:
        """Returns the best weights, ``{path of the variable: array}``.

        Raises:
            UserError: The run has none yet, or the file is damaged.
        """
        if not self.best_path.is_file():
            raise UserError(
                f"{self.folder}: no best.npz yet, expected a run that has been "
                f"evaluated once (train --run {self.folder} --resume)"
            )
        return read_arrays(self.best_path)

    def load_tokenizers(self) -> tuple[Tokenizer, Tokenizer]:
        """Returns the source and the target tokenizer.

        Raises:
            UserError: A file is missing or damaged.
        """
        source, target = self.tokenizer_path("source"), self.tokenizer_path("target")
        return (
            parse_tokenizer(read_text(source), source),
            parse_tokenizer(read_text(target), target),
        )

    def files(self) -> list[Path]:
        """Returns the existing files that training has written."""
        paths = [
            self.config_path, self.shapes_path, self.initial_path, self.metrics_path,
            self.best_path, self.tokenizer_path("source"),
            self.tokenizer_path("target"), *self.checkpoint_paths(),
        ]  # fmt: skip
        return [path for path in paths if path.is_file()]

    def append_metrics(self, **values: float | str | None) -> None:
        """Adds a line, a JSON object of the values, to ``metrics.jsonl``.

        Raises:
            UserError: It cannot be written.
        """
        with writing(self.metrics_path):
            with open(self.metrics_path, "a", encoding="utf-8") as file:
                file.write(json.dumps(values) + "\n")

    def cut_metrics(self, update: int) -> None:
        """Removes the lines of updates after ``update``, which a resumed run repeats.

        Damaged lines, such as one that was half written, are also removed, with a
        warning.

        Raises:
            UserError: The file cannot be written.
        """
        if not self.metrics_path.is_file():
            return
        text = self.metrics_path.read_text(encoding="utf-8", errors="replace")
        lines = text.splitlines(keepends=True)
        damaged = sum(_update_of(line) is None for line in lines)
        if damaged:
            logger.warning("%s: removed %d damaged lines", self.metrics_path, damaged)
        kept = [line for line in lines if _is_done(line, update)]
        write_atomically(self.metrics_path, "".join(kept).encode())


def _update_of(line: str) -> int | None:
    """Returns the update number of a metrics line; None if it is damaged."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return None
    update = values.get("update") if isinstance(values, dict) else None
    return update if type(update) is int else None


def _is_done(line: str, update: int) -> bool:
    """Returns whether a metrics line belongs to this update or an earlier one."""
    number = _update_of(line)
    return number is not None and number <= update


def compose(
    recipe: str | None,
    files: tuple[str | Path | None, ...] = (None,) * 4,
    *,
    base: str | Path | None = None,
    settings: Iterable[str] = (),
    skip_bad_lines: bool = False,
) -> Config:
    """Returns the configuration of a new run: a recipe with changes, applied in turn.

    Args:
        recipe: A name or a path ending in ``.toml``; None: ``pronunciation``, or the
            recipe of ``base``.
        files: The training corpus, its target side, the dev corpus, its target side.
        base: The folder of a trained run to start from.
        settings: ``section.key=value`` each.
        skip_bad_lines: Whether lines that are not pairs are skipped.

    Raises:
        UserError: The recipe, the files, the base or a setting cannot be used.
    """
    if base is None:
        config = load_recipe(recipe or "pronunciation")
    else:
        trained = open_run(base).config()
        # The model is always that of the base, whatever another recipe says.
        config = (
            model_of(trained, load_recipe(recipe)) if recipe else undecided(trained)
        )
    train, train_target, dev, dev_target = (
        None if file is None else str(file) for file in files
    )
    config = with_files(config, train, train_target, dev, dev_target, skip_bad_lines)
    config = with_license(override(config, settings))
    return fine_tuned(config, trained, base) if base is not None else config


def compose_student(
    teachers: Sequence[str | Path],
    recipe: str | None,
    words: str | None,
    settings: Iterable[str] = (),
) -> Config:
    """Returns the configuration of a run that learns from trained ones.

    Args:
        teachers: Their folders.
        recipe: A name or a path ending in ``.toml``; None: as the first teacher.
        words: Texts for the teachers to translate; None: those of the recipe.
        settings: ``section.key=value`` each.

    Raises:
        UserError: A teacher, the recipe or a setting cannot be used.
    """
    if not teachers:
        raise UserError("no teachers: expected run folders, RUN...")
    trained = [(folder, open_run(folder).config()) for folder in teachers]
    # The recipe of a student is no student's: its teachers are those named here.
    config = load_recipe(recipe) if recipe else undecided(trained[0][1])
    return override(student_of(trained, replace(config, base=""), words), settings)


def new_run_folder(name: str) -> Path:
    """Returns a folder ``runs/<name>-<date>-<time>`` that does not exist yet.

    Raises:
        UserError: The name is not the plain name of a folder.
    """
    if not _PLAIN_NAME.fullmatch(name):
        raise UserError(
            f"name = {name[:100]!r}: expected a plain name of a folder, or --run DIR"
        )
    stem = f"runs/{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder, number = Path(stem), 1
    while folder.exists():
        number += 1
        folder = Path(f"{stem}-{number}")
    return folder


def newest_run(others: str = "") -> Run:
    """Returns the newest run under ``runs/``, by the time of its ``config.toml``.

    Args:
        others: Models that are not runs, for the message: ``, or ...``.

    Raises:
        UserError: There is none.
    """
    configs = sorted(
        Path("runs").glob("*/config.toml"), key=lambda p: p.stat().st_mtime
    )
    if not configs:
        raise UserError(
            f"runs/: no run found, expected one (train makes it) or --model "
            f"PATH{others}"
        )
    return Run(configs[-1].parent)


def open_run(path: str | Path) -> Run:
    """Returns the run in a folder.

    Raises:
        UserError: There is no such folder, or it is not a run folder.
    """
    run = Run(Path(path))
    if not run.folder.is_dir():
        raise UserError(f"{path}: no such folder, expected a run")
    if not run.config_path.is_file():
        raise UserError(f"{path}: no config.toml in it, expected a run folder")
    return run


def find_run(path: str | Path | None) -> Run:
    """Returns the run in a folder; None: the newest run under ``runs/``.

    Raises:
        UserError: See :func:`open_run` and :func:`newest_run`.
    """
    return open_run(path) if path else newest_run()


def read_text(path: Path) -> str:
    """Returns the text of a file of a run.

    Raises:
        UserError: It cannot be read, or it is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: damaged: {error}") from error


def parse_tokenizer(text: str, path: Path) -> Tokenizer:
    """Restores a tokenizer from the text of its ``to_json``.

    Args:
        text: The JSON text.
        path: The file of the text, for error messages.

    Raises:
        UserError: It is damaged.
    """
    from pocketseq.pipeline.text.tokenizers import Tokenizer

    try:
        return Tokenizer.from_json(text)
    except ValueError as error:
        raise UserError(f"{path}: damaged: {error}") from error


def parse_shapes(text: str, path: Path) -> dict[str, Any]:
    """Parses the text of ``shapes.json``.

    Args:
        text: The JSON text.
        path: The file of the text, for error messages.

    Raises:
        UserError: It is damaged.
    """
    try:
        saved = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged: {error}") from error
    if not isinstance(saved, dict):
        raise UserError(f"{path}: damaged, expected the shapes of batches")
    return saved


def assign_arrays(
    variables: Mapping[str, keras.Variable],
    arrays: Mapping[str, np.ndarray],
    path: Path,
) -> None:
    """Assigns the arrays of a file to variables.

    Args:
        variables: ``{name: variable}``.
        arrays: ``{name: array}``; names without a variable are ignored.
        path: The file of the arrays, for error messages.

    Raises:
        UserError: The file belongs to another model; then no variable is changed.
    """
    for name, variable in variables.items():
        shape, found = tuple(variable.shape), arrays.get(name)
        if found is None or found.shape != shape or found.dtype.kind != "f":
            what = "nothing" if found is None else f"{found.dtype} {found.shape}"
            raise UserError(
                f"{path}: belongs to another model, expected {name} {shape}, found "
                f"{what}"
            )
    for name, variable in variables.items():
        variable.assign(arrays[name])


class DamagedFile(UserError):
    """The checksum of a file is wrong, or its contents are not arrays."""


def write_arrays(path: Path, arrays: Mapping[str, npt.ArrayLike]) -> None:
    """Writes named arrays and their checksum to one file, atomically.

    Raises:
        UserError: It cannot be written.
    """
    packed = io.BytesIO()
    np.savez(packed, allow_pickle=False, **arrays)
    data = packed.getvalue()
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data + hashlib.sha256(data).digest())


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Reads the arrays that :func:`write_arrays` has written.

    Raises:
        UserError: The file cannot be read.
        DamagedFile: Its checksum, the last 32 bytes, is wrong, or it is not arrays.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    size = len(data) - hashlib.sha256().digest_size
    if hashlib.sha256(data[: max(size, 0)]).digest() != data[size:]:
        raise DamagedFile(f"{path}: damaged, its checksum is wrong")
    try:
        with np.load(io.BytesIO(data[:size]), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (ValueError, AttributeError, zipfile.BadZipFile) as error:
        raise DamagedFile(f"{path}: damaged: {error}") from error


def write_atomically(path: Path, data: bytes) -> None:
    """Writes bytes to a file so that it is never seen half written.

    Raises:
        UserError: It cannot be written.
    """
    temporary = path.with_name(path.name + ".partial")
    with writing(path):
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)  # frees space on a full disk
            raise
