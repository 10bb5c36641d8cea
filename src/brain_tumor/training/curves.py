"""The learning curves of a training as DVC shows them: a table per figure."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dvclive import Live


@contextmanager
def learning_curves(folder: str | None) -> Iterator[Callable[[dict], None]]:
    """Yield a function that adds the row of an epoch, see `fitting.fit`, to the curves in `folder`; None: to none."""
    if folder is None:
        yield lambda row: None
        return
    with Live(folder, dvcyaml=None, save_dvc_exp=False, report=None) as live:

        def record(row: dict) -> None:
            for name, value in row.items():
                if name != "epoch":
                    live.log_metric(name, value)
            live.next_step()

        yield record
