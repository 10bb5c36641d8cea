"""A function over many items, in order: on the cores of this machine, or on the workers of a Dask cluster.

`DASK_SCHEDULER_ADDRESS`, Dask's own variable, decides. Both give the same bytes, so it is no parameter of the pipeline.
docs/scaling.md says how a cluster is started and what it needs.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, TypeVar

from brain_tumor.errors import PipelineError

if TYPE_CHECKING:  # Dask is imported only where the variable is set
    from brain_tumor.cluster import Cluster

VARIABLE = "DASK_SCHEDULER_ADDRESS"
"""Name of the environment variable with the address of a Dask scheduler, such as `tcp://10.0.0.1:8786`."""

Item, Loaded, Result = TypeVar("Item"), TypeVar("Loaded"), TypeVar("Result")


def in_order(
    function: Callable[[Iterable[Loaded]], Iterable[Result]],
    items: Iterable[Item],
    *,
    load: Callable[[Item], Loaded],
    chunk: int,
) -> Iterator[Result]:
    """Apply a function to chunks of items and yield its results in the order of the items.

    Lazily: at a time two chunks for each core that works, and one more, are computed or wait, however many items there
    are. A single item is done at once, on this machine and without another thread.

    Args:
        function: takes loaded items and returns their results, in order. For a cluster it is pickled: a function of a
            module, or a `partial` of one.
        items: what to work on.
        load: makes of an item what `function` takes, such as the content of a file; always runs on this machine.
        chunk: number of items per call. For a cluster they are pickled; 50 ms of work are worth the way.

    Raises:
        PipelineError: there is no cluster at the address, it is lost, or a worker has other versions.
        Exception: what `function` or `load` raises; it ends the work.
    """
    remaining = iter(items)
    first = list(islice(remaining, 2))
    if len(first) < 2:
        yield from function(map(load, first))
        return
    remaining, address = chain(first, remaining), os.environ.get(VARIABLE)
    pending = deque()
    with _cluster(address, function) if address else _Cores(function) as place:
        while part := list(islice(remaining, chunk)):
            pending.append(place.submit(map(load, part)))
            if len(pending) > 2 * place.cores:
                yield from place.result(pending.popleft())
        while pending:
            yield from place.result(pending.popleft())


def cores() -> int:
    """Number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Cores:
    """Threads of this process."""

    def __init__(self, function: Callable) -> None:
        from concurrent.futures import ThreadPoolExecutor  # takes 10 ms, which a single item does without

        self._function, self.cores = function, cores()
        self._pool = ThreadPoolExecutor(self.cores)

    def __enter__(self) -> "_Cores":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def submit(self, part: Iterator) -> Callable[[], list]:
        return self._pool.submit(lambda: list(self._function(part))).result

    def result(self, waiting: Callable[[], list]) -> list:
        return waiting()


def _cluster(address: str, function: Callable) -> "Cluster":
    try:
        from brain_tumor.cluster import Cluster
    except ImportError:
        raise PipelineError(
            f"expected the package distributed, because {VARIABLE} is set, found none: "
            f"pip install 'brain-tumor[cluster]', or unset {VARIABLE}"
        ) from None
    return Cluster(address, function)
