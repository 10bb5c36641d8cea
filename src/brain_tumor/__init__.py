"""Brain-tumour classification on MRI whose score can be believed.

Example:
    >>> from brain_tumor import Classifier
    >>> Classifier.load().metadata.classes
    ['glioma_tumor', 'meningioma_tumor', 'no_tumor', 'pituitary_tumor']
"""

import os

__all__ = ["MAX_PIXELS", "Classifier", "__version__"]

__version__ = "0.1.0"

MAX_PIXELS = 100_000_000
"""More pixels than any scanner or scan-sharing site produces; decoding such an image would take gigabytes."""

# OpenCV reads these once, when it is imported, which every module of the package does after this one: it refuses a
# larger image by its header, before memory is taken, and prints no messages of its own.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")


def __getattr__(name: str):
    # Imported only on demand: the stages use the library without the runtime of the exported network.
    if name == "Classifier":
        from brain_tumor.serving.classifier import Classifier

        return Classifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
