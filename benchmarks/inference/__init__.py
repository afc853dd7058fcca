"""The parts of ``inference_speed.py``; each imports TensorFlow, one PyTorch too."""
