"""From pairs of texts to a run folder of trained weights."""
