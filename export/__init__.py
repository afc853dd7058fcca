"""From a trained model to files that an app ships."""

import pocketseq.pipeline  # noqa: F401  Keras is set up there.
