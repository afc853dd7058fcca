"""The token embedding of encoder and decoder."""

import keras


def token_embedding(vocabulary_size, embedding_size):
    """Returns an embedding layer whose rows start with a length of about 1.

    Keras' own start, 0.03 a component, leaves the first LSTM almost without input and
    an output projection tied to it almost without opinion.
    """
    return keras.layers.Embedding(
        vocabulary_size,
        embedding_size,
        embeddings_initializer=keras.initializers.RandomNormal(
            stddev=embedding_size**-0.5
        ),
        name="embedding",
    )
