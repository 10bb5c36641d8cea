"""One style for all progress bars."""

import sys

from tqdm import tqdm


def bar(iterable=None, *, desc: str, unit: str, total: int | None = None, **options) -> tqdm:
    """A progress bar on standard error with count, rate and remaining time; silent if that is not a terminal.

    Takes the arguments of `tqdm`.
    """
    return tqdm(
        iterable, desc=desc, unit=unit, total=total, file=sys.stderr, disable=None, dynamic_ncols=True, **options
    )
