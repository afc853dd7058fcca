"""Starts the contenders, compares what they compute, and measures them in turn."""

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np

from common import say
from pocketseq.pipeline.configuration import Config, override
from training.bystanders import measured_alone
from training.contenders import (
    PRECISIONS,
    STOCK_KERAS,
    Examples,
    Precision,
    TorchSetting,
    Weights,
    Who,
    best_eager_setting,
)
from training.work import Measurement, first_of_each_shape
from training.workers import Worker, WorkerFailed

# How long each setting of PyTorch is tried before the best one is measured.
_TRIAL_SECONDS = 3.0

# torch.compile must be done with all batch shapes by then.
_COMPILE_LIMIT_SECONDS = 60.0

# By how much losses and gradients may differ, relatively. Products in bfloat16 have 8
# bits of precision.
_TOLERANCE: dict[Precision, float] = {"float32": 1e-3, "bfloat16": 5e-2}

# The network is compared with weights this far from their start, where no bias is 0.
_NOISE = 0.05


class Round(NamedTuple):
    """One measurement, and the machine around it.

    ``others_share``: the share of all cores that other programs took;
    ``limit_gflops``: how fast large matrices were multiplied before and after.
    """

    measurement: Measurement
    others_share: float
    limit_gflops: float


class Check(NamedTuple):
    """The first loss and gradient norm, and the largest difference from ours."""

    loss: float
    gradient_norm: float
    largest_relative_difference: float


@dataclass
class Contender:
    """A process that trains, and what was measured of it.

    ``setting`` is PyTorch's; ``compile_problem`` says why ``torch.compile`` is out.
    """

    worker: Worker
    precision: Precision
    setting: TorchSetting | None = None
    compile_seconds: float = 0.0
    compile_problem: str = ""
    check: Check | None = None
    rounds: list[Round] = field(default_factory=list)

    @property
    def speeds(self) -> list[float]:
        """Real tokens per second of each round."""
        return [each.measurement.tokens_per_second for each in self.rounds]

    @property
    def tokens_per_second(self) -> float:
        """The median of the rounds."""
        return float(np.median(self.speeds))


@dataclass(frozen=True)
class Network:
    """One network, with or without input feeding, and all that train it."""

    name: str
    config: Config
    examples: Examples
    contenders: dict[tuple[Who, Precision], Contender]

    def of(self, who: Who) -> list[Contender]:
        """Returns the contenders of one kind, by precision; none: it is left out."""
        return [
            contender for (name, _), contender in self.contenders.items() if name == who
        ]


def start_network(
    config: Config, run: Path, examples: Examples, *, input_feeding: bool
) -> Network:
    """Starts all that train one network, and warms them up.

    Args:
        config: The recipe.
        run: The run folder.
        examples: What the others train on.
        input_feeding: Whether the network has it.

    Raises:
        ClickException: Two contenders do not compute the same, or one fails.
    """
    config = override(config, [f"model.input_feeding={str(input_feeding).lower()}"])
    name = f"{'with' if input_feeding else 'without'}_input_feeding"
    contenders: dict[tuple[Who, Precision], Contender] = {}
    for precision in PRECISIONS:
        ours = override(config, [f"training.precision={precision}"])
        worker = Worker(
            f"{name} ours {precision}", "training.ours:Ours", run, ours, examples
        )
        contenders["ours", precision] = Contender(worker, precision)
    weights = contenders["ours", "float32"].worker.ask("weights")
    if not input_feeding:  # stock layers cannot
        for who, keep_memory in STOCK_KERAS.items():
            worker = Worker(
                f"{name} {who} float32", "training.stock_keras:StockKeras",
                config, examples, keep_memory,
            )  # fmt: skip
            contenders[who, "float32"] = Contender(worker, "float32")
    if importlib.util.find_spec("torch"):
        for one in start_pytorch_at_each_precision(name, config, examples, weights):
            contenders["pytorch", one.precision] = one
    network = Network(name, config, examples, contenders)
    check_network(network, weights)
    for contender in contenders.values():
        contender.compile_seconds += contender.worker.ask("warm_up")
        say(f"{contender.worker.name}: compiled in {contender.compile_seconds:.1f} s")
    return network


