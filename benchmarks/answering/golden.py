"""Golden lines, and what a runtime made of them."""

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from pocketseq.export.contract import (
    GOLDEN,
    GOLDEN_BEAM,
    MANIFEST,
    TRANSLATE,
    TRANSLATE_BEAM,
    Manifest,
)
from pocketseq.pipeline.translation import prepare

#: By signature, for each text its translations, best first, and their scores.
Answers = Mapping[str, Sequence[Sequence[tuple[str, float]]]]


@dataclass(frozen=True)
class Golden:
    """The golden lines of a bundle: by signature, what an app is given, and answers."""

    texts: Mapping[str, Sequence[str]]
    answers: Answers


@dataclass(frozen=True)
class Found:
    """What a runtime did.

    ``load_milliseconds``: from the bytes of the file to the answer to a first text.
    ``megabytes``: by how much that, and all other calls, raised the peak of memory.
    None: not measured.
    """

    answers: Answers
    load_milliseconds: float | None = None
    megabytes: float | None = None


@dataclass(frozen=True)
class Runtime:
    """One way to run a file.

    ``answer``: from a bundle and the name of a file in it to what came out.
    ``is_old``: whether it needs a file that was exported with ``--compatible``.
    """

    name: str
    answer: Callable[[Path, str], Found]
    is_old: bool = False


def read_golden(bundle: Path) -> Golden:
    """Reads the golden lines of a bundle, of both searches."""
    texts: dict[str, list[str]] = {}
    answers: dict[str, list[list[tuple[str, float]]]] = {}
    for signature, name in ((TRANSLATE, GOLDEN), (TRANSLATE_BEAM, GOLDEN_BEAM)):
        # Lines end with \n; texts may hold other line separators.
        lines = (bundle / name).read_text(encoding="utf-8").split("\n")
        found = [json.loads(line) for line in lines if line]
        texts[signature] = [line["text"] for line in found]
        answers[signature] = [_answers(line) for line in found]
    return Golden(texts, answers)


def _answers(line: Mapping[str, Any]) -> list[tuple[str, float]]:
    if "translation" in line:
        return [(line["translation"], line["score"])]
    return list(zip(line["translations"], line["scores"], strict=True))


def compared(golden: Golden, found: Answers) -> dict[str, Any]:
    """Returns how many lines are equal, of how many, and how far scores are off."""
    differences = [0.0]
    equal = lines = 0
    for signature, expected in golden.answers.items():
        for wanted, given in zip(expected, found[signature], strict=True):
            lines += 1
            if [text for text, _ in wanted] == [text for text, _ in given]:
                equal += 1
                differences += [
                    abs(score - other)
                    for (_, score), (_, other) in zip(wanted, given, strict=True)
                ]
    return {"lines": lines, "equal": equal, "score_difference": max(differences)}


def answered(
    driver: Sequence[str | Path], bundle: Path, file: str, **options: Any
) -> Found:
    """Lets a driver answer that speaks as ``python_driver.py`` does.

    Args:
        driver: Its command.
        bundle, file: See :class:`Runtime`.
        options: Go into the request as they are.
    """
    manifest = Manifest.from_json((bundle / MANIFEST).read_text(encoding="utf-8"))
    longest = manifest.source.max_code_points
    rows = {
        signature: [
            [*map(ord, text), *[0] * (longest - len(text))]
            for text in prepare(texts, longest)
        ]
        for signature, texts in read_golden(bundle).texts.items()
    }
    request = {"file": str(bundle / file), "rows": rows, **options}
    reply = output_of(driver, input=json.dumps(request))
    report = json.loads(reply.splitlines()[-1])
    answers = {
        signature: [
            [("".join(map(chr, codes)), score) for codes, score in hypotheses]
            for hypotheses in found
        ]
        for signature, found in report["answers"].items()
    }
    size = report["bytes"]
    return Found(
        answers, 1000 * report["load_seconds"], None if size is None else size / 1e6
    )


def output_of(command: Sequence[str | Path], **options: Any) -> str:
    """Runs a program and returns what it printed.

    Raises:
        ClickException: It has failed, or is not there.
    """
    words = list(map(str, command))
    try:
        done = subprocess.run(words, capture_output=True, encoding="utf-8", **options)
    except FileNotFoundError as error:
        raise click.ClickException(f"{words[0]}: not installed") from error
    if done.returncode:
        # The end of a report has the reason.
        said = done.stderr.strip() or done.stdout.strip() or "nothing said"
        raise click.ClickException(
            f"{words[0]}: status {done.returncode}: {said.splitlines()[-1]}"
        )
    return done.stdout
