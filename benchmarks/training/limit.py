"""The machine's limit: how fast it multiplies large matrices, in TensorFlow."""

import tensorflow as tf

from common import PRODUCT_SIZE, product_gflops
from training.contenders import PRECISIONS, Precision


class ProductLimit:
    """Matrix products and nothing else."""

    def __init__(self) -> None:
        matrix = tf.random.stateless_uniform([PRODUCT_SIZE, PRODUCT_SIZE], [1, 2])
        self.matrices = {name: tf.cast(matrix, name) for name in PRECISIONS}
        self.product = tf.function(tf.linalg.matmul)
        self.gflops()

    def gflops(self) -> dict[Precision, float]:
        """Returns GFLOP/s at each precision."""
        return {name: self._gflops(matrix) for name, matrix in self.matrices.items()}

    def _gflops(self, matrix: tf.Tensor) -> float:
        return product_gflops(lambda: self.product(matrix, matrix))
