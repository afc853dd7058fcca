"""Runs an exported model: ``ai-edge-litert`` and numpy, no TensorFlow."""

import io
import json
import threading
import zipfile
from pathlib import Path

import numpy as np

from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.normalization import Normalization
from pocketseq.pipeline.translation import Translation, prepare

# A .tflite file has this at its byte 4.
_FILE_IDENTIFIER = b"TFL3"


class Translator:
    """Translates with a ``.tflite`` file that an export has written.

    A file with several lengths translates each text by the shortest that holds it. May
    be called from several threads; the calls then wait for one another.

    Args:
        path: The file.
        threads: How many threads the runtime may use.
        length: Use the signatures of this length for all texts.

    Raises:
        UserError: There is no such file, it is not an exported model, or it has no
            such length.

    Example:
        >>> translator = Translator("model-int8.tflite")
        >>> translator("phone")
        'F OW N'
        >>> [(t.text, t.score) for t in translator.translate(["phone"], n_best=2)[0]]
    """

    #: Whether translations come with an alignment.
    gives_alignment = True

    def __init__(self, path, *, threads=1, length=None):
        self.manifest = read_manifest(path)
        self.target_kind, self.target_normalization = target_of(self.manifest)
        from ai_edge_litert.interpreter import Interpreter

        self._lock = threading.Lock()
        self._interpreter = Interpreter(str(path), num_threads=threads)
        self.lengths, self.beam_size = _signatures(self._interpreter)
        if length is not None:
            if length not in self.lengths:
                known = ", ".join(map(str, self.lengths))
                raise UserError(f"{path}: no length {length}, expected one of {known}")
            self.lengths = {length: self.lengths[length]}
        self.max_code_points = max(self.lengths)
        self._runners = {}
        # The first call prepares the graph: here, so that later ones are all alike.
        for one in self.lengths:
            self.run(np.zeros((1, one), np.int32))

    def __call__(self, text):
        """Returns the best translation of one text, a string."""
        return self.translate([text])[0][0].text

    def translate(self, texts, *, beam_size=None, n_best=1):
        """Translates some texts.

        Args:
            texts: Strings; longer ones are cut, which is logged.
            beam_size: 1, or the beam that the file was exported with; None: that beam
                where ``n_best`` needs it or the recipe prefers it, else 1.
            n_best: How many translations of each text to return.

        Returns:
            A list of ``n_best`` :class:`Translation` for each text, best first.

        Raises:
            UserError: The file holds no search with such a beam.
        """
        beam = self._needs_beam(beam_size, n_best)
        return [
            self._translate(text, beam, n_best)
            for text in prepare(texts, self.max_code_points)
        ]

    def run(self, code_points, *, beam=False):
        """Calls the model as it is.

        Args:
            code_points: int32 ``(1, N)``, zero-padded, with N one of ``lengths``.
            beam: Whether to search with the file's beam.

        Returns:
            A dict of ``text``, ``score`` and ``alignment``, copies.

        Raises:
            ValueError: There is no signature for this length, or none with a beam.
        """
        length = code_points.shape[1]
        name = self.lengths.get(length, (None, None))[beam]
        if name is None:
            search = "with a beam" if beam else "without a beam"
            raise ValueError(f"no signature of length {length} {search}")
        with self._lock:
            if name not in self._runners:
                self._runners[name] = self._interpreter.get_signature_runner(name)
            outputs = self._runners[name](text=code_points)
            return {name: np.array(value) for name, value in outputs.items()}

    def _needs_beam(self, beam_size, n_best):
        """Whether the beam is to be used."""
        if beam_size is None:
            preferred = self.manifest["recipe"]["search"]["beam_size"]
            beam_size = self.beam_size if n_best > 1 else 1
            if preferred > 1 and preferred == self.beam_size:
                beam_size = preferred
        if beam_size == 1 and n_best == 1:
            return False
        if self.beam_size is None or beam_size != self.beam_size or n_best > beam_size:
            held = (
                f"a beam of {self.beam_size}"
                if self.beam_size
                else "the greedy search only"
            )
            raise UserError(
                f"this .tflite file holds {held}: expected --beam and --n-best to fit, "
                f"or a run folder as --model"
            )
        return True

    def _translate(self, text, beam, n_best):
        length = min(one for one in self.lengths if one >= len(text))
        row = np.zeros((1, length), np.int32)
        row[0, : len(text)] = [ord(character) for character in text]
        outputs = self.run(row, beam=beam)
        translations = []
        for codes, score, alignment in zip(
            outputs["text"], outputs["score"], outputs["alignment"], strict=True
        ):
            translated = text_of(codes)
            alignment = alignment[: len(translated), : len(text)]
            translations.append(Translation(text, translated, float(score), alignment))
        return translations[:n_best]


def _signatures(interpreter):
    """Returns ``{N: (greedy, beam signature)}``, and the beam size; None without."""
    names = interpreter.get_signature_list()
    lengths, beam_size = {}, None
    for name in names:
        if name.startswith("translate_beam"):
            continue
        runner = interpreter.get_signature_runner(name)
        length = int(runner.get_input_details()["text"]["shape"][1])
        beam = name.replace("translate", "translate_beam")
        lengths[length] = (name, beam if beam in names else None)
        if beam in names:
            outputs = interpreter.get_signature_runner(beam).get_output_details()
            beam_size = int(outputs["text"]["shape"][0])
    return lengths, beam_size


def target_of(manifest):
    """Returns the target's kind of tokenizer and its normalization."""
    target = manifest["target"]
    return target["tokenizer"], Normalization(**target["normalization"])


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
