"""From a trained network to a LiteRT model, which runs without TensorFlow."""

import keras
import tensorflow as tf

from brain_tumor.model.maps import explained


def in_float32(model: keras.Model) -> keras.Model:
    """The same network computing in single precision throughout, as LiteRT does; its weights are that already."""

    def single(layer: keras.layers.Layer) -> keras.layers.Layer:
        return layer.__class__.from_config(layer.get_config() | {"dtype": "float32"})

    clone = keras.models.clone_model(model, clone_function=single, recursive=True)
    clone.set_weights(model.get_weights())
    return clone


def to_litert(model: keras.Model) -> bytes:
    """Convert a classifier with its maps and features.

    Args:
        model: what `networks.build` returns, trained, `in_float32`.

    Returns:
        A LiteRT model from `pixels` (n, size, size, 1) uint8, any n, to what `explained` gives, by the same names.
        The same weights give the same bytes.
    """
    whole = explained(model)
    # Keras' own export takes floats only, four times the bytes to copy.
    call = tf.function(
        lambda pixels: whole(pixels, training=False),
        input_signature=[tf.TensorSpec((None, *model.inputs[0].shape[1:]), tf.uint8, name="pixels")],
    )
    owner = tf.Module()
    owner.variables_of_the_model = [variable.value for variable in whole.variables]
    return tf.lite.TFLiteConverter.from_concrete_functions([call.get_concrete_function()], owner).convert()
