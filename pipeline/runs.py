"""Run folders: what a training leaves behind, and how it is read back."""

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
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pocketseq.pipeline.configuration import read_config
from pocketseq.pipeline.errors import UserError, writing

logger = logging.getLogger(__name__)

# What a recipe may be called for a folder to get its name.
_PLAIN_NAME = re.compile(r"(?!\.)[^/\\\x00-\x1f]{1,100}")

# Checkpoints kept: the newest, and the one before in case it cannot be read.
_KEPT = 2


@dataclass(frozen=True)
class Run:
    """The files of one run folder.

    ``config.toml``, ``source.json`` and ``target.json`` (the tokenizers), ``best.npz``
    (the averaged weights with the best dev metric), ``checkpoints/update-*.npz``
    (everything that training needs to go on), ``metrics.jsonl``, ``shapes.json`` (how
    many pairs there are, and the shapes of their batches), ``initial.npz`` (the weights
    that a fine-tuning starts from) and TensorBoard's events.
    """

    folder: Path

    @property
    def config_path(self):
        return self.folder / "config.toml"

    @property
    def shapes_path(self):
        return self.folder / "shapes.json"

    @property
    def initial_path(self):
        return self.folder / "initial.npz"

    @property
    def metrics_path(self):
        return self.folder / "metrics.jsonl"

    @property
    def lock_path(self):
        return self.folder / ".lock"

    @property
    def best_path(self):
        return self.folder / "best.npz"

    def tokenizer_path(self, side):
        return self.folder / f"{side}.json"

    def checkpoint_paths(self):
        """Returns the checkpoints, newest first."""
        paths = (self.folder / "checkpoints").glob("update-*.npz")
        return sorted(paths, reverse=True)

    def load_checkpoint(self):
        """Returns the arrays of the newest whole checkpoint, None if there is none.

        One that is damaged is named and set aside, and the one before it is taken.

        Raises:
            UserError: There are checkpoints, but all are damaged.
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

    def save_checkpoint(self, update, arrays):
        """Writes a checkpoint and removes the oldest.

        Raises:
            UserError: It cannot be written; the ones before are left as they are.
        """
        write_arrays(self.folder / "checkpoints" / f"update-{update:09d}.npz", arrays)
        for old in self.checkpoint_paths()[_KEPT:]:
            old.unlink()

    def shapes(self):
        """Reads what a pass over the corpus told when the run began, as a dict.

        Raises:
            UserError: The file is missing or damaged.
        """
        return parse_shapes(read_text(self.shapes_path), self.shapes_path)

    def length_bound(self):
        """Returns the :class:`LengthBound` of the run, None where it has none.

        Raises:
            UserError: The file is damaged.
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
    def locked(self):
        """Keeps the folder for one training process, as long as the context lasts.

        The lock ends with the process, however that ends. A file system that knows no
        locks is left without one, which is logged.

        Raises:
            UserError: Another process trains in it.
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

    def config(self):
        """Reads the configuration that the run was trained with."""
        return read_config(self.config_path, whole=True)

    def load(self):
        """Loads the best model as a translator.

        Returns:
            :class:`pocketseq.pipeline.translator.ModelTranslator`.

        Raises:
            UserError: The run has no weights yet, or they are those of another model.
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

    def load_weights(self):
        """Returns the best weights, ``{path of the variable: array}``.

        Raises:
            UserError: The run has none yet.
        """
        if not self.best_path.is_file():
            raise UserError(
                f"{self.folder}: no best.npz yet, expected a run that has been "
                f"evaluated once (train --run {self.folder} --resume)"
            )
        return read_arrays(self.best_path)

    def load_tokenizers(self):
        """Returns the source and the target tokenizer.

        Raises:
            UserError: A file is missing or damaged.
        """
        paths = map(self.tokenizer_path, ("source", "target"))
        return tuple(parse_tokenizer(read_text(path), path) for path in paths)

    def files(self):
        """Returns the files that training has written, as far as they are there."""
        paths = [
            self.config_path, self.shapes_path, self.initial_path, self.metrics_path,
            self.best_path, *map(self.tokenizer_path, ("source", "target")),
            *self.checkpoint_paths(),
        ]  # fmt: skip
        return [path for path in paths if path.is_file()]

    def append_metrics(self, **values):
        """Adds a line to ``metrics.jsonl``.

        Raises:
            UserError: It cannot be written.
        """
        with writing(self.metrics_path):
            with open(self.metrics_path, "a", encoding="utf-8") as file:
                file.write(json.dumps(values) + "\n")

    def cut_metrics(self, update):
        """Removes the lines of updates that a resumed training will repeat.

        Those that are no metrics go, too, such as a line that was half written.
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


def _update_of(line):
    """Returns the update of a metrics line; None if it is damaged."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return None
    update = values.get("update") if isinstance(values, dict) else None
    return update if type(update) is int else None


def _is_done(line, update):
    """Whether a metrics line is of an update up to this one."""
    number = _update_of(line)
    return number is not None and number <= update


def new_run_folder(name):
    """Returns a folder ``runs/<name>-<date>-<time>`` that does not exist yet.

    Raises:
        UserError: The name would lead elsewhere, or nowhere.
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


def newest_run():
    """Returns the newest run under ``runs/``.

    Raises:
        UserError: There is none.
    """
    configs = sorted(
        Path("runs").glob("*/config.toml"), key=lambda p: p.stat().st_mtime
    )
    if not configs:
        raise UserError(
            "runs/: no run found, expected one (train makes it) or --model PATH"
        )
    return Run(configs[-1].parent)


def open_run(path):
    """Returns the run in a folder.

    Raises:
        UserError: There is no such folder, or it is not a run.
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


def read_text(path):
    """Returns the text of a file of a run.

    Raises:
        UserError: It cannot be read, or it is not text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: damaged: {error}") from error


def parse_tokenizer(text, path):
    """Makes a tokenizer of what its ``to_json`` has saved.

    Args:
        text: The JSON text.
        path: Where it comes from, for error messages.

    Raises:
        UserError: It is damaged.
    """
    from pocketseq.pipeline.text.tokenizers import Tokenizer

    try:
        return Tokenizer.from_json(text)
    except ValueError as error:
        raise UserError(f"{path}: damaged: {error}") from error


def parse_shapes(text, path):
    """Returns what ``shapes.json`` says, a dict.

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


def assign_arrays(variables, arrays, path):
    """Gives variables the values that a file holds for them.

    Args:
        variables: ``{name: variable}``.
        arrays: ``{name: array}``.
        path: Where the arrays come from, for error messages.

    Raises:
        UserError: The file belongs to another model; nothing has been assigned then.
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
    """A file whose checksum is wrong."""


def write_arrays(path, arrays):
    """Writes named arrays to one file, whole or not at all.

    Raises:
        UserError: It cannot be written.
    """
    packed = io.BytesIO()
    np.savez(packed, allow_pickle=False, **arrays)
    data = packed.getvalue()
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data + hashlib.sha256(data).digest())


def read_arrays(path):
    """Reads what :func:`write_arrays` has written; its checksum stands at the end.

    Raises:
        UserError: The file cannot be read.
        DamagedFile: Its checksum is wrong.
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


def write_atomically(path, data):
    """Writes bytes to a file, whole or not at all.

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
            temporary.unlink(missing_ok=True)  # room for others on a full disk
            raise
