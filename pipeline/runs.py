"""Run folders: what a training leaves behind, and how it is read back."""

import contextlib
import fcntl
import hashlib
import io
import json
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pocketseq.pipeline.configuration import read_config
from pocketseq.pipeline.errors import UserError

logger = logging.getLogger(__name__)

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
        """Reads what a pass over the corpus told when the run began, as a dict."""
        return json.loads(self.shapes_path.read_text(encoding="utf-8"))

    def length_bound(self):
        """Returns the :class:`LengthBound` of the run, None where it has none."""
        from pocketseq.pipeline.search import LengthBound

        if not self.shapes_path.is_file():
            return None
        numbers = self.shapes().get("length_bound")
        return LengthBound(*numbers) if numbers else None

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
        return read_config(self.config_path)

    def load(self):
        """Loads the best model as a translator.

        Returns:
            :class:`pocketseq.pipeline.translator.ModelTranslator`.

        Raises:
            UserError: The run has no weights yet.
        """
        from pocketseq.pipeline.model import build_model
        from pocketseq.pipeline.translator import ModelTranslator

        arrays = self.load_weights()
        config = self.config()
        source, target = self.load_tokenizers()
        model = build_model(config.model, len(source), len(target))
        for variable in model.weights:
            variable.assign(arrays[variable.path])
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
        """Returns the source and the target tokenizer."""
        from pocketseq.pipeline.tokenizers import Tokenizer

        return tuple(
            Tokenizer.from_json(self.tokenizer_path(side).read_text(encoding="utf-8"))
            for side in ("source", "target")
        )

    def append_metrics(self, **values):
        """Adds a line to ``metrics.jsonl``.

        Raises:
            UserError: It cannot be written.
        """
        with writing(self.metrics_path):
            with open(self.metrics_path, "a", encoding="utf-8") as file:
                file.write(json.dumps(values) + "\n")

    def cut_metrics(self, update):
        """Removes the lines of updates that a resumed training will repeat."""
        if not self.metrics_path.is_file():
            return
        lines = self.metrics_path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if _update_of(line) <= update]
        write_atomically(self.metrics_path, "".join(kept).encode())


def _update_of(line):
    """Returns the update of a metrics line; a half-written line belongs to none."""
    try:
        return json.loads(line)["update"]
    except json.JSONDecodeError:
        return float("inf")


def new_run_folder(name):
    """Returns a folder ``runs/<name>-<date>-<time>`` that does not exist yet."""
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
    with np.load(io.BytesIO(data[:size]), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


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


@contextlib.contextmanager
def writing(path):
    """Says of what fails inside which file could not be written.

    Raises:
        UserError: In place of an OSError.
    """
    try:
        yield
    except OSError as error:
        problem = error.strerror or str(error)
        raise UserError(f"{path}: cannot be written: {problem}") from error
