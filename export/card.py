"""The model card: what a model was trained on, how good it is, and where it ends.

It goes into the bundle, and into each file, for those who have only the file.

References: Mitchell et al. 2019, "Model cards for model reporting".
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from pocketseq.pipeline.evaluation import METRICS

if TYPE_CHECKING:
    from pocketseq.export.contract import Manifest
    from pocketseq.export.exporter import FileReport, TrainedModel

_TEMPLATE = Path(__file__).parent / "templates" / "model_card.md"

_WIDTH = 88

_METRICS = {
    "wer": "WER: percent of texts that are not exactly right",
    "per": "PER: edits per 100 symbols of the closest reference",
    "cer": "CER: edits per 100 characters of the closest reference",
    "exact": "EXACT: percent of texts that are exactly right",
    "bleu": "BLEU and CHRF: as sacreBLEU computes them",
    "chrf": "CHRF and BLEU: as sacreBLEU computes them",
}


def model_card(
    trained: TrainedModel,
    manifest: Manifest,
    rows: Sequence[FileReport],
    hashes: Mapping[str, str],
) -> str:
    """Returns the card of a model.

    Args:
        trained: The model.
        manifest: What describes it.
        rows: What was measured of each file that the card is for.
        hashes: ``{what: its SHA-256}``.
    """
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        name=manifest.name,
        task=manifest.task.capitalize(),
        model=_model(trained, manifest),
        data=_data(trained, manifest),
        measured=_measured(trained, manifest),
        quality=_quality(trained, rows),
        limits=_limits(trained, manifest),
        hashes=listed([f"{what}: SHA-256 `{sha}`" for what, sha in hashes.items()])
        or "None: there is no `.tflite` file.",
    )


def _model(trained: TrainedModel, manifest: Manifest) -> str:
    model = trained.config.model
    weights = sum(weight.shape.num_elements() for weight in trained.keras.model.weights)
    directions = "both ways" if model.bidirectional else "one way"
    searches = "greedy"
    if manifest.beam_size:
        searches += f", or with a beam of {manifest.beam_size}"
    return listed(
        [
            f"**Kind**: LSTM encoder-decoder with attention `{model.attention.score}`, "
            f"{weights / 1e6:.2f} million weights; encoder {model.encoder_layers} x "
            f"{model.units}, read {directions}, decoder {model.decoder_layers} x "
            f"{model.units}.",
            f"**Search**: {searches}.",
            "**Use**: texts such as those it was trained on, one a call.",
        ]
    )


def _data(trained: TrainedModel, manifest: Manifest) -> str:
    data = manifest.recipe["data"]
    pairs = f"{trained.training_pairs:,} pairs"
    lines = [f"**Training**: `{data['train']}`, {pairs}."]
    for part, (references, _) in trained.sets.items():
        file = data[part] or "a part of the training file, by a hash of the source"
        shown = f"`{file}`" if data[part] else file
        chose = ", which chose the weights" if part == "dev" else ""
        lines.append(
            f"**{part.capitalize()}**{chose}: {shown}, {len(references):,} different "
            f"texts."
        )
    lines.append(f"**Licence**, which may hold for the model, too: {manifest.license}.")
    return listed(lines)


def _measured(trained: TrainedModel, manifest: Manifest) -> str:
    shown = described_metrics(_names(trained))
    text = f"Of the greedy search, on texts that training has not seen. {shown}."
    if manifest.exceptions:
        text += (
            " The dictionary in the file is left out: so good is the model where it "
            "has to guess."
        )
    return filled(text)


def _names(trained: TrainedModel) -> tuple[str, str]:
    metric = trained.config.metric
    return metric, METRICS[metric].beside


def _quality(trained: TrainedModel, rows: Sequence[FileReport]) -> str:
    names = _names(trained)
    lines = [
        table_row("weights", "set", *(name.upper() for name in names)),
        "|---|---|" + "---:|" * len(names),
    ]
    for row in rows:
        measured: dict[str, Mapping[str, Any]] = {"dev": row.dev, "test": row.test}
        lines += [
            table_row(row.name, part, *(f"{result[name]:.2f}" for name in names))
            for part, result in measured.items()
            if result
        ]
    return "\n".join(lines)


def table_row(*cells: str) -> str:
    """Returns a row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def _limits(trained: TrainedModel, manifest: Manifest) -> str:
    longest = max(trained.translators)
    limits = [
        f"Texts are cut after {longest} code points, answers after "
        f"{manifest.target.max_code_points}.",
        "Characters that training has not seen are unknown, and their answers guesses.",
        "It answers whatever it is asked: the score is what tells a guess.",
    ]
    if "test" not in trained.sets:
        limits.append(
            "Measured on the dev set alone, which chose the weights: expect a little "
            "less of new texts."
        )
    return listed(limits)


def described_metrics(names: Sequence[str]) -> str:
    """Returns what metrics count, as one sentence without its full stop."""
    return "; ".join(dict.fromkeys(_METRICS[name] for name in names))


def listed(items: Sequence[str]) -> str:
    """Returns a Markdown list, its items in lines of a readable width."""
    return "\n".join(
        textwrap.fill(
            one, _WIDTH, initial_indent="- ", subsequent_indent="  ",
            break_long_words=False, break_on_hyphens=False,
        )
        for one in items
    )  # fmt: skip


def filled(text: str) -> str:
    """Returns a paragraph in lines of a readable width."""
    return textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False)
