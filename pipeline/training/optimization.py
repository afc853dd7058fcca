"""The loss that training minimises, and the learning rate."""

import functools
from collections.abc import Callable

import keras
import tensorflow as tf

from pocketseq.pipeline.configuration import TrainingConfig
from pocketseq.pipeline.data.batches import Batch, Labels

#: From logits ``(batch, target_length, vocabulary_size)`` and the batch they belong to,
#: to the loss in nats, a scalar: summed over the real target tokens, so that sums over
#: the parts of a batch and over workers are sums of the loss, too.
Loss = Callable[[tf.Tensor, Batch], tf.Tensor]


def learning_rate(
    settings: TrainingConfig,
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Returns the schedule: a linear warm-up, then half a cosine, by updates.

    References: Loshchilov and Hutter 2017, "SGDR", eq. 5, without restarts.
    """
    warmup = min(settings.warmup_updates, settings.updates - 1)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        warmup_target=settings.learning_rate,
        warmup_steps=warmup,
        decay_steps=settings.updates - warmup,
        alpha=settings.final_learning_rate_share,
    )


def label_smoothing_loss(settings: TrainingConfig) -> Loss:
    """Returns :func:`smoothed_loss` with the smoothing of a recipe."""

    def loss(logits: tf.Tensor, batch: Batch) -> tf.Tensor:
        return smoothed_loss(
            logits, batch.target_ids, batch.target_length, settings.label_smoothing
        )

    return loss


def distillation_loss(settings: TrainingConfig, share: float) -> Loss:
    """Returns the loss of a student, for batches with :class:`Labels`.

    ``share * labelled_loss + (1 - share) * smoothed_loss``.

    Args:
        settings: With the label smoothing of the second part.
        share: The weight of what the teachers say.

    References: Hinton, Vinyals and Dean 2015, "Distilling the knowledge in a neural
    network", section 2, at temperature 1; Kim and Rush 2016, "Sequence-level knowledge
    distillation", section 3.1 (word level).
    """
    of_targets = label_smoothing_loss(settings)

    def loss(logits: tf.Tensor, batch: Batch) -> tf.Tensor:
        if not isinstance(batch.labels, Labels):
            raise ValueError("expected a batch with labels")
        of_teachers = labelled_loss(logits, batch.labels, batch.target_length)
        return share * of_teachers + (1 - share) * of_targets(logits, batch)

    return loss


def smoothed_loss(
    logits: tf.Tensor,
    target_ids: tf.Tensor,
    target_length: tf.Tensor,
    smoothing: float,
) -> tf.Tensor:
    """Returns the summed cross entropy against smoothed targets, a scalar, in nats.

    ``(1 - smoothing) * -log p(target) + smoothing * mean over tokens of -log p``,
    summed over the real target tokens.

    Args:
        logits: ``(batch, target_length, vocabulary_size)``.
        target_ids: int32 ``(batch, target_length)``.
        target_length: int32 ``(batch,)``.
        smoothing: From 0 up to, but not including, 1.

    References: Szegedy et al. 2016, "Rethinking the Inception architecture", section 7.
    """
    mask = tf.sequence_mask(target_length, tf.shape(target_ids)[1], tf.float32)

    @tf.custom_gradient
    def loss(logits: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        log_sums, found = _loss_forward(logits, target_ids, mask, smoothing)

        def gradient(d_loss: tf.Tensor) -> tf.Tensor:
            rows = mask * d_loss
            return _loss_backward(logits, log_sums, target_ids, rows, smoothing)

        return found, gradient

    return loss(tf.convert_to_tensor(logits))


def labelled_loss(
    logits: tf.Tensor, labels: Labels, target_length: tf.Tensor
) -> tf.Tensor:
    """Returns the summed cross entropy against labels, a scalar, in nats.

    ``sum over choices of -probability * log p(choice)``, summed over the real target
    tokens.

    Args:
        logits: ``(batch, target_length, vocabulary_size)``.
        labels: :class:`Labels`.
        target_length: int32 ``(batch,)``.
    """
    mask = tf.sequence_mask(target_length, tf.shape(labels.ids)[1], tf.float32)
    ids, probabilities = labels.ids, labels.probabilities * mask[:, :, None]

    @tf.custom_gradient
    def loss(logits: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        log_sums, found = _labelled_forward(logits, ids, probabilities)

        def gradient(d_loss: tf.Tensor) -> tf.Tensor:
            return _labelled_backward(logits, log_sums, ids, probabilities * d_loss)

        return found, gradient

    return loss(tf.convert_to_tensor(logits))


# A large vocabulary makes the logits the largest thing in a training step. Compiled,
# each function passes over them once, where separate operations passed a dozen times.
_compiled = functools.partial(tf.function, jit_compile=True, autograph=False)


@_compiled
def _loss_forward(
    logits: tf.Tensor, target_ids: tf.Tensor, mask: tf.Tensor, smoothing: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the log of the sum of powers, ``(batch, length)``, and the loss."""
    logits = tf.cast(logits, tf.float32)
    log_sums = tf.reduce_logsumexp(logits, axis=-1)
    wanted = tf.gather(logits, target_ids, axis=-1, batch_dims=2)
    mean = tf.reduce_mean(logits, axis=-1)
    loss = log_sums - (1 - smoothing) * wanted - smoothing * mean
    return log_sums, tf.reduce_sum(loss * mask)


@_compiled
def _loss_backward(
    logits: tf.Tensor,
    log_sums: tf.Tensor,
    target_ids: tf.Tensor,
    rows: tf.Tensor,
    smoothing: float,
) -> tf.Tensor:
    """Returns ``rows * (p - smoothed target)``, like the logits."""
    size = logits.shape[-1]
    p = tf.exp(tf.cast(logits, tf.float32) - log_sums[..., None])
    target = (1 - smoothing) * tf.one_hot(target_ids, size) + smoothing / size
    return tf.cast(rows[..., None] * (p - target), logits.dtype)


@_compiled
def _labelled_forward(
    logits: tf.Tensor, ids: tf.Tensor, probabilities: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the log of the sum of powers, ``(batch, length)``, and the loss."""
    logits = tf.cast(logits, tf.float32)
    log_sums = tf.reduce_logsumexp(logits, axis=-1)
    wanted = tf.gather(logits, ids, axis=-1, batch_dims=2)
    return log_sums, tf.reduce_sum(probabilities * (log_sums[..., None] - wanted))


@_compiled
def _labelled_backward(
    logits: tf.Tensor, log_sums: tf.Tensor, ids: tf.Tensor, probabilities: tf.Tensor
) -> tf.Tensor:
    """Returns ``p * sum of probabilities - labels``, like the logits."""
    p = tf.exp(tf.cast(logits, tf.float32) - log_sums[..., None])
    total = tf.reduce_sum(probabilities, axis=-1, keepdims=True)
    spread = tf.one_hot(ids, logits.shape[-1]) * probabilities[..., None]
    return tf.cast(p * total - tf.reduce_sum(spread, axis=-2), logits.dtype)
