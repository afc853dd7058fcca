"""Checkpoints: the updater's variables and the training state, saved and restored."""

import dataclasses
import logging

import numpy as np

from pocketseq.pipeline.configuration import Config
from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.runs import DamagedFile, Run, assign_arrays, read_arrays
from pocketseq.pipeline.training.cluster import Workers, share
from pocketseq.pipeline.training.state import TrainingState
from pocketseq.pipeline.training.updater import Updater

logger = logging.getLogger(__name__)


def write_checkpoint(run: Run, updater: Updater, state: TrainingState) -> None:
    """Writes a checkpoint from which :func:`restore` goes on exactly.

    Raises:
        UserError: It cannot be written; the ones before are left as they are.
    """
    arrays = _values(updater) | state.to_arrays()
    run.save_checkpoint(state.update_number, arrays)


def restore(
    run: Run, config: Config, updater: Updater, cluster: Workers
) -> TrainingState:
    """Goes back to the newest whole checkpoint, or to the weights to start from.

    Args:
        run: On the chief, its folder is read, and gets a first checkpoint.
        config: The recipe of the run.
        updater: Gets the values of its variables, on all workers.
        cluster: The workers that go on together.

    Raises:
        UserError: The run has results but no checkpoint, or only damaged ones.
    """

    def read() -> dict[str, np.ndarray]:
        checkpoint = run.load_checkpoint()
        if checkpoint is None:
            _refuse_to_start_over(run)
            if run.initial_path.is_file():
                return read_arrays(run.initial_path)
        return checkpoint or {}

    arrays = share(cluster, read)
    if TrainingState.is_in(arrays):
        _assign(updater, arrays)
        return _resumed(run, config, cluster, arrays)
    if arrays:
        weights = {weight.path: weight for weight in updater.model.weights}
        assign_arrays(weights, arrays, run.initial_path)
        updater.restart_averages()
        logger.info("started from the weights of %s", config.base)
    elif cluster.size > 1:  # the same seed, but let nobody differ by a bit
        _assign(updater, share(cluster, lambda: _values(updater)))
    state = TrainingState.of_start(config.metric, cluster.size)
    if cluster.is_chief:
        # So a run without a checkpoint is one that has lost them.
        write_checkpoint(run, updater, state)
    return state


def _values(updater: Updater) -> dict[str, np.ndarray]:
    return {name: v.numpy() for name, v in updater.variables().items()}


def _assign(updater: Updater, arrays: dict[str, np.ndarray]) -> None:
    for name, variable in updater.variables().items():
        variable.assign(arrays[name])


def _resumed(
    run: Run, config: Config, cluster: Workers, arrays: dict[str, np.ndarray]
) -> TrainingState:
    """Returns the state of a checkpoint, and makes the other files agree with it."""
    state = TrainingState.from_arrays(arrays, config.target.tokenizer)
    state = state.judged_by(config.metric).for_workers(cluster.size)

    def tidy() -> dict[str, np.ndarray]:
        run.cut_metrics(state.evaluated_update)
        return {"damaged": np.array(_best_is_damaged(run))}

    if share(cluster, tidy)["damaged"]:  # all workers evaluate it, or none
        state = dataclasses.replace(state.without_best(), evaluated_update=-1)
    logger.info("resumed at update %d", state.update_number)
    return state


def _best_is_damaged(run: Run) -> bool:
    """Whether ``best.npz`` is there and cannot be read, which is logged."""
    if not run.best_path.is_file():
        return False
    try:
        read_arrays(run.best_path)
    except DamagedFile as error:
        logger.warning("%s; the next evaluation writes it anew", error)
        return True
    return False


def _refuse_to_start_over(run: Run) -> None:
    """Keeps what a run has reached from being overwritten by its own beginning.

    Raises:
        UserError: There are results of training, but no checkpoint.
    """
    kept = [p for p in (run.best_path, run.metrics_path) if p.is_file()]
    if kept:
        names = " and ".join(path.name for path in kept)
        raise UserError(
            f"{run.folder}: no checkpoint to go on from, but {names} from an earlier "
            f"training run, which starting over would overwrite; expected its "
            f"checkpoints folder, or another --run (--from {run.folder} starts that "
            f"from the best weights here)"
        )
