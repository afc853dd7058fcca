"""The README of a bundle: all that an app developer has to know to run the model."""

import json
import textwrap
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from itertools import count, groupby
from pathlib import Path
from string import Template

from pocketseq.export.contract import (
    GOLDEN,
    GOLDEN_BEAM,
    SOURCE_VOCABULARY,
    TRANSLATE,
    Manifest,
    ModelFile,
    Side,
    Signature,
    searches_with_beam,
    version_numbers,
)
from pocketseq.export.recipes import shipped_recipe

_TEMPLATE = Path(__file__).parent / "templates" / "bundle_readme.md"

# A text of this length shows what the model does and is read at a glance.
_EXAMPLE_LENGTH = 5

# Ranges of characters that are listed; some alphabets have thousands.
_MOST_RANGES = 40

_EXCEPTIONS = """\
- **Exceptions** are texts of a dictionary whose right answer the model itself would not
  give. A table in the file holds them: their answer is exact in every runtime, and its
  `score` is 0. Signatures with a beam give all answers that the dictionary lists, and
  then the model's own. Of other texts, fewer than one in a million are taken for one.
"""

# Characters with a meaning in a string literal of some language, or in Markdown.
_HAS_A_MEANING = frozenset("\"'\\$`|<>*_")


def choose_example(
    golden: Iterable[str], references: Mapping[str, Sequence[str]]
) -> tuple[str, str]:
    """Chooses the text that the README shows: a short one that the model gets right.

    Args:
        golden: The lines of ``golden.jsonl``.
        references: ``{text: its correct translations}``, of the dev set.

    Returns:
        ``(text, translation)``. A golden line that is wrong where none is correct, and
        empty texts where there are no lines that can be shown.
    """
    ranked = []
    for line in map(json.loads, golden):
        pair = line["text"], line["translation"]
        if all(map(_can_be_shown, pair)):
            wrong = pair[1] not in references.get(pair[0], ())
            other_length = abs(len(pair[0]) - _EXAMPLE_LENGTH)
            ranked.append((wrong, other_length, -line["score"], pair))
    return min(ranked)[-1] if ranked else ("", "")


def bundle_readme(
    manifest: Manifest,
    *,
    descriptions: Mapping[str, str],
    alphabet: Iterable[str],
    example: tuple[str, str],
    compatible_runtime: str,
) -> str:
    """Returns the README of a bundle.

    Args:
        manifest: The description of the model and its files.
        descriptions: ``{recipe: a sentence}`` for the files of the manifest.
        alphabet: The characters that the model knows, after its normalisation.
        example: A text and its translation, as :func:`choose_example` gives them.
        compatible_runtime: The oldest runtime with ``--compatible``, such as
            ``2.14.0``.
    """
    models = manifest.models
    # The file that an app would ship, which the lines to copy name.
    recipe = shipped_recipe(models) or ""
    source, target = example
    template = _TEMPLATE.read_text(encoding="utf-8")
    return Template(template).substitute(
        name=manifest.name,
        task=manifest.task,
        models="\n".join(
            f"| `{model.file}` | {model.bytes:,} | {model.minimum_runtime} | "
            f"{descriptions[name]}{_entries(model)} |"
            for name, model in models.items()
        ),
        remedy=_remedy(models, compatible_runtime),
        recipe=recipe,
        file=models[recipe].file,
        stem=Path(models[recipe].file).stem,
        n=manifest.source.max_code_points,
        m=manifest.target.max_code_points,
        source=source,
        target=target,
        reading=_reading(manifest.source, alphabet),
        signatures="\n".join(
            _row(name, signature) for name, signature in manifest.signatures.items()
        ),
        calls=_calls(manifest.signatures),
        tests=_tests(manifest),
        length_penalty=f"{manifest.length_penalty:g}",
        exceptions=_EXCEPTIONS if manifest.exceptions else "",
    )


def _entries(model: ModelFile) -> str:
    """Returns how many exceptions a file has, as the rest of a line."""
    if model.exceptions is None:
        return ""
    return (
        f" {model.exceptions.entries:,} exceptions in {model.exceptions.bytes:,} bytes."
    )


def _can_be_shown(text: str) -> bool:
    """Whether a text may stand in a string literal of every language."""
    return bool(text) and text.isprintable() and _HAS_A_MEANING.isdisjoint(text)


