"""The ids that every vocabulary starts with. They exist here and nowhere else."""

PAD, START, END, UNKNOWN = range(4)

#: What decodes to U+FFFD unless attention points at a source code point.
UNKNOWN_PIECE = "\ufffd"

#: The pieces at these ids, in order; the bracketed ones are never part of a text.
SPECIAL_PIECES = ("<pad>", "<start>", "<end>", UNKNOWN_PIECE)
