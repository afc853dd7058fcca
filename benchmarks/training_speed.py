"""Measures how fast a model is trained, and what part of the machine that takes.

Real source and target tokens per second, end token counted and padding not, of whole
updates: forward, backward, clipping, Adam. Compared in the same run with the same
network of stock Keras layers and, where it is installed, in PyTorch. Both must first
give the same loss and the same gradient norm from the same weights. Prints one JSON
object:

    python benchmarks/training_speed.py --corpus cmudict
    python benchmarks/training_speed.py --train en.gz --train-target de.gz

Each contender has a process of its own, which waits while the others are measured.
"""

import os
import tempfile
from pathlib import Path

# Before a process imports TensorFlow or PyTorch; those of the contenders inherit it.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# PyTorch would start a process a core to compile in, and they would outlive a worker.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")

import click

from common import comparison_problem, print_report
from pocketseq.pipeline.configuration import load_recipe, override, with_files
from training.comparison import measure, start_network
from training.report import full_report
from training.workers import Worker

#: The recipe for each corpus that needs no files.
_RECIPES = {"cmudict": "pronunciation"}


@click.command()
@click.option("--corpus", default="cmudict", type=click.Choice(list(_RECIPES)))
@click.option("--train", help="Train on FILE, with the recipe translation.")
@click.option("--train-target", help="The target side of the lines of --train.")
@click.option("--set", "settings", multiple=True, help="section.key=value")
@click.option("--seconds", default=10.0, show_default=True)
@click.option("--rounds", default=3, show_default=True)
def main(
    corpus: str,
    train: str | None,
    train_target: str | None,
    settings: tuple[str, ...],
    seconds: float,
    rounds: int,
) -> None:
    """Measure updates of a network, with and without input feeding."""
    recipe = load_recipe("translation" if train else _RECIPES[corpus])
    config = with_files(recipe, train, train_target, "", "", False)
    # The embeddings of n-grams are no part of the networks compared.
    config = override(config, ["model.longest_ngram=1", *settings])
    if problem := comparison_problem(config.model):
        raise click.UsageError(problem)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "inductor")
        run = folder / "run"
        preparation = Worker("corpus", "training.preparation:Preparation", run, config)
        examples = preparation.ask("examples")
        preparation.close()
        networks = [
            start_network(config, run, examples, input_feeding=feeding)
            for feeding in (False, True)
        ]
        limit = Worker("limit", "training.limit:ProductLimit")
        measure(networks, limit, seconds, rounds)
        print_report(full_report(config, examples, networks))


if __name__ == "__main__":
    main()
