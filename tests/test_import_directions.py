"""Tests of who imports whom: layers, pipeline, export and cli, upward never.

The directions are read from the sources, so that an import inside a function counts.
What works without TensorFlow is imported, in one process of its own.
"""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: What the modules of each package may import from ``pocketseq``.
ALLOWED = {
    "layers": {"layers"},
    "pipeline": {"layers", "pipeline"},
    "export": {"layers", "pipeline", "export"},
}

#: What works where only NumPy and ai-edge-litert are installed, or must be fast.
WITHOUT_TENSORFLOW = (
    "pocketseq",
    "pocketseq.export.demo.server",
    "pocketseq.export.demo.site",
    "pocketseq.export.places",
    "pocketseq.export.runtime",
    "pocketseq.pipeline.analysis.results",
    "pocketseq.pipeline.check",
    "pocketseq.pipeline.configuration",
    "pocketseq.pipeline.reports.analysis_page",
    "pocketseq.pipeline.reports.check_text",
    "pocketseq.pipeline.reports.explanation_page",
    "pocketseq.pipeline.reports.progress",
    "pocketseq.pipeline.reports.tables",
    "pocketseq.pipeline.text.matching",
)

# Prints, for each import in turn, which of the slow packages are there afterwards.
IMPORT_IN_TURN = """
import contextlib, importlib, io, json, runpy, sys

loaded = {}

def note(name):
    loaded[name] = sorted({"tensorflow", "keras"} & set(sys.modules))

program, *names = sys.argv[1:]
for name in names:
    importlib.import_module(name)
    note(name)
sys.argv = [program, "--help"]
answer = io.StringIO()
with contextlib.redirect_stdout(answer):
    try:
        runpy.run_path(program, run_name="__main__")
    except SystemExit as end:
        status = end.code
note("--help")
print(json.dumps([loaded, status, answer.getvalue()]))
"""


def imports_of(source: str) -> set[str]:
    """Returns what a module imports from this project, by the part of the long name.

    ``from pocketseq.layers.lstm import LSTM`` is ``"layers"``, as is ``from pocketseq
    import layers``; a relative import is ``"."``.
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            names = ["pocketseq.."]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            package, _, rest = name.partition(".")
            if package == "pocketseq":
                found.add(rest if rest == "." else rest.partition(".")[0])
            elif package in {*ALLOWED, "cli"}:
                found.add(f"{package}, not by its long name")
    return found


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("import numpy as np", set()),
        ("import pocketseq.pipeline.runs", {"pipeline"}),
        ("import json, pocketseq.export as out", {"export"}),
        ("from pocketseq.layers.lstm import LSTM", {"layers"}),
        ("from pocketseq import layers, export", {"layers", "export"}),
        ("import pocketseq", {""}),
        ("from pocketseq import load", {"load"}),
        ("from pocketseq_tools import layers", set()),
        ("from ..pipeline import runs", {"."}),
        ("from layers import LSTM", {"layers, not by its long name"}),
        ("def f():\n    if True:\n        import pocketseq.cli", {"cli"}),
    ],
)
def test_every_form_of_import_is_seen(line, expected):
    assert imports_of(line) == expected


@pytest.mark.parametrize("package", ALLOWED)
def test_a_package_imports_nothing_from_above(package):
    imported = {
        str(path.relative_to(ROOT)): imports_of(path.read_text(encoding="utf-8"))
        for path in (ROOT / package).rglob("*.py")
    }
    assert len(imported) > 1
    upward = {path: names - ALLOWED[package] for path, names in imported.items()}
    assert {path: names for path, names in upward.items() if names} == {}


def test_what_must_work_without_tensorflow_does_not_import_it():
    result = subprocess.run(
        [sys.executable, "-c", IMPORT_IN_TURN, ROOT / "cli.py", *WITHOUT_TENSORFLOW],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    loaded, status, answer = json.loads(result.stdout)
    assert loaded == {name: [] for name in (*WITHOUT_TENSORFLOW, "--help")}
    assert status == 0
    assert "train" in answer and "export" in answer
