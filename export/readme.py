"""The README of a bundle: what an app developer has to know to run the model."""

import json
import textwrap
import unicodedata
from itertools import count, groupby
from pathlib import Path
from string import Template

# The file that an app would ship, and whose name the lines to copy have.
_SHIPPED = "int8"

# A text of this length shows what the model does and is read at a glance.
_EXAMPLE_LENGTH = 5

# Ranges of characters that are listed; some alphabets have thousands.
_MOST_RANGES = 40

# What means something in a string literal of some language, or in Markdown.
_HAS_A_MEANING = frozenset("\"'\\$`|<>*_")


def choose_example(golden, references):
    """Chooses the text that the README shows: a short one that the model gets right.

    Args:
        golden: The lines of ``golden.jsonl``.
        references: ``{text: its right translations}``, of the dev set.

    Returns:
        ``(text, translation)``. A golden line that is wrong where none is right, and
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


def bundle_readme(manifest, *, descriptions, alphabet, example, compatible_runtime):
    """Returns the README of a bundle.

    Args:
        manifest: What ``manifest.json`` holds.
        descriptions: ``{recipe: a sentence}`` for the files of the manifest.
        alphabet: The characters that the model knows, after its normalisation.
        example: A text and its translation, as :func:`choose_example` gives them.
        compatible_runtime: What ``--compatible`` reaches, such as ``2.14.0``.
    """
    models = manifest["models"]
    recipe = _SHIPPED if _SHIPPED in models else next(iter(models))
    source, target = example
    template = Path(__file__).with_name("bundle_readme.md").read_text(encoding="utf-8")
    return Template(template).substitute(
        name=manifest["name"],
        task=manifest["task"],
        models="\n".join(
            f"| `{model['file']}` | {model['bytes']:,} | {model['minimum_runtime']} | "
            f"{descriptions[name]} |"
            for name, model in models.items()
        ),
        remedy=_remedy(models, compatible_runtime),
        recipe=recipe,
        file=models[recipe]["file"],
        stem=Path(models[recipe]["file"]).stem,
        n=manifest["source"]["max_code_points"],
        m=manifest["target"]["max_code_points"],
        source=source,
        target=target,
        reading=_reading(manifest["source"], alphabet),
        signatures="\n".join(
            _row(name, sides) for name, sides in manifest["signatures"].items()
        ),
        calls=_calls(manifest["signatures"]),
        tests=_tests(manifest),
        length_penalty=f"{manifest['recipe']['search']['length_penalty']:g}",
    )


def _can_be_shown(text):
    """Whether a text may stand in a string literal of every language."""
    return bool(text) and text.isprintable() and _HAS_A_MEANING.isdisjoint(text)


def _remedy(models, compatible_runtime):
    newer = [
        f"`{model['file']}`"
        for model in models.values()
        if _version(model["minimum_runtime"]) > _version(compatible_runtime)
    ]
    remedy = (
        f" For an older runtime than {' and '.join(newer)} asks for, export with "
        f"`--compatible`: such files run from {compatible_runtime} on."
    )
    return _filled(
        "Runtimes are numbered as TensorFlow Lite; LiteRT 1.1.2 and later are newer "
        "than all of these." + (remedy if newer else "")
    )


def _version(text):
    return [int(number) for number in text.split(".")]


def _listed(alphabet):
    """Returns the characters as Markdown, those in a row as a range."""
    codes = sorted(map(ord, alphabet))
    counter = count()
    rows = [list(row) for _, row in groupby(codes, lambda code: code - next(counter))]
    # Two neighbours are no range.
    parts = [part for row in rows for part in ([row] if len(row) > 2 else zip(row))]
    shown = " ".join(
        _name(part[0]) if len(part) == 1 else f"{_name(part[0])}–{_name(part[-1])}"
        for part in parts[:_MOST_RANGES]
    )
    hidden = sum(map(len, parts[_MOST_RANGES:]))
    return f"{shown} and {hidden:,} more" if hidden else shown


def _name(code):
    """Returns a character, or its number where it could not be seen by itself."""
    character = chr(code)
    if character == " ":
        return "space"
    visible = unicodedata.category(character)[0] not in "CMZ"
    shown = visible and character not in "`|–"
    return f"`{character}`" if shown else f"`U+{code:04X}`"


def _reading(source, alphabet):
    """Returns what the model makes of the characters of a text."""
    sentences = [f"**Characters it knows:** {_listed(alphabet)}."]
    if source["normalization"]["fold_case"]:
        sentences.append("Upper and lower case are the same to it.")
    if source["normalization"]["decompose"]:
        sentences.append(
            "It takes letters with accents apart, and Korean syllables into letters."
        )
    if source["tokenizer"] == "word":
        sentences.append("It reads words, and one that it does not know is unknown.")
    sentences.append(
        "Any other character is unknown: an answer comes, but it is a guess. Each file "
        "is a ZIP archive as well; `source_vocabulary.txt` in it has the whole list."
    )
    return _filled(" ".join(sentences))


def _filled(paragraph):
    return textwrap.fill(paragraph, 88, break_long_words=False, break_on_hyphens=False)


def _row(name, sides):
    shapes = (tensor["shape"] for tensor in (*sides["inputs"], *sides["outputs"]))
    return f"| `{name}` | " + " | ".join(map(str, shapes)) + " |"


def _calls(signatures):
    """Returns how the default signature is called, and the others."""
    text = "`translate` is what a call without a name runs."
    others = [name for name in signatures if name != "translate"]
    if others:
        name = others[0]
        text += (
            f' The others are called by name: `get_signature_runner("{name}")` in '
            f'Python, `runSignature(..., "{name}")` in Kotlin, `signatureRunner(with: '
            f"\"{name}\")` in Swift, `run('{name}', ...)` on the web."
        )
    if any(name.startswith("translate_beam") for name in others):
        text += " Those with a beam give several translations, best first."
    return _filled(text)


def _tests(manifest):
    """Returns what the golden lines are."""
    beam = (
        "`golden_beam.jsonl` goes with the signatures that search with a beam: "
        '`{"text", "translations", "scores"}`. '
    )
    return _filled(
        "`golden.jsonl` has answers of the greedy search, `translate`: "
        '`{"text", "translation", "score"}` per line, with `\\n` between lines. '
        + (beam if "beam_size" in manifest else "")
        + "Scores agree within 0.001 for float32 and 0.05 for quantized files. The "
        "texts are as a user may type them, before steps 1 and 2: some are not in NFC "
        f"or longer than {manifest['source']['max_code_points']} code points, and "
        "U+0000 ends a text."
    )