def _remedy(models: Mapping[str, ModelFile], compatible_runtime: str) -> str:
    newer = [
        f"`{model.file}`"
        for model in models.values()
        if version_numbers(model.minimum_runtime) > version_numbers(compatible_runtime)
    ]
    remedy = (
        f" For an older runtime than {' and '.join(newer)} asks for, export with "
        f"`--compatible`: such files run from {compatible_runtime} on."
    )
    return _filled(
        "Runtimes are numbered as TensorFlow Lite; LiteRT 1.1.2 and later are newer "
        "than all of these." + (remedy if newer else "")
    )


def _listed(alphabet: Iterable[str]) -> str:
    """Returns the characters as Markdown, those in a row as a range."""
    codes = sorted(map(ord, alphabet))
    counter = count()
    rows = [list(row) for _, row in groupby(codes, lambda code: code - next(counter))]
    # Two neighbours are not written as a range.
    parts = [part for row in rows for part in ([row] if len(row) > 2 else zip(row))]
    shown = " ".join(
        _name(part[0]) if len(part) == 1 else f"{_name(part[0])}–{_name(part[-1])}"
        for part in parts[:_MOST_RANGES]
    )
    hidden = sum(map(len, parts[_MOST_RANGES:]))
    return f"{shown} and {hidden:,} more" if hidden else shown


def _name(code: int) -> str:
    """Returns a character, or its number where it would not be visible by itself."""
    character = chr(code)
    if character == " ":
        return "space"
    visible = unicodedata.category(character)[0] not in "CMZ"
    shown = visible and character not in "`|–"
    return f"`{character}`" if shown else f"`U+{code:04X}`"


def _reading(source: Side, alphabet: Iterable[str]) -> str:
    """Returns how the model reads the characters of a text."""
    sentences = [f"**Characters it knows:** {_listed(alphabet)}."]
    if source.normalization.fold_case:
        sentences.append("Upper and lower case are the same to it.")
    if source.normalization.decompose:
        sentences.append(
            "It takes letters with accents apart, and Korean syllables into letters."
        )
    if source.tokenizer == "word":
        sentences.append("It reads words, and one that it does not know is unknown.")
    sentences.append(
        "Any other character is unknown: an answer comes, but it is a guess. Each file "
        f"is a ZIP archive as well; `{SOURCE_VOCABULARY}` in it has the whole list."
    )
    return _filled(" ".join(sentences))


def _filled(paragraph: str) -> str:
    return textwrap.fill(paragraph, 88, break_long_words=False, break_on_hyphens=False)


def _row(name: str, signature: Signature) -> str:
    shapes = (tensor.shape for tensor in (*signature.inputs, *signature.outputs))
    return f"| `{name}` | " + " | ".join(map(str, shapes)) + " |"


def _calls(signatures: Mapping[str, Signature]) -> str:
    """Returns how to call the default signature, and the others."""
    text = f"`{TRANSLATE}` is what a call without a name runs."
    others = [name for name in signatures if name != TRANSLATE]
    if others:
        name = others[0]
        text += (
            f' The others are called by name: `get_signature_runner("{name}")` in '
            f'Python, `runSignature(..., "{name}")` in Kotlin, `signatureRunner(with: '
            f"\"{name}\")` in Swift, `run('{name}', ...)` on the web."
        )
    if any(map(searches_with_beam, others)):
        text += " Those with a beam give several translations, best first."
    return _filled(text)


def _tests(manifest: Manifest) -> str:
    """Returns a description of the golden lines."""
    beam = (
        f"`{GOLDEN_BEAM}` goes with the signatures that search with a beam: "
        '`{"text", "translations", "scores"}`. '
    )
    return _filled(
        f"`{GOLDEN}` has answers of the greedy search, `{TRANSLATE}`: "
        '`{"text", "translation", "score"}` per line, with `\\n` between lines. '
        + (beam if manifest.beam_size else "")
        + "Scores agree within 0.001 for float32 and 0.05 for quantized files. The "
        "texts are as a user may type them, before steps 1 and 2: some are not in NFC "
        f"or longer than {manifest.source.max_code_points} code points, and "
        "U+0000 ends a text."
    )
