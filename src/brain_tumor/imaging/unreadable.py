"""The error of every reader of images."""


class UnreadableImage(ValueError):
    """The bytes are not an image that can be used; the message says why."""
