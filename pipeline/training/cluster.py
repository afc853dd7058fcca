"""Training on many machines: their roles, and the sums that they share.

The cluster is described as Kubeflow, Vertex AI and SageMaker do it, by ``TF_CONFIG``.
Every worker holds the whole model and reads a part of the corpus. An update sums the
gradients of all, so all come to the same weights. Only the chief, the first of them,
reads and writes the run folder; what the others need of it, it sends.
"""

import io
import json
import logging
import os
import re
import signal
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from pocketseq.pipeline.errors import UserError, system_problem
from pocketseq.pipeline.signals import handled_by

if TYPE_CHECKING:  # it must not be imported before a cluster is joined
    import tensorflow as tf

logger = logging.getLogger(__name__)

_ROLES = ("chief", "worker")

_ADDRESS = re.compile(r"[^\s/]+:(?P<port>[0-9]{1,5})")
_INDEX = re.compile("[0-9]{1,9}")


class WorkerLost(Exception):
    """Another worker has ended or cannot be reached; no sum is complete any more."""


class Workers(Protocol):
    """The workers that train together, as one of them sees them.

    Each method is called on all of them, in the same order: each waits for the others.

    ``index``: which one this is, from 0; ``size``: how many there are; ``is_chief``:
    whether this one reads and writes the run folder.
    """

    index: int
    size: int
    is_chief: bool

    def sum(self, tensors: "Sequence[tf.Tensor]") -> "Sequence[tf.Tensor]":
        """Returns the sums of tensors, all of one dtype, over all workers.

        Raises:
            WorkerLost: A worker is gone.
        """

    def broadcast(self, data: bytes) -> bytes:
        """Returns the chief's bytes on every worker, whatever the others give.

        Raises:
            WorkerLost: A worker is gone.
        """

    def gather(self, numbers: Sequence[int]) -> np.ndarray:
        """Returns everyone's numbers, int ``(workers, n)``.

        Raises:
            WorkerLost: A worker is gone.
        """


class Alone:
    """The :class:`Workers` on one machine: nothing to share."""

    index: int = 0
    size: int = 1
    is_chief: bool = True

    def sum(self, tensors: "Sequence[tf.Tensor]") -> "Sequence[tf.Tensor]":
        """Returns the tensors."""
        return tensors

    def broadcast(self, data: bytes) -> bytes:
        """Returns the bytes."""
        return data

    def gather(self, numbers: Sequence[int]) -> np.ndarray:
        """Returns the numbers, int ``(1, n)``."""
        return np.array([numbers])


