"""Manifests for tests that make a file without an export."""

import json

from pocketseq.export.contract import (
    FORMAT,
    Manifest,
    Side,
    signature_keys,
    translate_signature,
)
from pocketseq.pipeline.text.normalization import NO_NORMALIZATION

#: By this an export is recognized, and nothing else in it is read.
OLD_BUNDLE = json.dumps(
    {"format": FORMAT, "signatures": {}, "models": {}, "recipe": {}}
)


def made_up_manifest(lengths=((3, 3),), *, beam_size=None, **changes):
    """Returns a :class:`Manifest`.

    Args:
        lengths: ``(source length, target length)`` of the signatures, the default
            first.
        beam_size: With one, there are signatures that search with it.
        changes: Other fields.
    """
    lengths = dict(lengths)
    n, m = next(iter(lengths.items()))
    values = {
        "name": "name",
        "task": "task",
        "source": Side("character", NO_NORMALIZATION, n),
        "target": Side("character", NO_NORMALIZATION, m),
        "signatures": {
            key.name: translate_signature(
                key.length, lengths[key.length], key.beam_size or 1
            )
            for key in signature_keys(lengths, beam_size)
        },
        "models": {},
        "recipe": {
            "search": {"beam_size": 1, "length_penalty": 1.0},
            "data": {"license": "none"},
        },
        "beam_size": beam_size,
    }
    return Manifest(**{**values, **changes})
