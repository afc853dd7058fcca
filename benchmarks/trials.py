"""Shared by the benchmarks that train models: trials that can be stopped and resumed.

A trial is a run folder that the command line fills, in a process of its own: what is
there already is not made again. Imports no TensorFlow.
"""

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

import pocketseq
from common import say

CLI = Path(__file__).parents[1] / "cli.py"

# In the run folder: how many seconds each command took, which a resumed one adds to.
_SECONDS = "trial.json"

RECIPES = ("float32", "int8")


@dataclass(frozen=True)
class Trial:
    """A model to train, export and measure.

    ``name``: in the report. ``run``: its folder. ``command``: of the command line, with
    all but ``--run``: ``train ...`` or ``distill ...``. ``max_loss``: that quantization
    may cost, in points; ``export``: more options of the export.
    """

    name: str
    run: Path
    command: Sequence[str]
    max_loss: float = 5.0
    export: Sequence[str] = ()

    def train(self) -> None:
        """Trains the run to its end, or goes on with it.

        Raises:
            ClickException: The command has failed.
        """
        if self._seconds().get("trained"):
            return
        exists = (self.run / "config.toml").is_file()
        command = ["train", "--resume"] if exists else list(self.command)
        say(f"{self.name}: {' '.join(command)}")
        self._run([*command, "--run", str(self.run), "--quiet"], "training")
        self._note(trained=1.0)

    def exported(self) -> dict[str, Path]:
        """Returns the exported files by quantization recipe, written where missing."""
        folder = self.run / "export"
        if not (folder / "manifest.json").is_file():
            recipes = [f"--quantize={recipe}" for recipe in RECIPES]
            command = ["export", "--model", str(self.run), "--tflite", *recipes]
            command += ["--max-loss", str(self.max_loss), *self.export]
            self._run(command, "export")
        return {recipe: folder / f"model-{recipe}.tflite" for recipe in RECIPES}

    def report(self, files: Mapping[str, Path]) -> dict[str, Any]:
        """Trains, exports and measures.

        Args:
            files: ``{part: pairs to measure on}``.

        Returns:
            ``minutes`` of training; for each quantization recipe its ``bytes`` and, for
            each part, the metrics that ``evaluate`` prints.
        """
        self.train()
        found: dict[str, Any] = {"minutes": self._seconds()["training"] / 60}
        for recipe, model in self.exported().items():
            found[recipe] = {"bytes": model.stat().st_size}
            for part, file in files.items():
                found[recipe][part] = pocketseq.evaluate(model, file)
        return found

    def _run(self, words: list[str], kind: str) -> None:
        started = time.monotonic()
        done = subprocess.run([sys.executable, str(CLI), *words], stdout=sys.stderr)
        if self.run.is_dir():
            before = self._seconds().get(kind, 0.0)
            self._note(**{kind: before + time.monotonic() - started})
        if done.returncode:
            raise click.ClickException(f"{self.name}: {words[0]} has failed")

    def _seconds(self) -> dict[str, float]:
        path = self.run / _SECONDS
        return json.loads(path.read_text()) if path.is_file() else {}

    def _note(self, **values: float) -> None:
        (self.run / _SECONDS).write_text(json.dumps(self._seconds() | values))


def macro_average(reports: Sequence[dict[str, Any]], *keys: str) -> float:
    """Returns the mean over reports of the value under nested keys."""
    values = []
    for report in reports:
        value: Any = report
        for key in keys:
            value = value[key]
        values.append(float(value))
    return sum(values) / len(values)
