"""From a trained model to files that an app ships."""
