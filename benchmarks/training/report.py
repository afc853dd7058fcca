"""The report on training: figures of each contender, then ratios."""

import importlib.util
import os
import platform
import shutil
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from common import ratio, say
from pocketseq.pipeline.configuration import Config
from training.comparison import Contender, Network
from training.contenders import STOCK_KERAS, Examples
from training.work import Work, total

# A process that waits and yet takes this share of a core disturbs the others.
_IDLE_LIMIT = 0.05

_CPU_INFO = Path("/proc/cpuinfo")


def full_report(
    config: Config, examples: Examples, networks: Sequence[Network]
) -> dict[str, Any]:
    """Returns what is printed."""
    contenders = [c for network in networks for c in network.contenders.values()]
    idle = max(contender.worker.idle_share for contender in contenders)
    if idle > _IDLE_LIMIT:
        say(f"a waiting process took {idle:.0%} of a core: figures are too low")
    return {
        "data": data_report(config, examples),
        "model": {
            "units": config.model.units,
            "embedding_size": config.model.embedding_size,
            "vocabulary_sizes": examples.vocabulary_sizes,
        },
        "machine": machine(),
        "largest_share_of_a_core_while_waiting": idle,
        **{network.name: network_report(network) for network in networks},
    }


def data_report(config: Config, examples: Examples) -> dict[str, Any]:
    """Returns the part on the data; tokens are means per pair or per batch."""
    real = total(batch.real_work() for batch in examples.batches)
    padded = total(batch.padded_work() for batch in examples.batches)
    pairs = sum(len(batch.source_ids) for batch in examples.batches)
    return {
        "recipe": config.name,
        "train": config.data.train,
        "pairs": pairs,
        "source_tokens": real.source / pairs,
        "target_tokens": real.target / pairs,
        "real_share_of_batches": real.tokens / padded.tokens,
        "tokens_per_batch": real.tokens / len(examples.batches),
    }


def network_report(network: Network) -> dict[str, Any]:
    """Returns the part on one network: figures by contender and precision, ratios."""
    target_size = network.examples.vocabulary_sizes[1]

    def flops(work: Work) -> int:
        return work.flops(network.config.model, target_size)

    result: dict[str, Any] = {"pytorch": None}
    for (who, precision), contender in network.contenders.items():
        result[who] = result.get(who) or {}
        result[who][precision] = figures(contender, flops)
    ours = network.of("ours")
    for who in STOCK_KERAS:
        for other in network.of(who):
            result[f"against_{who}"] = {
                one.precision: speed_ratio(one, other) for one in ours
            }
    if others := network.of("pytorch"):
        result["cpp_compiler"] = shutil.which("g++") or shutil.which("clang++")
        result["against_pytorch"] = {
            **{
                one.precision: speed_ratio(one, other)
                for one in ours
                for other in others
                if one.precision == other.precision
            },
            "best": speed_ratio(fastest(ours), fastest(others)),
        }
    return result


def figures(contender: Contender, flops: Callable[[Work], int]) -> dict[str, Any]:
    """Returns what was measured of a contender, medians of the rounds.

    Args:
        contender: It has been measured.
        flops: The operations of the products of an update.
    """

    def median(values: Sequence[float]) -> float:
        return float(np.median(values))

    def utilisation(works: Sequence[Work]) -> float:
        """The share of the machine's limit that products on such work take."""
        return median(
            [
                flops(work) / each.measurement.seconds / 1e9 / each.limit_gflops
                for work, each in zip(works, contender.rounds, strict=True)
            ]
        )

    measured = [each.measurement for each in contender.rounds]
    return {
        "tokens_per_second": contender.tokens_per_second,
        "rounds": contender.speeds,
        "milliseconds_per_update": median(
            [1000 * m.seconds / m.updates for m in measured]
        ),
        "real_share": median([m.real.tokens / m.padded.tokens for m in measured]),
        "limit_gflops": median([each.limit_gflops for each in contender.rounds]),
        "utilisation_real": utilisation([m.real for m in measured]),
        "utilisation_padded": utilisation([m.padded for m in measured]),
        "compile_seconds": contender.compile_seconds,
        "check": contender.check._asdict() if contender.check else {},
        "others_share_of_machine": max(each.others_share for each in contender.rounds),
        **torch_setting(contender),
    }


def torch_setting(contender: Contender) -> dict[str, Any]:
    """Returns PyTorch's best setting; nothing for the other contenders."""
    if contender.setting is None:
        return {}
    problem = {"torch_compile_problem": contender.compile_problem}
    return {
        "setting": contender.setting._asdict(),
        **(problem if contender.compile_problem else {}),
    }


def fastest(contenders: Sequence[Contender]) -> Contender:
    """Returns the contender with the most tokens per second."""
    return max(contenders, key=lambda contender: contender.tokens_per_second)


def speed_ratio(one: Contender, other: Contender) -> float:
    """Returns how many times as fast one contender is as another."""
    return ratio(one.speeds, other.speeds)


def machine() -> dict[str, Any]:
    """Returns the processor and the versions of what computes."""
    facts = processor_facts(_CPU_INFO.read_text() if _CPU_INFO.is_file() else "")
    packages = ["tensorflow", "keras", "numpy"]
    if importlib.util.find_spec("torch"):
        packages.append("torch")
    return {
        "processor": facts.get("model name", platform.processor()),
        "cpus": os.cpu_count(),
        "avx512_bf16": "avx512_bf16" in facts["flags"].split() if facts else None,
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in packages},
    }


def processor_facts(text: str) -> dict[str, str]:
    """Returns the facts of Linux's ``/proc/cpuinfo``, of the last core."""
    facts = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in facts.items()}
