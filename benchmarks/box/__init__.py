"""The parts of ``make_models.py``; none imports TensorFlow."""
