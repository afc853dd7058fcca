"""Measures a ``.tflite`` file as an app uses it: one text at a time, no TensorFlow.

Timings mean little by themselves: compare those of one machine and one run.
"""

import gc
import json
import resource
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from pocketseq.export.contract import GOLDEN, TARGET_VOCABULARY
from pocketseq.export.places import find_model
from pocketseq.export.runtime import Translator, read_manifest
from pocketseq.export.tflite.container import read_container
from pocketseq.pipeline.data.corpora import Corpus
from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.runs import Run

# Enough for a 95th percentile.
_TEXTS = 1000

_CONTINUATION = "##"


def exported_files(path: str | None) -> list[Path]:
    """Returns the .tflite files that a path names.

    Args:
        path: A file, a run folder, an export, or the name of a model in the box; None:
            the newest run under ``runs/``.

    Raises:
        UserError: There are none.
    """
    folder = find_model(path, "a .tflite file or a run folder")
    if folder.is_file():
        return [folder]
    files = sorted([*folder.glob("*.tflite"), *folder.glob("export/*.tflite")])
    if not files:
        raise UserError(
            f"{folder}: no .tflite file in it or its export folder, expected an "
            f"export (export --model {folder} --tflite)"
        )
    return files


def benchmark_texts(path: str | Path) -> list[str]:
    """Returns texts for a model: from its dev set, its test set or its training set.

    A file in the export folder of its run is measured on the run's own files. Where
    none of them can be read here, on those of ``golden.jsonl`` beside the file.

    Raises:
        UserError: There is no ``golden.jsonl``, either.
    """
    data = read_manifest(path).recipe["data"]
    run = Run(Path(path).resolve().parents[1])
    if run.config_path.is_file():
        with suppress(UserError):  # somebody else's config.toml
            data = asdict(run.config().data)
    for source, target in (
        (data["dev"], data["dev_target"]),
        (data["test"], data.get("test_target", "")),
        (data["train"], data["train_target"]),
    ):
        try:
            corpus = Corpus(source, target or None, skip_bad_lines=True)
            pairs = list(islice(corpus, _TEXTS))
        except UserError:
            continue
        if pairs:
            return list(dict.fromkeys(pair.source for pair in pairs))
    golden = Path(path).with_name(GOLDEN)
    if not golden.is_file():
        raise UserError(
            f"{path}: neither its data ({data['dev'] or data['train']}) can be read "
            f"here nor {golden}, expected one of them for texts to measure with"
        )
    # Lines end with \n; texts may hold other line separators.
    lines = golden.read_text(encoding="utf-8").split("\n")
    return [text for line in filter(None, lines) if (text := json.loads(line)["text"])]


def measure(path: str | Path, texts: Sequence[str]) -> dict[str, Any]:
    """Measures how a file translates some texts, one by one, on one thread.

    Args:
        path: A ``.tflite`` file that an export has written.
        texts: The texts to translate.

    Returns:
        A dict: ``file``, ``bytes``, ``load_milliseconds`` (from the path to the first
        answer), ``texts``, ``p50_milliseconds``, ``p95_milliseconds`` and
        ``mean_milliseconds`` per text, ``milliseconds_per_token`` (output tokens, end
        token included), ``model_megabytes`` (the growth of the process' peak memory),
        ``peak_megabytes`` (of the whole process).

    Raises:
        UserError: There is no such file, no export has written it, or it is damaged.
    """
    gc.collect()
    before = _peak_megabytes()
    started = time.perf_counter()
    translator = Translator(path)
    loaded = time.perf_counter() - started
    seconds, tokens = [], 0
    count = _token_counter(path, translator.target_kind)
    for text in texts:
        started = time.perf_counter()
        (best,) = translator.translate([text])[0]
        seconds.append(time.perf_counter() - started)
        tokens += count(best.text) + 1
    peak = _peak_megabytes()
    p50, p95 = 1000 * np.percentile(seconds, [50, 95])
    return {
        "file": str(path),
        "bytes": Path(path).stat().st_size,
        "load_milliseconds": round(1000 * loaded, 1),
        "texts": len(texts),
        "p50_milliseconds": round(float(p50), 4),
        "p95_milliseconds": round(float(p95), 4),
        "mean_milliseconds": round(1000 * float(np.mean(seconds)), 4),
        "milliseconds_per_token": round(1000 * sum(seconds) / tokens, 4),
        "model_megabytes": round(peak - before, 1),
        "peak_megabytes": round(peak, 1),
    }


def _peak_megabytes() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _token_counter(path: str | Path, kind: str) -> Callable[[str], int]:
    """Returns a function that counts the tokens of an output text."""
    if kind == "character":
        return len
    if kind == "word":
        return lambda text: len(text.split())
    vocabulary = read_container(path).files[TARGET_VOCABULARY]
    lines = vocabulary.decode().split("\n")[:-1]
    pieces = {json.loads(f'"{line}"') for line in lines}
    return lambda text: sum(_count_pieces(word, pieces) for word in text.split())


def _count_pieces(word: str, pieces: Iterable[str]) -> int:
    """Counts the pieces of a word by longest match, each at least one character."""
    count, mark = 0, ""
    while word:
        longest = max(
            (end for end in range(1, len(word) + 1) if mark + word[:end] in pieces),
            default=1,
        )
        word, mark = word[longest:], _CONTINUATION
        count += 1
    return count
