"""Golden lines: texts with the one right answer, for the tests of every platform."""

import json
import random
from unicodedata import normalize

from pocketseq.export.verification import step_margins

#: Enough for a platform's tests; fewer cannot be told from a broken model.
LEAST = 100
_WANTED = 200

# Every step must have chosen by this much, in log-probability, so that kernels that
# round differently agree.
_MARGIN = 0.1

_HOSTILE = (
    "", " ", "\t", "\n", "  a", "a  ", "\u00a0", "\u3000", "\u200b", "\ufeff", "\ufffd",
    "\u0301", "e\u0301", "\u00e9", "\u1e9e", "\ufb03", "\u0130", "\u01c5", "\u1f82",
    "\uac01", "\u1100\u1161\u11a8", "\u202eabc", "\u05e9\u05dc\u05d5\u05dd", "\u0645",
    "\U0001f600", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0010ffff", "\ue000",
    "##", "##a", "<pad>", "<start>", "<end>", "\x01", "\x7f", "\u0080", "a\x00b",
    "\x00",
)  # fmt: skip


def candidates(sources, *, max_code_points, seed=0):
    """Yields texts to choose golden lines from: hostile ones first, then given ones.

    Args:
        sources: Real texts, such as those of the dev set.
        max_code_points: Where the model cuts; longer texts are among the candidates.
        seed: Makes the generated ones the same each time.
    """
    generator = random.Random(seed)
    letters = sorted({character for source in sources for character in source})
    yield from _HOSTILE
    for source in sources[:20]:
        yield source.upper()
        yield source + generator.choice(_HOSTILE)
    for length in (1, 2, 3, max_code_points - 1, max_code_points, max_code_points + 9):
        for _ in range(4):
            yield "".join(generator.choices(letters, k=length))
        yield "".join(chr(generator.randrange(1, 0xD800)) for _ in range(length))
    yield from sources


def golden_lines(translator, files, sources):
    """Chooses texts on which all files agree, and not by a hair.

    Args:
        translator: The Keras model.
        files: For each file ``(its translator, its score tolerance)``.
        sources: Real texts, such as those of the dev set.

    Returns:
        Lines of JSON: ``text``, ``translation``, ``score``.
    """
    limit = translator.source_tokenizer.max_code_points
    texts = [normalize("NFC", t) for t in candidates(sources, max_code_points=limit)]
    texts = list(dict.fromkeys(texts))
    # What a caller passes on of a text: cutting is the caller's part.
    passed = [text.split("\0")[0][:limit] for text in texts]
    found = [best for (best,) in translator.translate(passed, beam_size=1)]
    lines = []
    for text, best, sure in zip(texts, found, _sure(translator, found), strict=True):
        agreed = sure and all(
            _agrees(file, best, tolerance / 2) for file, tolerance in files
        )
        if agreed:
            line = {
                "text": text,
                "translation": best.text,
                "score": round(best.score, 6),
            }
            lines.append(json.dumps(line, ensure_ascii=False))
        if len(lines) == _WANTED:
            break
    return lines


def _sure(translator, translations):
    """Whether each translation led at every step by the margin, and copied nothing.

    What is copied depends on the attention, which has no margin.
    """
    unknown_ids = translator.target_tokenizer.unknown_ids
    chosen = [t for t in translations if t.token_ids]
    margins = step_margins(
        translator, [t.source for t in chosen], [t.token_ids for t in chosen]
    )
    sure = {
        t.source: unknown_ids.isdisjoint(t.token_ids) and margin.min() >= _MARGIN
        for t, margin in zip(chosen, margins, strict=True)
    }
    # No token is chosen for a text without tokens: that is sure.
    return [sure.get(t.source, True) for t in translations]


def _agrees(file, best, tolerance):
    (found,) = file.translate([best.source], beam_size=1)[0]
    return found.text == best.text and abs(found.score - best.score) <= tolerance
