"""The exported network, run by LiteRT; several threads may use it at once."""

import numpy as np
from ai_edge_litert.interpreter import Interpreter


class Network:
    """A LiteRT model as `classifier_file.Exported` describes it.

    Args:
        content: the model.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._idle = [self._runner()]  # an unusable model fails here and not at the first scan

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Run on (n, size, size) uint8: probabilities, maps and features, see `classifier_file.Exported`."""
        # An interpreter serves one thread at a time: each takes an idle one, or makes one more. Taking from and adding
        # to the end of a list are atomic.
        try:
            runner = self._idle.pop()
        except IndexError:
            runner = self._runner()
        try:
            return runner(pixels=images[..., None])
        finally:
            self._idle.append(runner)

    def sizes(self) -> tuple[int, int, int]:
        """Edge of the images in pixels, number of classes, number of features."""
        takes, gives = self._idle[-1].get_input_details(), self._idle[-1].get_output_details()
        return tuple(int(part["shape"][1]) for part in (takes["pixels"], gives["probabilities"], gives["features"]))

    def _runner(self):
        interpreter = Interpreter(model_content=self._content, num_threads=1)  # one core each uses several cores best
        interpreter.allocate_tensors()
        return interpreter.get_signature_runner()
