"""Starts a training run, or goes on with one, on each of its workers."""

import logging
from pathlib import Path
from typing import Any

from pocketseq.pipeline.configuration import Config
from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.reports.progress import training_progress
from pocketseq.pipeline.runs import Run, open_run
from pocketseq.pipeline.training.cluster import join_cluster, share
from pocketseq.pipeline.training.loop import Summary, train
from pocketseq.pipeline.training.preparation import start_run


def start_and_train(
    config: Config | None,
    folder: Path,
    *,
    base: str | Path | None = None,
    minutes: float | None = None,
    show_progress: bool = False,
) -> Summary:
    """Trains a run, with the other workers of the cluster if there are any.

    Args:
        config: Of a new run; None: the run in ``folder`` goes on.
        folder: Of the run.
        base: The folder of a trained run to start from.
        minutes: Stop after this long.
        show_progress: Whether the chief shows a progress bar.

    Raises:
        UserError, TrainingStopped: See
            :func:`pocketseq.pipeline.training.loop.train`.
    """
    run = Run(folder)
    cluster = join_cluster()
    if not cluster.is_chief:
        logging.getLogger("pocketseq").setLevel(logging.WARNING)

    def prepare() -> dict[str, Any]:
        if config is None:
            open_run(run.folder)
        else:
            _refuse_overwriting(run)
            if config.distillation.teachers and cluster.size > 1:
                raise UserError(
                    f"TF_CONFIG: names {cluster.size} workers, expected one: a student "
                    f"is trained on one machine"
                )
            start_run(
                run, config, open_run(base) if base else None, workers=cluster.size
            )
        return {}

    share(cluster, prepare)
    with training_progress(show=show_progress and cluster.is_chief) as on_progress:
        return train(run, minutes=minutes, cluster=cluster, on_progress=on_progress)


def _refuse_overwriting(run: Run) -> None:
    if run.folder.exists() and (not run.folder.is_dir() or any(run.folder.iterdir())):
        raise UserError(
            f"{run.folder}: exists already, expected --resume to go on with it, or "
            f"another --run"
        )
