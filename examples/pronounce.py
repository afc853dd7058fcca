"""Says words by a model in the box, and which letters each phone comes from.

``python examples/pronounce.py phone attention``, without any training and without
TensorFlow. ``--model NAME`` takes another one, or a path.
"""

import argparse

import pocketseq

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--model", default="english-pronunciation")
parser.add_argument("words", nargs="*", default=["phone", "attention", "pocketseq"])
arguments = parser.parse_args()

translator = pocketseq.load(arguments.model)

for (best,) in translator.translate(arguments.words):
    # What is answered from the table of a dictionary has score 0; of other texts the
    # score is the mean log-probability of a phone.
    how = "from the table" if best.score == 0 else f"score {best.score:.2f}"
    print(f"{best.source}: {best.text} ({how})")

    # A row of the alignment per character of the answer, a column per letter.
    if best.alignment is None:  # a SavedModel does not tell
        continue
    place = 0
    for phone in best.text.split():
        row = best.alignment[place : place + len(phone)].mean(axis=0)
        shares = sorted(zip(row, best.source, strict=True), reverse=True)
        print(f"  {phone:4}" + "  ".join(f"{c} {w:4.0%}" for w, c in shares[:2]))
        place += len(phone) + 1  # and the space
