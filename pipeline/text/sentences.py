"""Paragraphs, sentence by sentence: models are trained on one sentence at a time."""

from collections.abc import Callable, Iterator, Sequence

from pocketseq.pipeline.errors import UserError

#: From some sentences to their translations.
Translate = Callable[[list[str]], list[str]]


def translate_paragraphs(
    texts: Sequence[str], translate: Translate, language: str
) -> list[str]:
    """Translates texts of several sentences; what is between sentences stays.

    Args:
        texts: Paragraphs.
        translate: Translates sentences without whitespace around them.
        language: Of the texts, such as ``"en"``; languages that the splitter does not
            know are split as related ones.

    Raises:
        UserError: The package ``sentencex`` is not installed.
    """
    paragraphs = [list(_sentences(text, language)) for text in texts]
    found = iter(translate([sentence for one in paragraphs for _, sentence, _ in one]))
    return [
        "".join(f"{before}{next(found)}{after}" for before, _, after in paragraph)
        for paragraph in paragraphs
    ]


def _sentences(text: str, language: str) -> Iterator[tuple[str, str, str]]:
    """Yields (whitespace before, sentence, whitespace behind): all of the text."""
    try:
        import sentencex
    except ImportError as error:
        raise UserError(
            "--split-sentences: the package sentencex is missing, expected it "
            "installed (pip install 'pocketseq[sentences]')"
        ) from error
    for piece in sentencex.segment(language, text):
        sentence = piece.strip()
        before, _, after = piece.partition(sentence) if sentence else (piece, "", "")
        yield before, sentence, after
