"""Short text to short text on the phone."""
