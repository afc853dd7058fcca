"""Views of a training run for people: curves, pictures, progress."""
