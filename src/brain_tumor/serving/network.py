"""The exported network in LiteRT, for several threads at once."""

from threading import local

import numpy as np
from ai_edge_litert.interpreter import Interpreter


class Network:
    """A LiteRT model as `exported.Exported` describes it.

    Args:
        content: the model.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._thread = local()
        self._runner()  # a model that cannot be used fails here, not at the first scan

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Run on (n, size, size) uint8: probabilities, maps and features, see `exported.Exported`."""
        return self._runner()(pixels=images[..., None])

    def _runner(self):
        # An interpreter serves one thread at a time, and one core each makes the most of several.
        if not hasattr(self._thread, "runner"):
            interpreter = Interpreter(model_content=self._content, num_threads=1)
            interpreter.allocate_tensors()
            self._thread.runner = interpreter.get_signature_runner()
        return self._thread.runner
