"""Progress bars on standard error, for a person at a terminal."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from pocketseq.pipeline.training.progress import Progress as TrainingProgress

# Texts translated between two looks at a progress bar.
_BLOCK = 256


@contextlib.contextmanager
def training_progress(
    *,
    show: bool = True,
) -> Iterator[Callable[[TrainingProgress], None]]:
    """Shows a bar with the loss, dev metric, speed and time left.

    Yields:
        A function to call with the progress of the run.
    """
    console = Console(stderr=True)
    if not (show and console.is_terminal):
        yield lambda progress: None
        return
    columns = [
        BarColumn(bar_width=12),
        TextColumn("{task.fields[shown]}"),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("training", total=None, shown="")

        def on_progress(progress: TrainingProgress) -> None:
            dev = ""
            if progress.dev:
                dev = f"dev {progress.metric} {progress.dev[progress.metric]:.1f}  "
            bar.update(
                task,
                completed=progress.update,
                total=progress.updates,
                shown=f"{progress.update}/{progress.updates}  "
                f"loss {progress.loss:.3f}  {dev}"
                f"{progress.tokens_per_second:,.0f} tokens/s",
            )

        yield on_progress


@contextlib.contextmanager
def counting(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Shows a bar of work that is counted; threads may share it.

    Args:
        title: The work, for people.
        total: How much there is.

    Yields:
        A function to call with how much more is done.
    """
    console = Console(stderr=True)
    with Progress(
        console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done: bar.advance(task, done)


def translate_all(
    translator: Any, texts: Sequence[str], *, beam_size: int | None = None
) -> list[Any]:
    """Translates texts, with a bar for the patient.

    Args:
        translator: Any that has ``translate``.
        texts: Strings.
        beam_size: As in ``translate``.

    Returns:
        As ``translate`` does.
    """
    found: list[Any] = []
    with counting("translating", len(texts)) as advance:
        for start in range(0, len(texts), _BLOCK):
            block = texts[start : start + _BLOCK]
            found += translator.translate(block, beam_size=beam_size)
            advance(len(block))
    return found
