"""The parts of ``training_speed.py``.

Each contender (``ours``, ``stock_keras``, ``pytorch``) and ``limit`` is imported in a
process of its own, by :mod:`training.workers`; all other modules import neither
TensorFlow nor PyTorch.
"""
