"""Where a network looks: class activation maps from the map of features that the head averages.

Grad-CAM (Selvaraju et al., ICCV 2017) at the last convolution. As every network here ends with a global average,
its weights are the slopes of a class's logit by the averaged features, the same for all places; without a hidden
layer these are the weights of the last layer, and the map is the class activation map of Zhou et al. (CVPR 2016).
The trunk runs once for all classes. Negative values are kept: they speak against the class.
"""

import keras
import numpy as np
import tensorflow as tf

from brain_tumor.progress import bar


class Explainer:
    """Class activation maps of one classifier.

    Args:
        model: what `networks.build` returns, trained.
    """

    def __init__(self, model: keras.Model) -> None:
        pooling = model.get_layer("features")
        self._trunk = keras.Model(model.input, [pooling.input, pooling.output])
        *self._between, last = model.layers[model.layers.index(pooling) + 1 :]
        self._kernel = tf.cast(last.kernel, tf.float32)

    def maps(self, images: np.ndarray, batch_size: int = 64) -> np.ndarray:
        """The map of every class.

        Args:
            images: (n, size, size) uint8.
            batch_size: images computed at once.

        Returns:
            (n, height, width, classes) float32, in logits: their mean over the places is the class's logit, but for
            what does not depend on the image (where there is a hidden layer, to first order).
        """
        starts = bar(range(0, len(images), batch_size), desc="maps", unit="batch")
        return np.concatenate([self._batch(images[start : start + batch_size]) for start in starts])

    def _batch(self, images: np.ndarray) -> np.ndarray:
        features, pooled = self._trunk(images[..., None], training=False)
        features, pooled = tf.cast(features, tf.float32), tf.convert_to_tensor(tf.cast(pooled, tf.float32))
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(pooled)
            hidden = pooled
            for layer in self._between:
                hidden = layer(hidden)
            logits = tf.unstack(tf.cast(hidden, tf.float32) @ self._kernel, axis=1)
        slopes = tf.stack([tape.gradient(logit, pooled) for logit in logits], axis=-1)
        return tf.einsum("nhwd,ndc->nhwc", features, slopes).numpy()


def randomised(model: keras.Model, seed: int) -> keras.Model:
    """The same network with weights drawn anew: what a map must not survive (Adebayo et al., NeurIPS 2018)."""
    keras.utils.set_random_seed(seed)
    return keras.models.clone_model(model)
