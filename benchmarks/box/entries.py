"""Entries: what is to be in the box, as ``models/box.toml`` says."""

import dataclasses
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from pocketseq.export.recipes import DEFAULT
from pocketseq.pipeline.configuration import Config
from pocketseq.pipeline.data.installed import held_out_part, is_installed
from pocketseq.pipeline.runs import Run, compose

# In place of a corpus: the exceptions are those of the training corpus.
_OF_TRAINING = "training"

# Points of the main metric that int8 may cost; the card says how good the file is.
_MAX_LOSS = "1"

# What a run decides when it begins, or where it runs.
_DECIDED = ("training.metric", "training.parts", "training.precision")


@dataclass(frozen=True)
class Entry:
    """A model in the box, and how it is made.

    Args:
        name: Of the model, its folder and its run.
        summary: A sentence on what it does.
        recipe: To train by.
        train, dev, test: Corpora that install, or names of files in the folder of data;
            ``test`` may be left out where the dictionary has such a part.
        examples: Texts that the card shows with the model's answers.
        settings: Changes to the recipe, ``section.key=value`` each.
        exceptions: The dictionary that the file must answer exactly, or ``training``;
            empty: none.
        beam: Of the signatures that search with one; 0: there are none.
        license: Of the data; empty: as the dictionary states.
        limits: Sentences on what the figures do not say.
    """

    name: str
    summary: str
    recipe: str
    train: str
    dev: str
    examples: tuple[str, ...]
    test: str = ""
    settings: tuple[str, ...] = ()
    exceptions: str = ""
    beam: int = 0
    license: str = ""
    limits: tuple[str, ...] = ()

    @property
    def dictionary(self) -> str:
        """What the file answers exactly, for people."""
        if self.exceptions == _OF_TRAINING:
            return "the training data"
        return f"`{self.exceptions}`"

    @property
    def files(self) -> list[str]:
        """The files that are not part of the project."""
        corpora = (self.train, self.dev, self.test)
        return [name for name in corpora if name and not is_installed(name)]

    def corpora(self, data: Path | None) -> dict[str, str]:
        """Returns ``{"train": corpus, "dev": corpus, "test": corpus}``.

        Args:
            data: The folder of the files.
        """
        named = {
            "train": self.train,
            "dev": self.dev,
            "test": self.test or held_out_part(self.train),
        }
        return {
            part: str(data / name) if data and name in self.files else name
            for part, name in named.items()
        }

    def changes(self, data: Path | None) -> list[str]:
        """Returns the settings of the run."""
        stated = {
            "name": self.name,
            "data.test": self.corpora(data)["test"] if self.test else "",
            "data.license": self.license,
        }
        given = [f"{key}={value}" for key, value in stated.items() if value]
        return [*given, *self.settings]

    def training_command(self, data: Path | None) -> list[str]:
        """Returns the words of the command that trains, but for the folder."""
        corpora = self.corpora(data)
        return [
            "train", self.recipe, "--train", corpora["train"], "--dev", corpora["dev"],
            *(word for change in self.changes(data) for word in ("--set", change)),
        ]  # fmt: skip

    def export_command(self, *, plain: bool = False) -> list[str]:
        """Returns the words of the command that exports, but for the folders.

        Args:
            plain: Whether to leave out the beam and the exceptions.
        """
        words = ["export", "--tflite", "--quantize", DEFAULT, "--max-loss", _MAX_LOSS]
        if self.beam and not plain:
            words += ["--beam", str(self.beam)]
        if self.exceptions and not plain:
            # Last, because FILE may be left out.
            words += ["--exceptions"]
            words += [self.exceptions] * (self.exceptions != _OF_TRAINING)
        return words

    def check_run(self, run: Run, data: Path | None) -> None:
        """Makes sure that a run is the one that this entry describes.

        Raises:
            ClickException: It was trained in another way.
        """
        corpora = self.corpora(data)
        expected = compose(
            self.recipe,
            (corpora["train"], None, corpora["dev"], None),
            settings=self.changes(data),
        )
        if found := difference(expected, run.config()):
            key, wanted, there = found
            raise click.ClickException(
                f"{run.folder}: was trained with {key} = {there!r}, expected "
                f"{wanted!r} for {self.name}: remove it to train anew, or name other "
                f"--runs"
            )


def read_entries(path: Path) -> list[Entry]:
    """Reads the table of the models in the box."""
    with open(path, "rb") as file:
        tables = tomllib.load(file)
    return [_entry(name, table) for name, table in tables.items()]


def _entry(name: str, table: Mapping[str, Any]) -> Entry:
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in table.items()
    }
    return Entry(name, **values)


def difference(expected: Config, found: Config) -> tuple[str, Any, Any] | None:
    """Returns the first key that differs, with both values; None: none does.

    What a run decides by itself is passed over: ``auto``, and what depends on the
    machine.
    """
    there = dict(_leaves(dataclasses.asdict(found)))
    for key, value in _leaves(dataclasses.asdict(expected)):
        decided = value == "auto" or (key in _DECIDED and not value)
        if not decided and value != there[key]:
            return key, value, there[key]
    return None


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
