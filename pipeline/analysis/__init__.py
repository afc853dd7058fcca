"""Analysis of what models answer: how sure a difference is, what goes wrong, and why.

Nothing here imports TensorFlow: a ``.tflite`` file is measured without it.
"""
