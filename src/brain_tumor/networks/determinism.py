"""The same bytes from the same inputs."""

import keras
import tensorflow as tf

from brain_tumor.errors import PipelineError


def make_deterministic(threads: int, seed: int = 0) -> None:
    """Seed every generator, fix the number of threads and forbid operations whose result varies.

    Call once, before TensorFlow computes anything. The number of threads decides how sums are split, and with it the
    bytes of the result; the number of processor cores does not.

    Args:
        threads: of TensorFlow, within and between operations.
        seed: of Python, NumPy and Keras.

    Raises:
        PipelineError: TensorFlow has computed in this process already, with another number of threads.
    """
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError as error:
        raise PipelineError(
            "the number of threads must be set before TensorFlow computes: use a new process"
        ) from error
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(seed)
