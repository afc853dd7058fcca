"""Reports of a training run: log lines, ``metrics.jsonl``, TensorBoard."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from pocketseq.pipeline.configuration import Config
from pocketseq.pipeline.evaluation import METRICS
from pocketseq.pipeline.reports.events import EventWriter
from pocketseq.pipeline.reports.pictures import attention_picture
from pocketseq.pipeline.runs import Run
from pocketseq.pipeline.training.progress import Progress

logger = logging.getLogger(__name__)

#: Source labels, target labels, and weights ``(target tokens, source tokens)``.
Pictured = tuple[list[str], list[str], np.ndarray]

# Updates between two points of the curves that evaluations do not make.
_CURVE_EVERY = 50


class Journal:
    """Writes down what happens to a run.

    Metrics are part of the run: when they cannot be written, training stops.
    TensorBoard is for looking at: when its file cannot be written, that is a warning,
    and the next evaluation tries again.

    Args:
        run: Whose folder it writes to.
        config: The recipe of the run.
        update: The number of updates already done.
    """

    #: How many dev texts get a picture of their attention at each evaluation.
    pictures = 3

    def __init__(self, run: Run, config: Config, update: int) -> None:
        self._run = run
        # Metrics to report of an evaluation, as far as they were measured.
        self._shown = dict.fromkeys([config.metric, *METRICS])
        self._events: EventWriter | None = None
        try:
            self._events = EventWriter(run.folder, update=update)
        except OSError as error:
            self._warn(error)
        else:
            if update == 0:
                toml = f"```toml\n{config.to_toml()}\n```"
                self._events.text(0, "configuration", toml)

    def curve(self, progress: Progress) -> None:
        """Adds points to the curves of loss and speed, now and then."""
        if self._events and progress.update % _CURVE_EVERY == 0:
            self._events.scalars(
                progress.update,
                {
                    "loss": progress.loss,
                    "tokens_per_second": progress.tokens_per_second,
                },
            )

    def evaluation(
        self,
        *,
        update: int,
        epoch: int,
        loss: float,
        dev: dict[str, Any],
        tokens_per_second: float,
        learning_rate: float,
        attention_scale: float | None,
        better: bool,
        seconds_left: float,
        pictured: Sequence[Pictured],
    ) -> None:
        """Writes down an evaluation.

        Args:
            update, epoch: Where training stands.
            loss: In nats per target token, mean since the last evaluation.
            dev: The result, as :func:`pocketseq.pipeline.evaluation.evaluate` returns
                it.
            tokens_per_second: Real source and target tokens.
            learning_rate: Of the next update.
            attention_scale: The factor in front of the attention's similarity; None:
                it has none.
            better: Whether the dev metric is the best so far.
            seconds_left: How long the remaining updates will take.
            pictured: The attention of some dev texts.

        Raises:
            UserError: ``metrics.jsonl`` cannot be written.
        """
        shown = {name: dev[name] for name in self._shown if name in dev}
        scale = {} if attention_scale is None else {"attention_scale": attention_scale}
        self._run.append_metrics(
            update=update,
            epoch=epoch,
            loss=round(loss, 5),
            **{f"dev_{name}": round(value, 3) for name, value in shown.items()},
            tokens_per_second=round(tokens_per_second),
            learning_rate=learning_rate,
            **{name: round(value, 4) for name, value in scale.items()},
        )
        logger.info(
            "update %d, epoch %d: loss %.4f, %s, %d tokens/s, %s left%s",
            update,
            epoch,
            loss,
            ", ".join(f"dev {name} {value:.2f}" for name, value in shown.items()),
            tokens_per_second,
            _duration(seconds_left),
            " (best so far)" if better else "",
        )
        if self._events is None:
            return
        self._events.scalars(
            update,
            {
                "loss": loss,
                "learning_rate": learning_rate,
                "tokens_per_second": tokens_per_second,
                **scale,
                **{f"dev/{name}": value for name, value in shown.items()},
            },
        )
        for number, (source, target, weights) in enumerate(pictured, start=1):
            picture = attention_picture(source, target, weights)
            self._events.picture(update, f"attention/{number}", picture)
        self.close()

    def close(self) -> None:
        """Writes what TensorBoard has not been given yet."""
        if self._events is None:
            return
        try:
            self._events.flush()
        except OSError as error:
            self._warn(error)

    def _warn(self, error: OSError) -> None:
        logger.warning(
            "%s: TensorBoard events not written: %s", self._run.folder, error
        )


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes >= 1 else f"{seconds:.0f} s"
