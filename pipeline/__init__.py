"""From a text file to a trained model that translates."""

import os

# Keras and TensorFlow read it when they are imported, which is after this.
os.environ["KERAS_BACKEND"] = "tensorflow"
