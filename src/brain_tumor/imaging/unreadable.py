"""The error of every reader of images."""

from brain_tumor.errors import printable


class UnreadableImage(ValueError):
    """The bytes are not an image that can be used; the message says why, in one line that a terminal only shows."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))
