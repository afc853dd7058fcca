"""Trains one network with every attention score, and compares what comes of it.

Four tasks: French pronunciations from 3,600 pairs and from 1,000 of them, captions of
Multi30k from English to German, and random strings spelled backwards, learned up to 20
letters long and tested up to 40. All else is the same for all scores: recipe, seeds,
updates. The best three are trained once more with the context fed back. Training runs
are kept, so that the command can be stopped and goes on. Writes ``attention.json``, a
table and plots, and prints the JSON object:

    python benchmarks/attention.py --data DIR [--task NAME]...

DIR holds ``sigmorphon2020/fre_*.tsv`` and ``multi30k/*.gz``. ``none`` is the plain
encoder-decoder; ``bare`` the cosine without a scale, the textbook form.
"""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np

import pocketseq
from attention_report import write_results
from attention_speed import device_ratios, update_ratios
from common import print_report, rounded, say
from multi30k import parallel
from pocketseq.pipeline.data.corpora import Corpus, content_hash
from pocketseq.pipeline.evaluation import evaluate
from pocketseq.pipeline.translation import Translation
from trials import Plan, Trial, data_option, plan_options, write_pairs

#: The scores by name, as settings of a recipe; others are compared with the first.
SCORES: dict[str, tuple[str, ...]] = {
    "cosine": (),
    "bare": (
        "model.attention.initial_scale=1.0",
        "model.attention.learned_scale=false",
    ),
    "dot": ("model.attention=dot",),
    "scaled_dot": ("model.attention=scaled_dot",),
    "general": ("model.attention=general",),
    "additive": ("model.attention=additive",),
    "none": ("model.attention=none",),
}

FEEDING = "+feeding"

#: How many of the best scores are trained with the context fed back.
BEST = 3

SETS = ("train", "dev", "test")


@dataclass(frozen=True)
class Task:
    """Something to learn.

    ``recipe`` and ``settings``: for all scores. ``files``: from a folder of data and
    one to write to, to the training, dev and test pairs. ``edges``: the first lengths
    of the bands of sources, in ``unit``. ``metric``: of those that ``evaluate`` has,
    and whether ``more`` of it is better.
    """

    recipe: str
    settings: tuple[str, ...]
    files: Callable[[Path, Path], Sequence[Path]]
    edges: tuple[int, ...]
    unit: str
    metric: str
    more: bool = False

    def length(self, source: str) -> int:
        """Returns the length of a source in the unit of the bands."""
        return len(source.split()) if self.unit == "words" else len(source)


def french(pairs: int | None) -> Callable[[Path, Path], Sequence[Path]]:
    """Returns the files of French pronunciations, with that many training pairs."""

    def files(data: Path, folder: Path) -> Sequence[Path]:
        train, dev, test = (
            data / "sigmorphon2020" / f"fre_{part}.tsv" for part in SETS
        )
        if pairs is not None:
            chosen = sorted(Corpus(str(train)), key=lambda p: content_hash(p.source))
            train = write_pairs(folder / "train.tsv", chosen[:pairs])
        return train, dev, test

    return files


def captions(data: Path, folder: Path) -> Sequence[Path]:
    """Returns the files of Multi30k."""
    return [
        write_pairs(
            folder / f"{part}.tsv",
            parallel(data / "multi30k", part, "en", "de", lower_case=False),
        )
        for part in ("train", "val", "test_2016_flickr")
    ]


def reversals(data: Path, folder: Path) -> Sequence[Path]:
    """Returns files of random strings and the same spelled backwards."""
    generator = random.Random(1)
    sizes = {"train": (20_000, 20), "dev": (1_000, 20), "test": (2_000, 40)}
    paths = []
    for part, (count, longest) in sizes.items():
        lengths = (generator.randint(1, longest) for _ in range(count))
        texts = ("".join(generator.choices(LETTERS, k=length)) for length in lengths)
        pairs = ((text, text[::-1]) for text in texts)
        paths.append(write_pairs(folder / f"{part}.tsv", pairs))
    return paths


