"""Makes ``format_1``: a run and its export, small, which must load for ever.

    python tests/past/make.py FOLDER

What stands in ``tests/past/format_1`` was made by version 0.1.0, before the code moved
to the rooms of today, and is never made again: later versions add a folder of theirs.
The paths in ``config.toml`` are replaced by ``@HERE@``.
"""

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

CLI = Path(__file__).parents[2] / "cli.py"
SETTINGS = [
    "name=past", "source.max_code_points=8", "target.tokenizer=word",
    "target.max_code_points=24", "model.embedding_size=8", "model.units=12",
    "model.dropout=0.1", "training.updates=400", "training.evaluate_every=200",
    "training.batch_tokens=200", "training.buckets=1", "training.learning_rate=1e-2",
    "training.warmup_updates=20", "training.average_decay=0.95",
    "training.precision=float32", "training.parts=1",
]  # fmt: skip
TEXTS = ["abc", "cab", "dda", "b", "abcd", "", "x"]


def command(*words: object) -> str:
    """Returns what a command prints."""
    arguments = [sys.executable, str(CLI), *map(str, words)]
    return subprocess.run(arguments, check=True, capture_output=True, text=True).stdout


def write_corpora(folder: Path) -> None:
    """Writes words of a to d, each with its letters in reverse as phones."""
    words = ["".join(w) for n in (1, 2, 3) for w in itertools.product("abcd", repeat=n)]
    lines = [f"{word}\t{' '.join(word[::-1].upper())}\n" for word in words]
    (folder / "train.tsv").write_text("".join(lines))
    (folder / "dev.tsv").write_text("".join(lines[::3]))


def main(folder: Path) -> None:
    """Trains, exports, and writes down what the models answer."""
    folder.mkdir(parents=True)
    write_corpora(folder)
    run, bundle = folder / "run", folder / "bundle"
    changes = [word for setting in SETTINGS for word in ("--set", setting)]
    command(
        "train", "--train", folder / "train.tsv", "--dev", folder / "dev.tsv",
        "--run", run, *changes,
    )  # fmt: skip
    recipes = [word for name in ("float32", "int8") for word in ("--quantize", name)]
    command(
        "export", "--model", run, "--tflite", *recipes, "--beam", 2, "--max-loss", 100,
        "--output", bundle,
    )  # fmt: skip
    answers = {
        name: [
            line.split("\t")
            for line in command(
                "translate", "--model", path, "--scores", "--beam", 2, "--n-best", 2,
                *TEXTS,
            ).splitlines()
        ]
        for name, path in {
            "run": run,
            **{name: bundle / f"model-{name}.tflite" for name in ("float32", "int8")},
        }.items()
    }  # fmt: skip
    content = {"texts": TEXTS, "answers": answers}
    (folder / "answers.json").write_text(json.dumps(content, indent=1) + "\n")
    config = (run / "config.toml").read_text()
    (run / "config.toml").write_text(config.replace(str(folder.resolve()), "@HERE@"))
    for path in run.glob("events.*"):
        path.unlink()
    shutil.rmtree(run / "export", ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
