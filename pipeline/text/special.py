"""The special ids that every vocabulary starts with, defined only here."""

PAD, START, END, UNKNOWN = range(4)

#: The piece for unknown text. Decoding replaces it by the source code point that
#: attention points at, if there is one.
UNKNOWN_PIECE = "\ufffd"

#: The pieces of these ids, in order; the bracketed ones are never part of a text.
SPECIAL_PIECES = ("<pad>", "<start>", "<end>", UNKNOWN_PIECE)
