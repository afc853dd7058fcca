"""Shared by the benchmarks that train models: trials that can be stopped and resumed.

A trial is a run folder that the command line fills, in a process of its own: what is
there already is not made again. Imports no TensorFlow.
"""

import functools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

import pocketseq
from common import say
from pocketseq.export.recipes import RECIPES as EVERY_RECIPE
from pocketseq.pipeline.errors import UserError

CLI = Path(__file__).parents[1] / "cli.py"

# In the run folder: the command that trains, and how many seconds each kind of command
# took, which a resumed one adds to.
_NOTES = "trial.json"

RECIPES = ("float32", "int8")

#: Pairs: a file of lines source TAB target, or the name of an installed dictionary.
File = Path | str

#: From an exported model and pairs to metrics by name.
Measure = Callable[[Path, File], dict[str, Any]]


@dataclass(frozen=True)
class Trial:
    """A model to train, export and measure.

    ``name``: in the report. ``run``: its folder. ``command``: of the command line, with
    all but ``--run``: ``train ...`` or ``distill ...``. ``max_loss``: that quantization
    may cost, in points; ``export``: more options of the export. ``minutes``: of
    training, interruptions taken together, after which it ends; None: no limit.
    ``teachers``: trials that are trained first, as the command needs them.
    """

    name: str
    run: Path
    command: Sequence[str]
    max_loss: float = 5.0
    export: Sequence[str] = ()
    minutes: float | None = None
    teachers: Sequence["Trial"] = ()

    def train(self) -> None:
        """Trains the run to its end, or goes on with it; its teachers before.

        Raises:
            ClickException: The command has failed, or another one began the run.
        """
        notes = self._notes()
        if notes.get("command", list(self.command)) != list(self.command):
            raise click.ClickException(
                f"{self.run}: another command began it ({' '.join(notes['command'])}), "
                f"expected {' '.join(self.command)}; --runs names another folder"
            )
        if notes.get("trained"):
            return
        for teacher in self.teachers:
            teacher.train()
        exists = (self.run / "config.toml").is_file()
        command = ["train", "--resume"] if exists else list(self.command)
        say(f"{self.name}: {' '.join(command)}")
        if self.minutes is not None:
            left = self.minutes - notes.get("training", 0.0) / 60
            # The least: a run that has never been measured has nothing to export.
            command += ["--minutes", f"{max(left, 0.01):.2f}"]
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

    def report(
        self, files: Mapping[str, File], measure: Measure = pocketseq.evaluate
    ) -> dict[str, Any]:
        """Trains, exports and measures.

        Args:
            files: ``{part: pairs to measure on}``.
            measure: What to find out about each part.

        Returns:
            ``minutes`` of training, without those of teachers; for each quantization
            recipe its ``bytes`` and, for each part, what ``measure`` returns.
        """
        self.train()
        found: dict[str, Any] = {"minutes": self._notes()["training"] / 60}
        for recipe, model in self.exported().items():
            measured = {part: measure(model, file) for part, file in files.items()}
            found[recipe] = {"bytes": model.stat().st_size, **measured}
        return found

    def _run(self, words: list[str], kind: str) -> None:
        started = time.monotonic()
        try:
            done = subprocess.run([sys.executable, str(CLI), *words], stdout=sys.stderr)
        finally:  # also where somebody stops it
            if self.run.is_dir():
                before = self._notes().get(kind, 0.0)
                notes = {kind: before + time.monotonic() - started}
                self._note(command=list(self.command), **notes)
        if done.returncode:
            raise click.ClickException(f"{self.name}: {words[0]} has failed")

    def _notes(self) -> dict[str, Any]:
        path = self.run / _NOTES
        return json.loads(path.read_text()) if path.is_file() else {}

    def _note(self, **values: Any) -> None:
        (self.run / _NOTES).write_text(json.dumps(self._notes() | values))


