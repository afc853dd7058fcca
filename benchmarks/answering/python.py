"""The runtimes of Python: the newest, and older ones in environments of their own."""

import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from answering.golden import Found, Runtime, answered, output_of
from common import say

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
    return answered([_python(work, packages), _DRIVER], bundle, file, kernels=kernels)


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