def start_pytorch_at_each_precision(
    name: str, config: Config, examples: Examples, weights: Weights
) -> Iterator[Contender]:
    """Yields PyTorch at its best setting for each precision it can compute in."""
    for precision in PRECISIONS:
        try:
            yield start_pytorch(
                f"{name} pytorch {precision}", config, examples, precision, weights
            )
        except WorkerFailed as problem:
            # Its LSTM needs a processor that multiplies bfloat16 natively.
            if precision != "bfloat16":
                raise
            say(f"{problem}: left out")


def start_pytorch(
    name: str,
    config: Config,
    examples: Examples,
    precision: Precision,
    weights: Weights,
) -> Contender:
    """Starts PyTorch at its best setting, with ``torch.compile`` if that is faster."""
    arguments = ("training.pytorch:PyTorch", config, examples, precision, weights)
    eager = Worker(name, *arguments, TorchSetting())

    def speed(setting: TorchSetting) -> float:
        eager.ask("use", setting)
        eager.ask("warm_up")
        return trial(eager)

    setting = best_eager_setting(speed)
    eager.ask("use", setting)
    contender = Contender(eager, precision, setting)
    setting = setting._replace(compiled=True)
    compiled = Worker(f"{name} torch.compile", *arguments, setting)
    try:
        seconds = compiled.ask("warm_up", limit=_COMPILE_LIMIT_SECONDS)
    except (TimeoutError, WorkerFailed) as problem:
        contender.compile_problem = str(problem)
        say(str(problem))
        return contender
    eager.ask("warm_up")
    if trial(compiled) > trial(eager):
        eager.close()
        return Contender(compiled, precision, setting, seconds)
    compiled.close()
    return contender


def trial(worker: Worker) -> float:
    """Returns real tokens per second, measured for a short time."""
    return measured_alone(worker, _TRIAL_SECONDS)[0].tokens_per_second


def check_network(network: Network, weights: Weights) -> None:
    """Ends the benchmark if two contenders do not compute the same.

    Args:
        network: Its contenders get their :class:`Check`.
        weights: The weights that training starts from.

    Raises:
        ClickException: A loss or a gradient norm differs from ours in float32.
    """
    noisy = with_noise(weights)
    batches = first_of_each_shape(network.examples.batches)[:3]
    ours = network.contenders["ours", "float32"]
    expected = ours.worker.ask("check", noisy, batches)
    for contender in network.contenders.values():
        name = contender.worker.name
        found = contender.worker.ask("check", noisy, batches)
        contender.check = check = compared(found, expected)
        difference = check.largest_relative_difference
        say(f"{name}: {found[0]}, off by {difference:.2g}")
        if not difference <= _TOLERANCE[contender.precision]:
            raise click.ClickException(
                f"{name}: (loss, gradient norm) {found}, expected {expected}: "
                f"not the same network"
            )


def with_noise(weights: Weights) -> dict[str, np.ndarray]:
    """Returns weights moved away from where they start, in float32."""
    generator = np.random.default_rng(1)
    return {
        name: np.asarray(
            value + _NOISE * generator.standard_normal(value.shape), np.float32
        )
        for name, value in weights.items()
    }


def compared(
    found: Sequence[tuple[float, float]], expected: Sequence[tuple[float, float]]
) -> Check:
    """Returns how far (loss, gradient norm) of each batch are from what is expected."""
    difference = np.max(np.abs(np.divide(found, expected) - 1))
    return Check(*found[0], float(difference))


def measure(
    networks: Sequence[Network], limit: Worker, seconds: float, rounds: int
) -> None:
    """Measures all contenders in turn, with the machine's limit around each.

    Args:
        networks: Their contenders get their :class:`Round`.
        limit: Serves a :class:`training.limit.ProductLimit`.
        seconds: Of each measurement.
        rounds: How often each contender is measured.
    """
    before = limit.ask("gflops")
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        for network in networks:
            for contender in network.contenders.values():
                measurement, share = measured_alone(contender.worker, seconds)
                after = limit.ask("gflops")
                precision = contender.precision
                around = (before[precision] + after[precision]) / 2
                contender.rounds.append(Round(measurement, share, around))
                before = after
