"""Evaluations while training: how good the averaged weights are on the dev texts."""

import json
import logging
from collections.abc import Callable
from typing import Any

from pocketseq.pipeline.errors import Interrupted
from pocketseq.pipeline.evaluation import evaluate
from pocketseq.pipeline.reports.journal import Journal, Pictured
from pocketseq.pipeline.runs import Run, write_arrays
from pocketseq.pipeline.training.cluster import Workers
from pocketseq.pipeline.training.preparation import Setup
from pocketseq.pipeline.training.progress import Clock
from pocketseq.pipeline.training.state import STUCK_EVALUATIONS, TrainingState
from pocketseq.pipeline.training.updater import Updater
from pocketseq.pipeline.translator import ModelTranslator

logger = logging.getLogger(__name__)


class Evaluator:
    """Measures the averaged weights, and keeps the best.

    The chief translates, for all workers.

    Args:
        run: Where the best weights go, on the chief.
        setup: With the tokenizers and the recipe.
        updater: Whose averaged weights are measured.
        cluster: The workers that wait for the result.
        references: ``{source: [targets]}`` of the dev set, on the chief.
        journal: Records the results, on the chief.
        is_asked_to_end: Asked before each batch of texts.
    """

    def __init__(
        self,
        run: Run,
        setup: Setup,
        updater: Updater,
        cluster: Workers,
        references: dict[str, list[str]],
        journal: Journal | None,
        is_asked_to_end: Callable[[], bool],
    ) -> None:
        self._run = run
        self._updates = setup.config.training.updates
        self._updater = updater
        self._cluster = cluster
        self._references = references
        self._journal = journal
        self._is_asked_to_end = is_asked_to_end
        self._translator = ModelTranslator(
            updater.model, *setup.tokenizers, setup.config
        )

    def evaluate(self, state: TrainingState, clock: Clock) -> TrainingState:
        """Returns the state after an evaluation.

        Args:
            state: Of now.
            clock: Knows the speed since the last evaluation.

        Raises:
            Interrupted: On the way, before anything has changed.
        """
        speed, loss = clock.tokens_per_second(), self._updater.mean_loss()
        dev, pictured = self._measure()
        better = state.is_improved_by(dev)
        state = state.evaluated(dev)
        if state.evaluations == STUCK_EVALUATIONS:
            self.warn_of_stuck_metric(state)
        if self._journal:
            if better:
                self._keep_weights()
            self._journal.evaluation(
                update=state.update_number,
                epoch=state.positions[self._cluster.index].epoch,
                loss=loss,
                dev=dev,
                tokens_per_second=speed,
                learning_rate=self._updater.learning_rate,
                attention_scale=self._attention_scale(),
                better=better,
                seconds_left=clock.seconds_left(state.update_number, self._updates),
                pictured=pictured,
            )
        self._updater.reset_loss()
        return state

    def warn_of_stuck_metric(self, state: TrainingState) -> None:
        """Logs it if the dev metric never changes: then it chooses nothing."""
        if self._cluster.is_chief and state.metric_is_stuck:
            logger.warning(
                "dev %s has been %.2f at each of %d evaluations: it cannot tell better "
                "weights from worse; another metric may "
                "(--set training.metric=...), or the data are not what the tokenizers "
                "expect",
                state.metric, state.best, state.evaluations,
            )  # fmt: skip

    def _measure(self) -> tuple[dict[str, Any], list[Pictured]]:
        """Returns what :func:`evaluate` does, and on the chief some alignments."""
        pictured: list[Pictured] = []
        measured = b""
        if self._cluster.is_chief:
            translator = self._translator
            with self._updater.averaged_weights():
                found = translator.translate(
                    list(self._references), before_batch=self._go_on
                )
            result = evaluate(
                list(self._references.values()),
                [best.text for (best,) in found],
                kind=translator.target_kind,
                normalization=translator.target_normalization,
            )
            measured = json.dumps(result).encode()
            pictured = [
                translator.token_alignment(best)
                for (best,) in found[: Journal.pictures]
            ]
        return json.loads(self._cluster.broadcast(measured)), pictured

    def _attention_scale(self) -> float | None:
        scale = self._updater.model.decoder.attention.scale
        return None if scale is None else float(scale)

    def _go_on(self) -> None:
        if self._is_asked_to_end():
            raise Interrupted

    def _keep_weights(self) -> None:
        with self._updater.averaged_weights() as model:
            weights = {v.path: v.numpy() for v in model.weights}
        write_arrays(self._run.best_path, weights)
