"""The runtimes of Python: the newest, and older ones in environments of their own."""

import json
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from answering.golden import Found, Runtime, output_of, read_golden
from common import say
from pocketseq.export.contract import MANIFEST, Manifest
from pocketseq.pipeline.translation import prepare

_DRIVER = Path(__file__).with_name("python_driver.py")

#: The packages of an environment; the kernels to use; whether the runtime needs files
#: that were exported with ``--compatible``.
_ENVIRONMENTS: tuple[tuple[tuple[str, ...], tuple[str, ...], bool], ...] = (
    (("ai-edge-litert==2.3.0",), ("XNNPACK", "built-in", "CompiledModel"), False),
    (("ai-edge-litert==2.0.2",), ("XNNPACK", "built-in"), False),
    (("ai-edge-litert==1.4.0",), ("XNNPACK", "built-in"), False),
    (("ai-edge-litert==1.2.0",), ("XNNPACK", "built-in"), False),
    (("tflite-runtime==2.14.0", "numpy<2"), ("XNNPACK", "built-in"), True),
)


def python_runtimes(work: Path) -> Iterator[Runtime]:
    """Yields the runtimes of Python, newest first.

    Args:
        work: Where the environments are.
    """
    for packages, kernels, is_old in _ENVIRONMENTS:
        for one in kernels:
            name = f"{packages[0].replace('==', ' ')}, {one}"
            yield Runtime(name, partial(_answer, work, packages, one), is_old)


def _answer(
    work: Path, packages: Sequence[str], kernels: str, bundle: Path, file: str
) -> Found:
    """Lets a runtime answer, in a process of its environment."""
    manifest = Manifest.from_json((bundle / MANIFEST).read_text(encoding="utf-8"))
    longest = manifest.source.max_code_points
    rows = {
        signature: [
            [*map(ord, text), *[0] * (longest - len(text))]
            for text in prepare(texts, longest)
        ]
        for signature, texts in read_golden(bundle).texts.items()
    }
    request = {"file": str(bundle / file), "kernels": kernels, "rows": rows}
    reply = output_of([_python(work, packages), _DRIVER], input=json.dumps(request))
    report = json.loads(reply.splitlines()[-1])
    answers = {
        signature: [
            [("".join(map(chr, codes)), score) for codes, score in hypotheses]
            for hypotheses in found
        ]
        for signature, found in report["answers"].items()
    }
    return Found(answers, 1000 * report["load_seconds"], report["bytes"] / 1e6)


def _python(work: Path, packages: Sequence[str]) -> Path:
    """Returns the interpreter of an environment, which is made where it is not."""
    folder = work / packages[0]
    python, complete = folder / "bin" / "python", folder / "complete"
    if not complete.is_file():
        say(f"installing {' '.join(packages)}")
        output_of([sys.executable, "-m", "venv", "--clear", folder])
        pip = "-m pip install --quiet --disable-pip-version-check".split()
        output_of([python, *pip, *packages])
        complete.touch()
    return python
