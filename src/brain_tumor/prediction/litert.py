"""From a trained network to a LiteRT model, which runs without TensorFlow."""

import keras
import numpy as np
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

from brain_tumor.errors import PipelineError
from brain_tumor.exported.network import Network
from brain_tumor.prediction.maps import explained, outputs
from brain_tumor.progress import bar

_TOLERANCE = 0.01  # of probabilities, between Keras and LiteRT
# Tensors of more weights than this are stored in half precision. Those of the first layers and the depthwise ones are
# smaller and few, and an error there counts most: 0.013 of a probability if they are halved as well, 0.002 if not.
_LARGE = 20_000


def in_float32(model: keras.Model) -> keras.Model:
    """The same network computing in single precision throughout, as LiteRT does; its weights are float32 already."""

    def single(layer: keras.layers.Layer) -> keras.layers.Layer:
        return layer.__class__.from_config(layer.get_config() | {"dtype": "float32"})

    clone = keras.models.clone_model(model, clone_function=single, recursive=True)
    clone.set_weights(model.get_weights())
    return clone


def to_litert(model: keras.Model, flips: bool) -> bytes:
    """Convert a classifier with its maps and features.

    Args:
        model: what `networks.classifier.build` returns, trained, `in_float32`.
        flips: answer from each image and its mirror image, see `maps.explained`.

    Returns:
        A LiteRT model from `pixels` (n, size, size, 1) uint8, any n, to the outputs of `maps.explained`, by the same
        names. The large tensors are stored in half precision, which almost halves the file, and all are computed with
        in single precision. The same weights give the same bytes.
    """
    whole = explained(model, flips)
    # Keras' own export takes floats only, four times the bytes to copy.
    call = tf.function(
        lambda pixels: whole(pixels, training=False),
        input_signature=[tf.TensorSpec((None, *model.inputs[0].shape[1:]), tf.uint8, name="pixels")],
    )
    owner = tf.Module()
    owner.variables_of_the_model = [variable.value for variable in whole.variables]
    converter = tf.lite.TFLiteConverter.from_concrete_functions([call.get_concrete_function()], owner)
    return _halved(converter.convert())


def _halved(content: bytes) -> bytes:
    """A LiteRT model whose tensors of more than `_LARGE` weights are stored in half precision.

    TensorFlow's own converter halves all of them or none.
    """
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    (graph,) = model.subgraphs
    kind = schema.OperatorCodeT(deprecatedBuiltinCode=schema.BuiltinOperator.DEQUANTIZE)
    kind.builtinCode, kind.version = schema.BuiltinOperator.DEQUANTIZE, 3  # the first one from half precision
    model.operatorCodes.append(kind)
    halved, widened = {}, []  # tensors may share a buffer
    for index, tensor in enumerate(list(graph.tensors)):
        if (source := tensor.buffer) not in halved:
            stored = model.buffers[source].data
            if tensor.type != schema.TensorType.FLOAT32 or stored is None or len(stored) <= 4 * _LARGE:
                continue
            model.buffers[source].data = stored.view(np.float32).astype(np.float16).view(np.uint8)
            name = tensor.name + b"/half"
            halved[source] = len(graph.tensors)
            graph.tensors.append(
                schema.TensorT(shape=tensor.shape, type=schema.TensorType.FLOAT16, buffer=source, name=name)
            )
        model.buffers.append(schema.BufferT())
        tensor.buffer = len(model.buffers) - 1
        operator = schema.OperatorT(opcodeIndex=len(model.operatorCodes) - 1)
        operator.inputs, operator.outputs = [halved[source]], [index]
        widened.append(operator)
    graph.operators = widened + graph.operators
    return flatbuffer_utils.convert_object_to_bytearray(model)


def convert(
    model: keras.Model, images: np.ndarray, batch_size: int, flips: bool
) -> tuple[bytes, dict[str, np.ndarray], np.ndarray]:
    """Convert a classifier and hold its answers against Keras's on every image.

    Args:
        model: trained, in any precision.
        images: (n, size, size) uint8.
        batch_size: images per forward pass.
        flips: as for `to_litert`.

    Returns:
        The LiteRT model; its probabilities (n, classes) and features (n, channels), by name; and the (n, classes)
        probabilities of Keras.

    Raises:
        PipelineError: a probability differs by more than 0.01.
    """
    model = in_float32(model)
    content = to_litert(model, flips)
    network = Network(content)
    starts = bar(range(0, len(images), batch_size), desc="exported", unit="batch")
    parts = [network(images[start : start + batch_size]) for start in starts]
    answers = {name: np.concatenate([part[name] for part in parts]) for name in ("probabilities", "features")}
    expected = outputs(explained(model, flips), images, batch_size)["probabilities"]
    difference = float(np.abs(answers["probabilities"] - expected).max())
    if difference > _TOLERANCE:
        raise PipelineError(
            f"expected answers within {_TOLERANCE} of Keras, the exported network is {difference:.1e} off"
        )
    return content, answers, expected
