"""Learns which characters and pieces of words a vocabulary holds."""

from collections import Counter

from tensorflow_text.tools.wordpiece_vocab import (
    wordpiece_tokenizer_learner_lib as wordpiece_learner,
)

from pocketseq.pipeline.text.matching import (
    CONTINUATION,
    CONTINUATION_MARK,
    longest_matches,
)
from pocketseq.pipeline.text.special import UNKNOWN_PIECE

# No learned piece is longer; a longer word counts as several when learning.
_LONGEST_PIECE = 16


def frequent_characters(counts, minimum_count):
    """Returns the characters that may be known, given how often each word occurs."""
    characters: Counter[str] = Counter()
    for word, count in counts.items():
        for character in word:
            characters[character] += count
    frequent = {c for c, count in characters.items() if count >= minimum_count}
    return frequent - {UNKNOWN_PIECE, CONTINUATION_MARK}


def _parts(counts):
    """Cuts words that are longer than any piece; learning takes a length's cube."""
    parts: Counter[str] = Counter()
    for word, count in counts.items():
        for start in range(0, len(word), _LONGEST_PIECE):
            parts[word[start : start + _LONGEST_PIECE]] += count
    return parts


def learn_longer_pieces(counts, characters, room):
    """Returns marked pieces of two characters and more, at most as many as have room.

    The learner is asked for all pieces above a frequency; which of them stay depends on
    how often the longest match uses them, and those that it never uses are of no use.

    Args:
        counts: ``{word: how often it occurs}``.
        characters: The marked pieces of one character.
        room: The largest number of longer pieces.
    """
    if room <= 0 or not counts:
        return set()
    # All words of a frequency are pieces, so at the lower of these two frequencies they
    # alone fill the room. A piece seen once would teach nothing.
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


def _pieces_seen(counts, at_least):
    """Returns the learner's marked pieces that are seen often enough."""
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
    # Only pieces that continue may begin with the sign for it.
    return {piece for piece in pieces if not piece.startswith(CONTINUATION)}
