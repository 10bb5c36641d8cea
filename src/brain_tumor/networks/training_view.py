"""A network as it is trained: the same variables and the same function, in operations that take less time."""

import keras
import tensorflow as tf
from keras import layers

_FAST_COLUMNS = 3  # of a depthwise kernel: oneDNN has fast code for the gradient of so many, not of more


def training_view(model: keras.Model) -> keras.Model:
    """A model over the same layers and variables, with the same outputs and gradients up to rounding, but faster.

    - Batch normalisation whose statistics stand still is multiplied into the kernel of the convolution before it, so
      that a map is written once, with bias and rectifier, instead of once for each step of the arithmetic (Jacob et
      al., Quantization and Training of Neural Networks, CVPR 2018, section 3.2).
    - Batch normalisation by the statistics of the batch is one operation instead of a chain.
    - A 1 x 1 convolution is a product of matrices: its kernel is not laid out anew for each step.
    - The gradient of a wide depthwise kernel is computed in parts, see `depthwise`.

    Args:
        model: functional, in float32. After a change of `trainable` of its layers, make a new view.

    Returns:
        A functional model. Its trainable variables are those of `model`, in the same order.
    """
    made = {}  # id of a tensor: what made it from which tensor, and the tensor itself, which keeps the id in use

    def call(layer, *args, **kwargs):
        before, inputs, _ = made.get(id(args[0]), (None, None, None))
        if _is_plain_convolution(layer):
            part, inputs = _Convolution(layer), args[0]
        elif before and _continues(before, layer):
            part = _Convolution(*before.parts, layer)
        else:
            return layer(*args, **kwargs)
        outputs = part(inputs)
        made[id(outputs)] = part, inputs, outputs
        return outputs

    return keras.models.clone_model(model, clone_function=lambda layer: layer, call_function=call, recursive=True)


def depthwise(inputs: tf.Tensor, kernel: tf.Tensor, stride: int, padding: str) -> tf.Tensor:
    """Depthwise convolution whose gradient by a wide kernel is computed in parts of three columns.

    Args:
        inputs: (n, h, w, c) float32.
        kernel: (rows, columns, c, 1) float32.
        stride: in both directions.
        padding: "SAME" or "VALID".

    Returns:
        (n, h', w', c) float32.
    """
    strides, (rows, columns, channels, _) = [1, stride, stride, 1], kernel.shape
    if columns <= _FAST_COLUMNS:
        return tf.nn.depthwise_conv2d(inputs, kernel, strides, padding)

    def by_kernel(inputs, upstream):
        if padding == "SAME":
            edges = [_same(inputs.shape[1], rows, stride), _same(inputs.shape[2], columns, stride)]
            inputs = tf.pad(inputs, [(0, 0), *edges, (0, 0)])
        parts, reach = [], (upstream.shape[2] - 1) * stride
        for first in range(0, columns, _FAST_COLUMNS):
            last = min(first + _FAST_COLUMNS, columns)
            parts.append(
                tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
                    input=inputs[:, :, first : reach + last],
                    filter_sizes=[rows, last - first, channels, 1],
                    out_backprop=upstream,
                    strides=strides,
                    padding="VALID",
                )
            )
        return tf.concat(parts, axis=1)

    @tf.custom_gradient
    def convolve(inputs, kernel):
        def gradient(upstream):
            by_inputs = tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
                input_sizes=tf.shape(inputs), filter=kernel, out_backprop=upstream, strides=strides, padding=padding
            )
            return by_inputs, by_kernel(inputs, upstream)

        return tf.nn.depthwise_conv2d(inputs, kernel, strides, padding), gradient

    return convolve(inputs, kernel)


class _Convolution(layers.Layer):
    """A convolution of Keras over its variables, with the batch normalisation and the rectifier that follow it."""

    def __init__(self, *parts: layers.Layer) -> None:
        super().__init__(name="_".join(part.name for part in parts) + "_in_training")
        self.parts = list(parts)
        self.built = True

    def call(self, inputs, training=None):
        convolution, *others = self.parts
        norm = next((part for part in others if isinstance(part, layers.BatchNormalization)), None)
        rectifier = next((part for part in others if isinstance(part, layers.ReLU)), None)
        by_batch = norm is not None and training and norm.trainable
        kernel, bias = tf.convert_to_tensor(convolution.kernel), convolution.bias
        depth = isinstance(convolution, layers.DepthwiseConv2D)
        if norm is not None and not by_batch:
            scale = norm.gamma * tf.math.rsqrt(norm.moving_variance + norm.epsilon)
            kernel = kernel * (scale[:, None] if depth else scale)
            bias = norm.beta + ((0.0 if bias is None else bias) - norm.moving_mean) * scale
        flat = not depth and not by_batch and (*kernel.shape[:2], *convolution.strides) == (1, 1, 1, 1)
        if flat:
            outputs = tf.reshape(inputs, [-1, kernel.shape[2]]) @ kernel[0, 0]
        elif depth:
            outputs = depthwise(inputs, kernel, convolution.strides[0], convolution.padding.upper())
        else:
            outputs = tf.nn.conv2d(inputs, kernel, convolution.strides, convolution.padding.upper())
        if bias is not None:
            outputs = tf.nn.bias_add(outputs, bias)
        if by_batch:
            outputs = _normed(norm, outputs)
        if rectifier is not None:
            outputs = tf.nn.relu6(outputs) if rectifier.max_value == 6 else tf.nn.relu(outputs)
        return tf.reshape(outputs, [-1, *inputs.shape[1:3], kernel.shape[3]]) if flat else outputs


def _normed(norm: layers.BatchNormalization, inputs: tf.Tensor) -> tf.Tensor:
    """What a layer computes in training, and follows by its moving statistics."""
    outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
        inputs, tf.convert_to_tensor(norm.gamma), tf.convert_to_tensor(norm.beta), epsilon=norm.epsilon
    )
    # Keras follows the variance of the batch, this operation gives the estimate for the population.
    count = tf.cast(tf.size(inputs) / tf.size(mean), tf.float32)
    for moving, value in ((norm.moving_mean, mean), (norm.moving_variance, variance * (count - 1) / count)):
        moving.assign(moving * norm.momentum + value * (1 - norm.momentum))
    return outputs


def _same(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """The rows that "SAME" adds before and after."""
    added = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return added // 2, added - added // 2


def _continues(before: _Convolution, layer: layers.Layer) -> bool:
    """Whether a layer can be computed together with the convolution, or convolution and norm, before it."""
    if type(layer) is layers.BatchNormalization:
        plain = layer.center and layer.scale and not layer.renorm and not layer.synchronized
        return plain and layer.axis in (-1, 3) and len(before.parts) == 1
    if type(layer) is layers.ReLU:
        plain = layer.max_value in (None, 6) and not layer.negative_slope and not layer.threshold
        return plain and not any(type(part) is layers.ReLU for part in before.parts)
    return False


def _is_plain_convolution(layer: layers.Layer) -> bool:
    return (
        type(layer) in (layers.Conv2D, layers.DepthwiseConv2D)
        and layer.data_format == "channels_last"
        and layer.activation is keras.activations.linear
        and tuple(layer.dilation_rate) == (1, 1)
        and getattr(layer, "groups", 1) == getattr(layer, "depth_multiplier", 1) == 1
    )
