"""Text to token ids and back: normalization, tokenizers, composition."""

from typing import Literal

#: The kinds of tokenizer, by the names that recipes and manifests use.
TokenizerKind = Literal["character", "word", "wordpiece"]
