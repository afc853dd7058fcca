"""The parts of ``inference_speed.py``; all but the report import TensorFlow."""
