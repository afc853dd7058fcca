"""Learning the characters and wordpieces of a vocabulary."""

from collections import Counter
from collections.abc import Mapping

from tensorflow_text.tools.wordpiece_vocab import (
    wordpiece_tokenizer_learner_lib as wordpiece_learner,
)

from pocketseq.pipeline.text.matching import (
    CONTINUATION,
    CONTINUATION_MARK,
    longest_matches,
)
from pocketseq.pipeline.text.special import UNKNOWN_PIECE

# In characters. Longer words are cut into parts of this length for learning.
_LONGEST_PIECE = 16


def frequent_characters(counts: Mapping[str, int], minimum_count: int) -> set[str]:
    """Returns the characters that occur often enough to be known.

    Args:
        counts: ``{word: how often it occurs}``.
        minimum_count: The lowest number of occurrences of a known character.
    """
    characters: Counter[str] = Counter()
    for word, count in counts.items():
        for character in word:
            characters[character] += count
    frequent = {c for c, count in characters.items() if count >= minimum_count}
    return frequent - {UNKNOWN_PIECE, CONTINUATION_MARK}


def _parts(counts: Mapping[str, int]) -> Counter[str]:
    """Cuts words longer than any piece: learning time is cubic in their length."""
    parts: Counter[str] = Counter()
    for word, count in counts.items():
        for start in range(0, len(word), _LONGEST_PIECE):
            parts[word[start : start + _LONGEST_PIECE]] += count
    return parts


def learn_longer_pieces(
    counts: Mapping[str, int], characters: set[str], room: int
) -> set[str]:
    """Returns marked pieces of at least two characters, at most ``room`` of them.

    The learner proposes all pieces above a frequency. Kept are those that the longest
    match uses most often; pieces that it never uses are dropped.

    Args:
        counts: ``{word: how often it occurs}``.
        characters: The marked pieces of one character.
        room: The largest number of longer pieces.
    """
    if room <= 0 or not counts:
        return set()
    # The learner makes every word above a frequency a piece, so at the lower of these
    # two frequencies words alone fill the room. A piece seen once teaches nothing.
    parts = _parts(counts)
    frequency = sorted(parts.values())[-room - 1 :][0]
    learned = _pieces_seen(parts, max(2, frequency + 1)) - characters
    if len(learned) < room and frequency > 1:
        learned = _pieces_seen(parts, frequency) - characters
    longest = max(map(len, learned), default=1)
    known = characters | learned
    uses: Counter[str] = Counter()
    for word, count in counts.items():
        for start, end in longest_matches(word, known, longest):
            uses[CONTINUATION_MARK * (start > 0) + word[start:end]] += count
    used = [piece for piece in learned if uses[piece]]
    return set(sorted(used, key=lambda piece: (-uses[piece], piece))[:room])


def _pieces_seen(counts: Mapping[str, int], at_least: int) -> set[str]:
    """Returns the learner's marked pieces that occur at least so many times."""
    settings = wordpiece_learner.Params(
        upper_thresh=None,
        lower_thresh=None,
        num_iterations=4,
        max_input_tokens=None,
        max_token_length=_LONGEST_PIECE,
        max_unique_chars=None,
        vocab_size=None,
        slack_ratio=None,
        include_joiner_token=True,
        joiner=CONTINUATION_MARK,
        reserved_tokens=[],
    )
    words = sorted(counts.items())
    pieces = wordpiece_learner.learn_with_thresh(words, at_least, settings)
    # Only continuation pieces may begin with the sign for them.
    return {piece for piece in pieces if not piece.startswith(CONTINUATION)}
