"""The wrapper for C: on this processor, and on a phone's, which is emulated."""

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import ai_edge_litert

from answering.golden import Answers, Found, Runtime, output_of, read_golden
from common import say
from pocketseq.export.apps import description, description_name
from pocketseq.export.contract import MANIFEST, Manifest

_HERE = Path(__file__).parent
_APP = _HERE.parents[1] / "apps" / "c"
_LIBRARY = Path(ai_edge_litert.__file__).parent / "libLiteRt.so"
_OPTIONS = (
    "-std=c11", "-O2", "-D_POSIX_C_SOURCE=200809L", "-Wall", "-Wextra", "-Werror",
)  # fmt: skip
_TEMPLATE = "_model.h"


def c_runtimes(work: Path) -> Iterator[Runtime]:
    """Yields the C API on both processors.

    Args:
        work: Where programs are made, and the libraries for the other processor.
    """
    name = f"LiteRT {version('ai-edge-litert')}, C"
    yield Runtime(f"{name}, x86-64", partial(_answer, work))
    yield Runtime(f"{name}, aarch64 (emulated)", partial(_answer_emulated, work))


def _answer(work: Path, bundle: Path, file: str) -> Found:
    program = work / "c" / "answers"
    _compile(
        program, bundle, file, "gcc", _LIBRARY, "-lutf8proc",
        f"-Wl,-rpath,{_LIBRARY.parent}",
    )  # fmt: skip
    answers, (milliseconds, kilobytes) = _called([program], bundle, file)
    return Found(answers, milliseconds, kilobytes / 1e3)


def _answer_emulated(work: Path, bundle: Path, file: str) -> Found:
    """Lets qemu answer, whose times and sizes say nothing of a phone's."""
    root = phone_root(work / "aarch64")
    program = work / "c" / "answers-aarch64"
    _compile(
        program, bundle, file, "aarch64-linux-gnu-gcc", "-isystem",
        root / "usr/include", root / "ai_edge_litert/libLiteRt.so",
        root / "usr/lib/aarch64-linux-gnu/libutf8proc.so.2",
        "-Wl,-rpath,/ai_edge_litert", "-Wl,--allow-shlib-undefined",
    )  # fmt: skip
    emulator = ("qemu-aarch64-static", "-cpu", "cortex-a76", "-L", root)
    return Found(_called([*emulator, program], bundle, file)[0])


def _compile(
    program: Path, bundle: Path, file: str, compiler: str, *options: str | Path
) -> None:
    """Compiles the wrapper for one file of a bundle."""
    program.parent.mkdir(parents=True, exist_ok=True)
    header = _header(program.parent, bundle, file)
    output_of(
        [
            compiler, *_OPTIONS, "-DPOCKETSEQ_REMEMBERED=1",
            f'-DMODEL_HEADER="{header.name}"', f"-DMODEL={header.stem}",
            "-I", header.parent, "-I", _APP, _HERE / "c_driver.c", _APP / "pocketseq.c",
            *options, "-o", program,
        ]
    )  # fmt: skip


def _header(folder: Path, bundle: Path, file: str) -> Path:
    """Writes what the wrapper has to know of a file."""
    manifest = Manifest.from_json((bundle / MANIFEST).read_text(encoding="utf-8"))
    chosen = {name: one for name, one in manifest.models.items() if one.file == file}
    path = folder / description_name(manifest.name, _TEMPLATE)
    text = description(replace(manifest, models=chosen), _TEMPLATE)
    path.write_text(text, encoding="utf-8")
    return path


def _called(
    command: Sequence[str | Path], bundle: Path, file: str
) -> tuple[Answers, Sequence[float]]:
    """Returns the answers, and the numbers of the last line."""
    texts = read_golden(bundle).texts
    lines = [
        f"{signature} {text.encode().hex()}\n"
        for signature, some in texts.items()
        for text in some
    ]
    output = output_of([*command, bundle / file], input="".join(lines))
    *found, last = output.splitlines()
    answers = iter([list(_hypotheses(line)) for line in found])
    return (
        {signature: [next(answers) for _ in some] for signature, some in texts.items()},
        [float(number) for number in last.split()],
    )


def _hypotheses(line: str) -> Iterator[tuple[str, float]]:
    words = line.split()
    for text, score in zip(words[::2], words[1::2], strict=True):
        yield bytes.fromhex(text[1:]).decode(), float(score)


def phone_root(folder: Path) -> Path:
    """Returns a folder that is the root of an aarch64 machine, made where it is not."""
    if not (folder / "complete").is_file():
        say("fetching Debian's and LiteRT's libraries for aarch64")
        shutil.rmtree(folder, ignore_errors=True)
        output_of(
            [
                "bash", _HERE / "aarch64.sh", folder, sys.executable,
                version("ai-edge-litert"),
            ],
            env=os.environ | {"LC_ALL": "C"},
        )  # fmt: skip
    return folder / "root"
