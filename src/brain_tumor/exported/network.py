"""The exported network, run by LiteRT; several threads may use it at once."""

from threading import local

import numpy as np
from ai_edge_litert.interpreter import Interpreter


class Network:
    """A LiteRT model as `classifier_file.Exported` describes it.

    Args:
        content: the model.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._thread = local()
        self._runner()  # an unusable model fails here and not at the first scan

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Run on (n, size, size) uint8: probabilities, maps and features, see `classifier_file.Exported`."""
        return self._runner()(pixels=images[..., None])

    def _runner(self):
        # An interpreter serves one thread at a time; one core for each uses several cores best.
        if not hasattr(self._thread, "runner"):
            interpreter = Interpreter(model_content=self._content, num_threads=1)
            interpreter.allocate_tensors()
            self._thread.runner = interpreter.get_signature_runner()
        return self._thread.runner
