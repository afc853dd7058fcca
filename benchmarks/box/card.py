"""Model cards: what a model does and does not, how well, and how it was made.

References: Mitchell et al. 2019, "Model cards for model reporting".
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from box.entries import Entry
from pocketseq.export.card import described_metrics, filled, listed, table_row
from pocketseq.export.contract import Manifest, ModelFile
from pocketseq.export.recipes import DEFAULT
from pocketseq.pipeline.analysis.analysis import Analysis
from pocketseq.pipeline.data.installed import is_installed
from pocketseq.pipeline.evaluation import METRICS
from pocketseq.pipeline.reports.findings import findings
from pocketseq.pipeline.reports.signs import visible_spaces
from pocketseq.pipeline.translation import Translation

_WIDTH = 88

_USES = {
    "grapheme to phoneme": (
        "Pronunciations for speech synthesis, lexicons of recognisers, rhyme and "
        "search by sound: one word per call, offline. The app splits sentences, and "
        "writes out numbers and abbreviations."
    ),
    "transliteration": (
        "Suggestions for the spelling of names in another script, in address books, "
        "forms and search: one name per call, offline. Not for documents where a "
        "spelling is binding."
    ),
}

_BY_HASH = (
    "by a hash of the word, so that all pronunciations of a word are in one part; "
    "forms of one word may be in several."
)
_BY_FILES = "as the files come."


@dataclass(frozen=True)
class Measured:
    """What was measured of a model, as far as a card needs it.

    ``texts``: how many different sources ``train``, ``dev`` and ``test`` have.
    ``plain``: the int8 file without exceptions, on ``dev`` and ``test``. ``shipped``:
    metrics of the file in the box on the same texts. ``examples``: its answers.
    ``weights``: their number.
    """

    texts: Mapping[str, int]
    plain: Mapping[str, Analysis]
    shipped: Mapping[str, Mapping[str, Any]]
    examples: Sequence[Translation]
    weights: int


def model_card(
    entry: Entry,
    manifest: Manifest,
    measured: Measured,
    commands: Sequence[Sequence[str]],
) -> str:
    """Returns the card of a model in the box.

    Args:
        entry: How the model is made.
        manifest: Of its bundle.
        measured: What was measured.
        commands: The words of the commands that made it, without folders.
    """
    template = Path(__file__).with_name("model_card.md").read_text(encoding="utf-8")
    return Template(template).substitute(
        name=entry.name,
        summary=filled(entry.summary),
        examples="\n".join(map(_example, measured.examples)),
        model=_model(entry, manifest, measured.weights),
        use=filled(_USES[manifest.task]),
        data=_data(entry, manifest, measured),
        quality=_quality(manifest, measured),
        limits=_limits(entry, manifest, measured),
        made=_made(manifest, commands),
    )


def _example(translation: Translation) -> str:
    where = "from its table" if translation.score == 0 else "by the model"
    source, text = map(visible_spaces, (translation.source, translation.text))
    return f"| `{source}` | `{text}` | {where} |"


def _model(entry: Entry, manifest: Manifest, weights: int) -> str:
    file, layers = manifest.models[DEFAULT], manifest.recipe["model"]
    directions = "both ways" if layers["bidirectional"] else "one way"
    searches = "greedy"
    if manifest.beam_size:
        searches += f", or with a beam of {manifest.beam_size} and as many answers"
    return listed(
        [
            f"**File**: `{file.file}`, {file.bytes:,} bytes; text in, text out, from "
            f"TFLite {file.minimum_runtime} on. `README.md` says how an app calls it.",
            f"**Kind**: LSTM encoder-decoder with {layers['attention']['score']} "
            f"attention, {weights / 1e6:.2f} million weights, int8; encoder "
            f"{layers['encoder_layers']} x {layers['units']}, read {directions}, "
            f"decoder {layers['decoder_layers']} x {layers['units']}.",
            f"**Dictionary in the file**: {_dictionary(entry, file)}",
            f"**Search**: {searches}.",
            f"**Time**: {file.milliseconds} ms per text, the median on one thread of "
            f"the processor that made the file.",
        ]
    )


def _dictionary(entry: Entry, file: ModelFile) -> str:
    if file.exceptions is None:
        return "none."
    return (
        f"every text of {entry.dictionary} is answered as it stands there. What the "
        f"model itself gets wrong of it, {file.exceptions.entries:,} texts in "
        f"{file.exceptions.bytes:,} bytes, comes from a table, with score 0."
    )


def _data(entry: Entry, manifest: Manifest, measured: Measured) -> str:
    used = manifest.recipe["data"]
    texts = measured.texts
    return listed(
        [
            f"**Training**: `{used['train']}`, {texts['train']:,} different texts.",
            f"**Dev**, which chose the weights: `{used['dev']}`, {texts['dev']:,}. "
            f"**Test**: `{used['test']}`, {texts['test']:,}.",
            f"**Split**: {_BY_HASH if is_installed(entry.train) else _BY_FILES}",
            f"**Licence**, which holds for the model, too: {manifest.license}.",
        ]
    )


def _quality(manifest: Manifest, measured: Measured) -> str:
    metric = measured.plain["test"].metric
    names = [metric, METRICS[metric].beside]
    titles = [names[0].upper(), "95 %", names[1].upper()]
    table = [table_row("set", "texts", *titles), "|---|" + "---:|" * 4]
    for part, analysis in measured.plain.items():
        (answers,) = analysis.models
        table.append(
            table_row(part, *_figures(answers.result, names, answers.intervals[metric]))
        )
    if manifest.models[DEFAULT].exceptions:
        for part, result in measured.shipped.items():
            ends = result["intervals"][metric]
            table.append(
                table_row(f"{part}, with dictionary", *_figures(result, names, ends))
            )
    said = described_metrics(names)
    text = f"Of the int8 file, greedily, on texts that training has not seen. {said}."
    if manifest.models[DEFAULT].exceptions:
        text += (
            " The first lines leave the dictionary out: so good is the model where it "
            "has to guess."
        )
    return f"{filled(text)}\n\n" + "\n".join(table)


def _figures(
    result: Mapping[str, Any], names: Sequence[str], ends: Sequence[float]
) -> list[str]:
    low, high = ends
    first, second = (f"{result[name]:.2f}" for name in names)
    return [f"{result['examples']:,}", first, f"{low:.1f} to {high:.1f}", second]


def _limits(entry: Entry, manifest: Manifest, measured: Measured) -> str:
    longest = manifest.source.max_code_points
    shown = [str(one.striptags()) for one in findings(measured.plain["test"])]
    return (
        listed(
            [
                *entry.limits,
                f"Texts are cut after {longest} code points. Characters that training "
                f"has not seen are unknown, and their answers guesses; `README.md` "
                f"lists the known ones.",
            ]
        )
        + "\n\nOn the test texts, without the dictionary:\n\n"
        + listed(shown)
    )


def _made(manifest: Manifest, commands: Sequence[Sequence[str]]) -> str:
    training = manifest.recipe["training"]
    lines = "\n".join(map(_command, commands))
    said = (
        f"At most {training['updates']:,} updates of {training['batch_tokens']:,} "
        f"tokens, seed {training['seed']}; the weights with the best dev figures were "
        f"kept. `make models` runs the commands, measures the files and writes this "
        f"card:"
    )
    return f"{filled(said)}\n\n```sh\n{lines}\n```"


def _command(words: Sequence[str]) -> str:
    """Returns a command of the shell, in lines that end between its words."""
    lines = [""]
    for word in map(shlex.quote, ["python", "cli.py", *words]):
        if len(lines[-1]) + len(word) > _WIDTH - 4:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return " \\\n  ".join(lines)
