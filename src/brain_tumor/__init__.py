"""Brain-tumour classification on MRI whose score can be believed.

Example:
    from brain_tumor import Classifier
    Classifier.load().predict("scan.jpg")
"""

__all__ = ["Classifier"]


def __getattr__(name: str):
    # Only on demand: the stages use the library without the runtime of the exported file.
    if name == "Classifier":
        from brain_tumor.serving.classifier import Classifier

        return Classifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
