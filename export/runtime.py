"""Runs an exported model: ``ai-edge-litert`` and numpy, no TensorFlow."""

import contextlib
import logging
import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pocketseq.export.contract import (
    ALIGNMENT,
    SCORE,
    TEXT,
    Manifest,
    beam_name,
    searches_with_beam,
)
from pocketseq.export.tflite.container import read_container
from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.explanation import Explanation, explain_outputs, one_text
from pocketseq.pipeline.translation import (
    NO_SCORE,
    Knowledge,
    Token,
    Translation,
    prepare,
)

logger = logging.getLogger(__name__)


class Translator:
    """Translates with a ``.tflite`` file that an export has written.

    A file with several lengths translates each text by the shortest that holds it. May
    be called from several threads; the calls then wait for one another. A process that
    is forked meanwhile may go on with its copy.

    The file is read into memory, and its checksum compared, before the runtime sees any
    of it. Older files without a checksum still open, with a warning: damage in their
    weights may crash a runtime, or change its answers.

    Args:
        path: The file.
        threads: How many threads the runtime may use.
        length: Use the signatures of this length for all texts.
        xnnpack: Whether the runtime may use XNNPACK; else its built-in kernels
            compute, as they do on iOS unless an app asks otherwise.

    Raises:
        UserError: There is no such file, it is not an exported model, it is damaged,
            the runtime cannot run it, or it has no such length.

    Example:
        >>> translator = Translator("model-int8.tflite")
        >>> translator("phone")
        'F OW N'
        >>> [(t.text, t.score) for t in translator.translate(["phone"], n_best=2)[0]]
    """

    #: Whether translations come with an alignment.
    gives_alignment = True

    def __init__(
        self,
        path: str | Path,
        *,
        threads: int = 1,
        length: int | None = None,
        xnnpack: bool = True,
    ) -> None:
        container = read_container(path)
        if not container.is_checked:
            logger.warning(
                "%s: an older export without a checksum: nothing shows whether its "
                "weights are damaged; exporting again adds one", path,
            )  # fmt: skip
        self.manifest = container.manifest
        self._files = container.files
        self.target_kind = self.manifest.target.tokenizer
        self.target_normalization = self.manifest.target.normalization
        # A thread may come back to it: a signal handler may fork within a call.
        self._lock = threading.RLock()
        self._runners: dict[str, Any] = {}
        _forks.add(self)
        with _refused_by_runtime(path), self._lock:
            self._interpreter = _interpreter(container.data, threads, xnnpack)
            self.lengths, self.beam_size = _signatures(self._interpreter)
        if length is not None:
            if length not in self.lengths:
                known = ", ".join(map(str, self.lengths))
                raise UserError(f"{path}: no length {length}, expected one of {known}")
            self.lengths = {length: self.lengths[length]}
        self.max_code_points = max(self.lengths)
        # The first call prepares the graph: here, so that later ones are all alike.
        with _refused_by_runtime(path):
            for one in self.lengths:
                self.run(np.zeros((1, one), np.int32))

    @property
    def knowledge(self) -> Knowledge:
        """What the manifest and the vocabularies inside the file say of the model."""
        return self.manifest.knowledge(self._files)

    def __call__(self, text: str) -> str:
        """Returns the best translation of one text, a string."""
        return self.translate([text])[0][0].text

    def translate(
        self, texts: Sequence[str], *, beam_size: int | None = None, n_best: int = 1
    ) -> list[list[Translation]]:
        """Translates some texts.

        Args:
            texts: Strings; longer ones are cut, which is logged.
            beam_size: 1, or the beam that the file was exported with; None: that beam
                where ``n_best`` needs it or the recipe prefers it, else 1.
            n_best: How many translations of each text to return.

        Returns:
            For each text a list of ``n_best`` :class:`Translation`, best first; fewer
            where there are no more, as of an empty text.

        Raises:
            UserError: The file holds no search with such a beam.
            TypeError: ``texts`` is one string.
        """
        beam = self._needs_beam(beam_size, n_best)
        return [
            self._translate(text, beam, n_best)
            for text in prepare(texts, self.max_code_points)
        ]

    def tokens(self, translations: Sequence[Translation]) -> list[list[Token]]:
        """Returns an empty list: the outputs hold one score for a whole text."""
        return []

    def explain(self, text: str, *, beam_size: int | None = None) -> Explanation:
        """Translates a text and explains how; see :class:`TextTranslator`.

        The file tells which code points each one of the output came from.
        """
        source = one_text(text, self.max_code_points)
        (found,) = self.translate([source], beam_size=beam_size, n_best=beam_size or 1)
        return explain_outputs(
            found,
            form="file",
            attention=self.manifest.attention,
            has_exceptions=self.manifest.exceptions is not None,
        )

    def run(
        self, code_points: np.ndarray, *, beam: bool = False
    ) -> dict[str, np.ndarray]:
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
            outputs = self._runners[name](**{TEXT: code_points})
            return {name: np.array(value) for name, value in outputs.items()}

    def _needs_beam(self, beam_size: int | None, n_best: int) -> bool:
        """Whether to search with the beam."""
        if beam_size is None:
            preferred = self.manifest.preferred_beam_size
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

    def _translate(self, text: str, beam: bool, n_best: int) -> list[Translation]:
        length = min(one for one in self.lengths if one >= len(text))
        row = np.zeros((1, length), np.int32)
        row[0, : len(text)] = [ord(character) for character in text]
        outputs = self.run(row, beam=beam)
        translations = []
        for codes, score, alignment in zip(
            outputs[TEXT], outputs[SCORE], outputs[ALIGNMENT], strict=True
        ):
            if score < NO_SCORE:
                break
            translated = text_of(codes)
            alignment = alignment[: len(translated), : len(text)]
            translations.append(Translation(text, translated, float(score), alignment))
        return translations[:n_best]


