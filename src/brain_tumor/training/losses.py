"""The loss of labels that leave several classes possible, and the accuracy beside it.

Minus the logarithm of the summed probability of the allowed classes: R. Jin and Z. Ghahramani, Learning with Multiple
Labels, NeurIPS 2002. For a single class it is cross-entropy.
"""

import keras
from keras import ops


class PartialCrossentropy(keras.losses.Loss):
    """Mean of (1 - s) * -log(sum of the allowed classes' probabilities) + s * (mean of -log p over all classes).

    Targets are (n, parts, classes): the allowed classes of each part of an image, times its share of the image. There
    is one part of share 1, or two where two images are blended (mixup); their losses are summed by their shares.

    Args:
        label_smoothing: s.
    """

    def __init__(self, label_smoothing: float) -> None:
        super().__init__(name="partial_crossentropy")
        self._label_smoothing = label_smoothing

    def call(self, y_true, y_pred):
        # Cross-entropy with the distribution over the allowed classes has the gradient of the loss, and exceeds it by
        # the entropy of that distribution. For a single class it is exactly Keras's cross-entropy, on the logits.
        shares = ops.max(y_true, axis=-1)
        likely = ops.where(y_true > 0, ops.stop_gradient(y_pred)[:, None], 0.0)
        # A probability may underflow to 0: the smallest normal number keeps the division defined.
        likely = ops.maximum(likely, ops.where(y_true > 0, 1e-37, 0.0))
        total = ops.sum(likely, axis=-1, keepdims=True)
        # The share of a part may be 0, and then it has no allowed class.
        likely = likely / ops.where(total > 0, total, 1.0)
        entropy = -ops.sum(likely * ops.log(ops.where(likely > 0, likely, 1.0)), axis=-1)
        target = ops.sum(shares[..., None] * likely, axis=1)
        crossentropy = keras.losses.categorical_crossentropy(target, y_pred, label_smoothing=self._label_smoothing)
        return crossentropy - (1 - self._label_smoothing) * ops.sum(shares * entropy, axis=1)


def partial_accuracy(y_true, y_pred):
    """(n,) 1 where the most probable class is among the allowed ones of the larger part, else 0."""
    weight = ops.sum(y_true, axis=1)
    chosen = ops.take_along_axis(weight, ops.argmax(y_pred, axis=-1)[:, None], axis=-1)[:, 0]
    return ops.cast(chosen >= ops.max(weight, axis=-1), "float32")