LETTERS = "abcdefghijklmnopqrst"
_PLAIN = "model.input_feeding=false"

TASKS = {
    "french": Task(
        "pronunciation-small", (_PLAIN,), french(None), (1, 6, 8, 10), "letters", "wer"
    ),
    "french-1000": Task(
        "pronunciation-small", (_PLAIN,), french(1000), (1, 6, 8, 10), "letters", "wer"
    ),
    "multi30k": Task(
        "translation", (_PLAIN, "training.updates=2400"), captions, (1, 9, 12, 15),
        "words", "bleu", more=True,
    ),
    "reversal": Task(
        "transliteration", (_PLAIN, "training.updates=3000", "model.dropout=0.1"),
        reversals, (1, 11, 21, 31), "letters", "exact", more=True,
    ),
}  # fmt: skip


@click.command()
@data_option
@click.option(
    "--task", "tasks", multiple=True, type=click.Choice(list(TASKS)),
    help="Only these; the results of others stay.",
)  # fmt: skip
@click.option("--seeds", default=3, show_default=True, help="Runs of each score.")
@click.option(
    "--results", default=Path(__file__).with_name("results"),
    show_default="benchmarks/results", type=click.Path(path_type=Path),
)  # fmt: skip
@plan_options("runs/attention", "")
def main(
    plan: Plan, data: Path, tasks: tuple[str, ...], seeds: int, results: Path
) -> None:
    """Train and compare every score on every task."""
    path = results / "attention.json"
    report = json.loads(path.read_text()) if path.is_file() else {"tasks": {}}
    for name in tasks or TASKS:
        report["tasks"][name] = {
            **plan.described(),
            "recipe": TASKS[name].recipe,
            "seeds": seeds,
            **compared(plan, name, data, seeds),
        }
        write_results(rounded(report), {n: TASKS[n].more for n in TASKS}, results)
    print_report(report)


def compared(plan: Plan, name: str, data: Path, seeds: int) -> dict[str, Any]:
    """Returns what each score comes to on a task.

    Args:
        plan: For all trials.
        name: Of the task.
        data: The folder of all data.
        seeds: How many runs of each score, from the seed of the plan on.
    """
    task = TASKS[name]
    files = task.files(data, plan.runs / name / "data")
    parts = plan.parts(files[1], test=files[2])

    def trials(score: str, *settings: str) -> list[Trial]:
        each = replace(plan, runs=plan.runs / name)
        chosen = (*task.settings, *SCORES[score.removesuffix(FEEDING)], *settings)
        return [
            replace(each, seed=seed).trial(
                f"{score}-seed{seed}", *files[:2], recipe=task.recipe, settings=chosen
            )
            for seed in range(plan.seed, plan.seed + seeds)
        ]

    found, first = {}, {}
    for score in SCORES:
        runs = trials(score)
        found[score] = of_score(task, runs, parts)
        first[score] = runs[0]
        say(f"{name}, {score}: {found[score]['dev']}")
    best = sorted(
        (score for score in SCORES if score != "none"),
        key=lambda score: found[score]["dev"]["mean"] * (-1 if task.more else 1),
    )[:BEST]
    for score in (f"{one}{FEEDING}" for one in best):
        found[score] = of_score(task, trials(score, "model.input_feeding=true"), parts)
        say(f"{name}, {score}: {found[score]['dev']}")
    texts = list(Corpus(str(files[1])).references())
    speeds = {
        "update_time": update_ratios({s: run.run for s, run in first.items()}),
        "device_time": device_ratios(
            {score: run.exported()["int8"] for score, run in first.items()}, texts
        ),
    }
    return {"metric": task.metric, "unit": task.unit, "scores": found, **speeds}


