"""Runs an exported model: ``ai-edge-litert`` and numpy, no TensorFlow."""

import io
import json
import threading
import zipfile
from pathlib import Path

import numpy as np

from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.translation import Translation, prepare

# A .tflite file has this at its byte 4.
_FILE_IDENTIFIER = b"TFL3"


class Translator:
    """Translates with a ``.tflite`` file that an export has written.

    May be called from several threads; the calls then wait for one another.

    Args:
        path: The file.
        threads: How many threads the runtime may use.

    Raises:
        UserError: There is no such file, or it is not an exported model.

    Example:
        >>> translator = Translator("model-int8.tflite")
        >>> translator("phone")
        'F OW N'
    """

    def __init__(self, path, *, threads=1):
        self.manifest = read_manifest(path)
        self.target_kind = self.manifest["target"]["tokenizer"]
        from ai_edge_litert.interpreter import Interpreter

        self._lock = threading.Lock()
        self._interpreter = Interpreter(str(path), num_threads=threads)
        self._run = self._interpreter.get_signature_runner("translate")
        self.max_code_points = int(self._run.get_input_details()["text"]["shape"][1])
        # The first call prepares the graph: here, so that later ones are all alike.
        self.run(np.zeros((1, self.max_code_points), np.int32))

    def __call__(self, text):
        """Returns the best translation of one text, a string."""
        return self.translate([text])[0][0].text

    def translate(self, texts, *, beam_size=None, n_best=1):
        """Translates some texts.

        Args:
            texts: Strings; longer ones are cut, which is logged.
            beam_size: Only 1, or None: the file holds the greedy search.
            n_best: Only 1.

        Returns:
            A list with one :class:`Translation` in it for each text.

        Raises:
            UserError: A beam is asked for.
        """
        if max(beam_size or 1, n_best) > 1:
            raise UserError(
                "this .tflite file holds the greedy search only: expected --beam 1, "
                "or a run folder as --model"
            )
        return [
            [self._translate(text)] for text in prepare(texts, self.max_code_points)
        ]

    def run(self, code_points):
        """Calls the model as it is.

        Args:
            code_points: int32 ``(1, N)``, zero-padded.

        Returns:
            A dict of ``text``, ``score`` and ``alignment``, copies.
        """
        with self._lock:
            outputs = self._run(text=code_points)
            return {name: np.array(value) for name, value in outputs.items()}

    def _translate(self, text):
        row = np.zeros((1, self.max_code_points), np.int32)
        row[0, : len(text)] = [ord(character) for character in text]
        outputs = self.run(row)
        translated = text_of(outputs["text"][0])
        alignment = outputs["alignment"][0, : len(translated), : len(text)]
        return Translation(text, translated, float(outputs["score"][0]), alignment)


def text_of(code_points):
    """Returns the text in an output row: up to the first 0."""
    ends = np.flatnonzero(code_points == 0)
    return "".join(map(chr, code_points[: ends[0] if len(ends) else None]))


def read_manifest(path):
    """Reads the manifest inside an exported model.

    Raises:
        UserError: There is no such file, or it is not an exported model.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file, expected a .tflite file")
    data = path.read_bytes()
    if data[4:8] != _FILE_IDENTIFIER:
        raise UserError(f"{path}: expected a run folder or a .tflite file")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return json.loads(archive.read("manifest.json"))
    except (zipfile.BadZipFile, KeyError, json.JSONDecodeError) as error:
        raise UserError(
            f"{path}: no manifest in it, expected a .tflite file that an export has "
            f"written ({error})"
        ) from error
