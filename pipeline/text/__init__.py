"""Text to token ids and back: normalization, tokenizers, composition."""