@dataclass(frozen=True)
class Plan:
    """What the options of a benchmark say about all its trials.

    ``runs``: the folder where they are kept; ``settings``: changes to the recipe;
    ``minutes``: of training for each; ``dev_only``: leave the test sets alone.
    """

    runs: Path
    recipe: str
    seed: int = 1
    settings: tuple[str, ...] = ()
    minutes: float | None = None
    dev_only: bool = False

    def trial(
        self,
        name: str,
        train: File,
        dev: File,
        *,
        recipe: str = "",
        settings: Sequence[str] = (),
        export: Sequence[str] = (),
    ) -> Trial:
        """Returns a trial of the recipe on some pairs.

        Args:
            name: In the report, and of the run folder.
            train, dev: The pairs.
            recipe: Another one than that of the plan; "": none.
            settings: Changes to the recipe, before those of the plan.
            export: More options of the export.
        """
        command = ["train", recipe or self.recipe]
        command += ["--train", _found_anywhere(train), "--dev", _found_anywhere(dev)]
        command += self._changes(*settings)
        run = self.runs / name
        return Trial(name, run, command, export=export, minutes=self.minutes)

    def student(self, name: str, teachers: Sequence[Trial]) -> Trial:
        """Returns a trial of the recipe that learns from others.

        Args:
            name: In the report, and of the run folder.
            teachers: Trials of the same pairs.
        """
        command = ["distill", *(str(one.run.absolute()) for one in teachers)]
        command += ["--recipe", self.recipe, *self._changes()]
        return Trial(
            name, self.runs / name, command, minutes=self.minutes, teachers=teachers
        )

    def _changes(self, *settings: str) -> list[str]:
        """Returns the options for the seed, some settings, and those of the plan."""
        changes = (f"training.seed={self.seed}", *settings, *self.settings)
        return [word for change in changes for word in ("--set", change)]

    def parts(self, dev: File, **tests: File) -> dict[str, File]:
        """Returns the pairs to measure on by name, without tests if only dev counts."""
        return {"dev": dev, **({} if self.dev_only else tests)}

    def described(self) -> dict[str, Any]:
        """Returns what a report must say, so that it can be repeated."""
        return {
            "recipe": self.recipe,
            "seed": self.seed,
            "settings": list(self.settings),
            "minutes": self.minutes,
        }


def _found_anywhere(file: File) -> str:
    """Returns the absolute path of a file; names of dictionaries are not paths."""
    return str(file.absolute()) if isinstance(file, Path) else file


#: Where a benchmark's data are, as ``data``.
data_option = click.option(
    "--data", required=True, metavar="DIR",
    type=click.Path(exists=True, path_type=Path, file_okay=False),
)  # fmt: skip


def plan_options(runs: str, recipe: str) -> Callable[[Callable[..., None]], Any]:
    """Returns a decorator: gives a command the options of a :class:`Plan`, as ``plan``.

    Args:
        runs: Where trainings are kept by default.
        recipe: The recipe by default; "": each trial has its own.
    """
    options = [
        click.option(
            "--runs", default=runs, show_default=True,
            type=click.Path(path_type=Path), help="Where the trainings are kept.",
        ),
        click.option("--recipe", default=recipe, show_default=bool(recipe)),
        click.option("--seed", default=1, show_default=True),
        click.option(
            "--set", "settings", metavar="SECTION.KEY=VALUE", multiple=True,
            help="Change one value of the recipe, for all trainings.",
        ),
        click.option("--minutes", type=float, help="End each training after this."),
        click.option(
            "--dev-only", is_flag=True,
            help="Leave the test sets alone, while anything changes.",
        ),
    ]  # fmt: skip

    def with_plan(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(
            runs: Path,
            recipe: str,
            seed: int,
            settings: tuple[str, ...],
            minutes: float | None,
            dev_only: bool,
            **others: Any,
        ) -> None:
            plan = Plan(runs, recipe, seed, settings, minutes, dev_only)
            try:
                command(plan, **others)
            except UserError as error:
                raise click.ClickException(str(error)) from error

        for option in reversed(options):
            run = option(run)
        return run

    return with_plan


def export_every_recipe(run: Path, folder: Path, *options: str) -> None:
    """Exports a run by every quantization recipe, whatever that costs.

    Raises:
        ClickException: A file differs from Keras, or cannot be written.
    """
    command = ["export", "--model", str(run), "--tflite", "--output", str(folder)]
    command += [f"--quantize={name}" for name in EVERY_RECIPE]
    words = [sys.executable, str(CLI), *command, "--max-loss=100", *options]
    if subprocess.run(words, stdout=sys.stderr).returncode:
        raise click.ClickException(f"{run}: the export has failed")


def write_pairs(path: Path, pairs: Iterable[tuple[str, str]]) -> Path:
    """Writes lines of source TAB target, and returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(f"{source}\t{target}\n" for source, target in pairs)
    return path


def macro_average(reports: Sequence[dict[str, Any]], *keys: str) -> float:
    """Returns the mean over reports of the value under nested keys."""
    values = []
    for report in reports:
        value: Any = report
        for key in keys:
            value = value[key]
        values.append(float(value))
    return sum(values) / len(values)
