"""The optimizer, its learning rates, and the moving average of the weights."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf


class LayerwiseAdamW(keras.optimizers.AdamW):
    """AdamW (Loshchilov and Hutter, ICLR 2019) with a separate learning rate for each variable.

    Args:
        rates: relative learning rate of each trainable variable of the model, in its order; None: 1 for all.
    """

    def __init__(self, *args, rates: Sequence[float] | None = None, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._rates = rates

    def update_step(self, gradient, variable, learning_rate) -> None:
        index, step = self._get_variable_index(variable), tf.cast(self.iterations + 1, tf.float32)
        # What Keras's AdamW computes, in one pass over the weights instead of a dozen.
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=self.beta_1**step,
            beta2_power=self.beta_2**step,
            lr=learning_rate * (1.0 if self._rates is None else self._rates[index]),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )


def cosine(
    peak: float, *, steps: int, epochs: int, warmup_epochs: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """A linear rise to `peak` and a cosine fall to 0 over `epochs` of `steps` (Loshchilov and Hutter, ICLR 2017).

    The rise takes at most half of the epochs.

    Example:
        >>> rate = cosine(0.1, steps=10, epochs=4, warmup_epochs=1)
        >>> round(float(rate(10)), 6), round(float(rate(40)), 6)
        (0.1, 0.0)
    """
    warmup = round(min(warmup_epochs, epochs / 2) * steps)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=peak / steps if warmup else peak,
        decay_steps=max(1, epochs * steps - warmup),
        warmup_target=peak if warmup else None,
        warmup_steps=warmup,
    )


def layer_rates(model: keras.Model, first: float) -> list[float]:
    """Relative learning rate of each trainable variable of a classifier: rising from `first` to 1 in its trunk.

    Layer-wise rates preserve the early, general features and adapt the late ones (Howard and Ruder, ULMFiT, ACL 2018).
    """
    names = [layer.name for layer in model.layers]
    after = model.layers[names.index("features") :]
    in_head = sum(len(layer.trainable_variables) for layer in after)
    adapted = len(model.trainable_variables) - in_head
    return [*np.geomspace(first, 1, adapted).tolist(), *[1.0] * in_head]


class Average:
    """Exponential moving average of variables, such as all weights of a model and its batch statistics.

    Polyak and Juditsky, SIAM J. Control Optim. 30(4), 1992. It is computed beside the model and never leaves
    TensorFlow, as copying all weights after each step would take a tenth of the time of the step.

    Args:
        variables: Keras variables.
        momentum: of the average; at first it is lower, so that the random initial values soon lose their influence.

    Attributes:
        updates: number of updates so far.
    """

    def __init__(self, variables: Sequence[keras.Variable], momentum: float) -> None:
        self.updates = 0
        self._momentum = momentum
        self._followed = [variable.value for variable in variables]
        self._averages = [tf.Variable(value, trainable=False) for value in self._followed]
        self._blend = tf.function(self._blended)

    def update(self) -> None:
        """Add the present values to the average; the first ones are the average."""
        momentum = min(self._momentum, (1 + self.updates) / (10 + self.updates)) if self.updates else 0.0
        self._blend(tf.constant(momentum, tf.float32), tf.constant(1 - momentum, tf.float32))
        self.updates += 1

    @property
    def values(self) -> list[np.ndarray]:
        """The averages, in the order of the variables."""
        return [average.numpy() for average in self._averages]

    def restore(self, values: Sequence[np.ndarray], updates: int) -> None:
        """Continue from what `values` and `updates` were."""
        for average, value in zip(self._averages, values, strict=True):
            average.assign(value)
        self.updates = updates

    def _blended(self, old, new) -> None:
        for average, value in zip(self._averages, self._followed, strict=True):
            average.assign(old * average + new * value)