def of_score(
    task: Task, trials: Sequence[Trial], parts: dict[str, Any]
) -> dict[str, Any]:
    """Returns the quality of some runs with one score, and what their attention did.

    ``dev``, ``test``: ``mean`` and ``spread`` (standard deviation) of the metric of the
    int8 files, and each value; ``float32``: the same of the test, or dev, part;
    ``bands``: the mean of the metric by the length of the source; ``entropy``: of the
    weights, in bits, a mean over output tokens; ``places``: two to the power of it, how
    many places that is; ``scale``: its path in the first run, if there is one.
    """
    measured: dict[str, list[float | None]] = {part: [] for part in [*parts, "float32"]}
    bands, entropies = [], []
    last = list(parts)[-1]
    for trial in trials:
        trial.train()
        models = trial.exported()
        for part, file in parts.items():
            found = Outputs(models["int8"], Path(file), task)
            measured[part].append(found.metric())
        bands.append(found.by_band())
        whole = Outputs(models["float32"], Path(parts[last]), task)
        measured["float32"].append(whole.metric())
        entropies.append(entropy(whole.translations))
    return {
        **{part: spread(values) for part, values in measured.items()},
        "bands": dict(zip(map(str, task.edges), means(bands), strict=True)),
        "entropy": float(np.mean(entropies)),
        "places": float(2 ** np.mean(entropies)),
        "scale": path_of_scale(trials[0].run),
    }


class Outputs:
    """What a model makes of a file of pairs.

    Args:
        model: A ``.tflite`` file.
        file: The pairs.
        task: With the metric and the bands.
    """

    def __init__(self, model: Path, file: Path, task: Task) -> None:
        self.task = task
        self.translator = pocketseq.load(model)
        self.references = Corpus(str(file)).references()
        found = self.translator.translate(list(self.references))
        self.translations = [best for best, *_ in found]

    def metric(self, chosen: Callable[[str], bool] = lambda _: True) -> float | None:
        """Returns the metric of the sources that are chosen; None: there are none."""
        rows = [
            (references, one.text)
            for (source, references), one in zip(
                self.references.items(), self.translations, strict=True
            )
            if chosen(source)
        ]
        if not rows:
            return None
        references, texts = zip(*rows, strict=True)
        result = evaluate(
            references,
            texts,
            kind=self.translator.target_kind,
            normalization=self.translator.target_normalization,
        )
        return float(result[self.task.metric])

    def by_band(self) -> list[float | None]:
        """Returns the metric of each band of lengths; None: it is empty."""
        ends = [*self.task.edges[1:], 10**9]

        def of_band(first: int, end: int) -> float | None:
            return self.metric(lambda text: first <= self.task.length(text) < end)

        return [of_band(*band) for band in zip(self.task.edges, ends, strict=True)]


def means(rows: Sequence[Sequence[float | None]]) -> list[float | None]:
    """Returns the mean of each column, without what is None."""
    columns = (
        [x for x in column if x is not None] for column in zip(*rows, strict=True)
    )
    return [sum(column) / len(column) if column else None for column in columns]


def entropy(translations: Sequence[Translation]) -> float:
    """Returns the mean entropy of the attention of all output characters, in bits."""
    total, count = 0.0, 0
    for one in translations:
        if one.alignment is None or not one.alignment.size:
            continue
        weights = np.clip(one.alignment.astype(np.float64), 1e-12, 1)
        total -= float((weights * np.log2(weights)).sum())
        count += len(weights)
    return total / count


def spread(values: Sequence[float | None]) -> dict[str, Any]:
    """Returns the mean, the standard deviation (None: of one value) and the values."""
    numbers = [value for value in values if value is not None]
    several = len(numbers) > 1
    return {
        "mean": float(np.mean(numbers)),
        "spread": float(np.std(numbers, ddof=1)) if several else None,
        "values": numbers,
    }


def path_of_scale(run: Path) -> list[tuple[int, float]]:
    """Returns the scale at each evaluation of a run; empty: its score has none."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    return [
        (entry["update"], entry["attention_scale"])
        for entry in entries
        if "attention_scale" in entry
    ]


if __name__ == "__main__":
    main()