class Cluster:
    """The :class:`Workers` that ``TF_CONFIG`` names, by TensorFlow's strategy for them.

    The strategy carries sums, and nothing else: variables are each worker's own, equal
    because they start equal and take equal updates. An update that loses a worker has
    changed nothing, therefore, and the chief can still save what it has.

    To be made before TensorFlow's first operation; waits until all workers are there.

    Args:
        strategy: ``tf.distribute.MultiWorkerMirroredStrategy``.
    """

    def __init__(self, strategy: "tf.distribute.MultiWorkerMirroredStrategy") -> None:
        import tensorflow as tf

        self._strategy = strategy
        resolver = strategy.cluster_resolver
        spec = resolver.cluster_spec().as_dict()
        self.size = sum(len(spec.get(role, ())) for role in _ROLES)
        before = len(spec.get("chief", ())) if resolver.task_type == "worker" else 0
        self.index = before + resolver.task_id
        self.is_chief = self.index == 0
        self._sum = tf.function(self._sums, autograph=False)

    def _sums(self, tensors: "Sequence[tf.Tensor]") -> "Sequence[tf.Tensor]":
        """Sums all tensors, of one dtype, as one row of numbers: one message each."""
        import tensorflow as tf

        def sum_row(row: tf.Tensor) -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            # The identity is on the replica's device, where the sum is asked for.
            return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(row))

        row = tf.concat([tf.reshape(tensor, [-1]) for tensor in tensors], axis=0)
        row = self._strategy.run(sum_row, args=(row,))
        parts = tf.split(row, [tf.size(tensor) for tensor in tensors])
        return [
            tf.reshape(part, tf.shape(tensor))
            for part, tensor in zip(parts, tensors, strict=True)
        ]

    def sum(self, tensors: "Sequence[tf.Tensor]") -> "Sequence[tf.Tensor]":
        """Returns the sums of tensors over all workers.

        Raises:
            WorkerLost: A worker is gone.
        """
        import tensorflow as tf

        try:
            return self._sum([tf.convert_to_tensor(tensor) for tensor in tensors])
        except tf.errors.OpError as error:
            raise WorkerLost(error.message) from error

    def broadcast(self, data: bytes) -> bytes:
        """Returns the chief's bytes on every worker."""
        size = len(data) if self.is_chief else 0
        (size,) = (int(x) for x in self.sum([np.array(size, np.int32)]))
        if not size:  # a sum of nothing ends the process
            return b""
        # As whole numbers of 32 bits, of which a sum with zeros is an exact copy.
        words = np.zeros(-(-size // 4), np.int32)
        if self.is_chief:
            words = np.frombuffer(data.ljust(4 * len(words), b"\0"), np.int32)
        (words,) = self.sum([words])
        return words.numpy().tobytes()[:size]

    def gather(self, numbers: Sequence[int]) -> np.ndarray:
        """Returns everyone's numbers, int ``(workers, n)``."""
        rows = np.zeros((self.size, len(numbers)), np.int32)
        rows[self.index] = numbers
        (rows,) = self.sum([rows])
        return rows.numpy()


def join_cluster() -> Workers:
    """Returns the cluster that ``TF_CONFIG`` describes, or :class:`Alone` without it.

    Raises:
        UserError: ``TF_CONFIG`` is not what Kubeflow and others write.
    """
    text = os.environ.get("TF_CONFIG", "").strip()
    if not text or not _names_others(text):
        return Alone()
    import tensorflow as tf

    logger.info("waiting for the other workers that TF_CONFIG names")
    try:
        # Ctrl-C ends the process at once while it waits where Python sees no signal:
        # there is nothing to tidy up yet. SIGTERM is TensorFlow's meanwhile.
        with handled_by(signal.SIG_DFL):
            strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except tf.errors.OpError as error:
        raise UserError(f"TF_CONFIG: {error.message}, expected a free port") from error
    return Cluster(strategy)


def _names_others(text: str) -> bool:
    """Whether ``TF_CONFIG`` names more than one worker, after a look at its form."""
    members, role, index = _described(text)
    others = set(members) - set(_ROLES)
    if others or role not in _ROLES:
        named = ", ".join(sorted({*others, role} - set(_ROLES)))
        raise UserError(
            f"TF_CONFIG: the role {named} has no part here, expected chief and worker"
        )
    if not 0 <= index < len(members.get(role, ())):
        raise UserError(
            f"TF_CONFIG: there is no {role} {index}, expected an index below "
            f"{len(members.get(role, ()))}"
        )
    addresses = [address for role in _ROLES for address in members.get(role, ())]
    for address in addresses:
        if addresses.count(address) > 1:
            raise UserError(
                f"TF_CONFIG: {address} is there twice, expected one address per worker"
            )
    return len(addresses) > 1


def _described(text: str) -> tuple[dict[str, list[str]], str, int]:
    """Returns ``{role: addresses}`` of ``TF_CONFIG``, and this process' role and index.

    Raises:
        UserError: It does not have the form that Kubeflow and others write.
    """
    described: Any
    try:
        described = json.loads(text)
    except (ValueError, RecursionError):
        described = None
    match described:
        case {"cluster": members, "task": {"type": str(role), "index": index}} if (
            isinstance(members, dict)
            and all(map(_are_addresses, members.values()))
            and _INDEX.fullmatch(str(index))  # a text in some systems
        ):
            return members, role, int(index)
    shown = " ".join(text.split())
    raise UserError(
        f"TF_CONFIG={shown[:200]}: expected "
        '{"cluster": {"worker": ["host:port", ...]}, '
        '"task": {"type": "worker", "index": 0}}'
    )


def _are_addresses(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(address, str)
        and (found := _ADDRESS.fullmatch(address))
        and 0 < int(found["port"]) < 2**16
        for address in value
    )


def share(
    cluster: Workers, make: Callable[[], dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Returns on every worker what ``make`` returns on the chief.

    Args:
        cluster: The workers; all call this.
        make: Called on the chief only; returns ``{name: array}``.

    Raises:
        UserError: ``make`` raised one, or the system refused it a file; on every
            worker, so that none waits for ever.
    """
    if cluster.size == 1:
        return make()
    packed, problem = io.BytesIO(), ""
    if cluster.is_chief:
        try:
            np.savez(packed, allow_pickle=False, **make())
        except UserError as error:
            problem = str(error)
        except OSError as error:
            problem = system_problem(error)
    problem = cluster.broadcast(problem.encode()).decode()
    if problem:
        raise UserError(problem)
    data = cluster.broadcast(packed.getvalue())
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
