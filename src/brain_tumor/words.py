"""Names of classes as a person writes them."""


def words(name: str) -> str:
    """The name of a class, as folders and tables have it, for text that people read.

    Example:
        >>> words("glioma_tumor")
        'glioma tumor'
    """
    return name.replace("_", " ")
