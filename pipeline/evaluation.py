"""Evaluation: how many outputs are right, and how far the others are off."""

from rapidfuzz.distance import Levenshtein

from pocketseq.pipeline.errors import writing


def evaluate(references, hypotheses, *, kind):
    """Measures hypotheses against references.

    Args:
        references: A list with the acceptable texts of each example.
        hypotheses: One text for each example.
        kind: The target tokenizer, which decides what is measured.

    Returns:
        A dict with ``examples`` and, for ``word``, ``wer`` and ``per``; otherwise
        ``bleu``, ``chrf``, ``signature``, ``cer`` and ``exact``. All in percent.
    """
    measure = _evaluate_symbols if kind == "word" else _evaluate_text
    return {"examples": len(references), **measure(references, hypotheses)}


def errors(references, hypotheses):
    """Returns for each example whether the hypothesis equals none of its references."""
    return [
        hypothesis not in accepted
        for accepted, hypothesis in zip(references, hypotheses, strict=True)
    ]


def write_errors(path, sources, references, hypotheses):
    """Writes a line for each wrong output: source, output, references, by tabs.

    Raises:
        UserError: The file cannot be written.
    """
    wrong = errors(references, hypotheses)
    with writing(path), open(path, "w", encoding="utf-8") as file:
        for source, accepted, hypothesis, is_wrong in zip(
            sources, references, hypotheses, wrong, strict=True
        ):
            if is_wrong:
                file.write("\t".join([source, hypothesis, *accepted]) + "\n")


def _evaluate_symbols(references, hypotheses):
    references = [
        [" ".join(text.split()) for text in accepted] for accepted in references
    ]
    return {
        "wer": _percent(sum(errors(references, hypotheses)), len(references)),
        "per": _edit_rate(references, hypotheses, str.split),
    }


def _evaluate_text(references, hypotheses):
    # Imported here because it takes a while and word targets do not need it.
    from sacrebleu.metrics import BLEU, CHRF

    bleu, chrf = BLEU(), CHRF()
    most = max(map(len, references))
    # sacreBLEU wants the first, second, ... reference of all examples; None is none.
    streams: list = [
        [accepted[i] if i < len(accepted) else None for accepted in references]
        for i in range(most)
    ]
    return {
        "bleu": bleu.corpus_score(hypotheses, streams).score,
        "chrf": chrf.corpus_score(hypotheses, streams).score,
        "signature": f"{bleu.get_signature()} {chrf.get_signature()}",
        "cer": _edit_rate(references, hypotheses, list),
        "exact": 100.0 - _percent(sum(errors(references, hypotheses)), len(references)),
    }


def _edit_rate(references, hypotheses, split):
    """Edits per 100 symbols of the closest reference, over all examples."""
    edits = symbols = 0
    for accepted, hypothesis in zip(references, hypotheses, strict=True):
        distance, length = min(
            (
                Levenshtein.distance(split(reference), split(hypothesis)),
                len(split(reference)),
            )
            for reference in accepted
        )
        edits += distance
        symbols += length
    return _percent(edits, symbols)


def _percent(part, whole):
    return 100.0 * part / whole if whole else 0.0
