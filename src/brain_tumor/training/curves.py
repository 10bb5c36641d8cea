"""The learning curves of a training as DVC shows them: a table per figure."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dvclive import Live
from scmrepo.exceptions import SCMError

from brain_tumor.errors import PipelineError


@contextmanager
def learning_curves(folder: str | None) -> Iterator[Callable[[dict], None]]:
    """Yield a function that adds the row of an epoch, see `fitting.fit`, to the curves in `folder`; None: to none.

    Raises:
        PipelineError: the folder is in a git repository without a commit, which DVCLive cannot name.
    """
    if folder is None:
        yield lambda row: None
        return
    try:
        live = Live(folder, dvcyaml=None, save_dvc_exp=False, report=None)
    except SCMError as error:
        raise PipelineError(f"expected a commit in this git repository ({error}): run git commit") from error
    with live:

        def record(row: dict) -> None:
            for name, value in row.items():
                if name != "epoch":
                    live.log_metric(name, value)
            live.next_step()

        yield record
