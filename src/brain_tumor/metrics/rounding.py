"""Numbers as the metrics files hold them."""

_DECIMALS = 6


def rounded(value: float) -> float:
    """A number with 6 decimals.

    Outputs of a network are float32 (about 7 digits), and the order in which a processor sums them changes the last
    bits of a float64. Rounding drops only digits without meaning, so that the same predictions give the same bytes
    everywhere and a diff of two runs shows real changes.

    Example:
        >>> rounded(2 / 3)
        0.666667
    """
    return round(float(value), _DECIMALS)
