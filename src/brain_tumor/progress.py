"""One look for every progress bar."""

import sys

from tqdm import tqdm


def bar(iterable=None, *, desc: str, unit: str, total: int | None = None, **options) -> tqdm:
    """A progress bar on standard error, silent where that is not a terminal.

    Takes what `tqdm` takes; shows the count, the rate and the time left.
    """
    return tqdm(
        iterable, desc=desc, unit=unit, total=total, file=sys.stderr, disable=None, dynamic_ncols=True, **options
    )