class _Forks:
    """Delays forks while a translator is at work: the child's copy would never end.

    A child process has only the thread that forked, so a lock that another one held
    would stay held, and an interpreter that was within a call would stay there.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._translators: weakref.WeakSet[Translator] = weakref.WeakSet()
        self._held: list[list[Translator]] = []

    def add(self, translator: Translator) -> None:
        with self._lock:
            self._translators.add(translator)

    def before(self) -> None:
        self._lock.acquire()
        held = list(self._translators)
        for translator in held:
            translator._lock.acquire()
        self._held.append(held)

    def after(self) -> None:
        for translator in self._held.pop():
            translator._lock.release()
        self._lock.release()


_forks = _Forks()
if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(
        before=_forks.before,
        after_in_parent=_forks.after,
        after_in_child=_forks.after,
    )


def _interpreter(data: bytes, threads: int, xnnpack: bool) -> Any:
    # Imported here because it takes long, and reading a manifest does not need it.
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = OpResolverType.AUTO
    if not xnnpack:
        resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    # By content: a file that somebody cuts off while it is mapped ends the process.
    return Interpreter(
        model_content=data,
        num_threads=threads,
        experimental_op_resolver_type=resolver,
    )


@contextlib.contextmanager
def _refused_by_runtime(path: str | Path) -> Iterator[None]:
    """Turns the errors of a runtime that cannot run a model into a UserError."""
    try:
        yield
    except (ValueError, RuntimeError, KeyError) as error:
        raise UserError(
            f"{path}: the runtime cannot run it, expected a whole .tflite file that an "
            f"export has written, and a runtime that is new enough ({error})"
        ) from error


def _signatures(
    interpreter: Any,
) -> tuple[dict[int, tuple[str, str | None]], int | None]:
    """Returns ``{N: (greedy, beam signature)}``, and the beam size; None without."""
    names = interpreter.get_signature_list()
    lengths, beam_size = {}, None
    for name in names:
        if searches_with_beam(name):
            continue
        runner = interpreter.get_signature_runner(name)
        length = int(runner.get_input_details()[TEXT]["shape"][1])
        beam = beam_name(name)
        lengths[length] = (name, beam if beam in names else None)
        if beam in names:
            outputs = interpreter.get_signature_runner(beam).get_output_details()
            beam_size = int(outputs[TEXT]["shape"][0])
    return lengths, beam_size


def text_of(code_points: np.ndarray) -> str:
    """Returns the text in an output row: up to the first 0."""
    ends = np.flatnonzero(code_points == 0)
    return "".join(map(chr, code_points[: ends[0] if len(ends) else None]))


def read_manifest(path: str | Path) -> Manifest:
    """Reads the manifest inside an exported model, and makes sure the file is whole.

    Raises:
        UserError: There is no such file, no export has written it, or it is damaged.
    """
    return read_container(path).manifest
