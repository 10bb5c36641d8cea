"""The workers of a Dask cluster. Only `workers` imports this, where the address of a scheduler is set."""

import asyncio
import hashlib
import importlib.metadata
import logging
import operator
import pickle
import platform
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

import dask
from distributed import CancelledError, Client, Future, KilledWorker, Security, connect, get_worker
from distributed.versions import VersionMismatchWarning

import brain_tumor
from brain_tumor.errors import PipelineError

# What reads and computes, and Dask itself.
_PACKAGES = ("numpy", "opencv-python-headless", "ai-edge-litert", "pillow", "pydicom", "nibabel", "distributed")
_PATIENCE = 10  # seconds without a result after which a cluster without workers is told


class Cluster:
    """The workers of the Dask scheduler at an address; a context manager, see `workers.in_order`.

    The scheduler keeps the content of a chunk until the result has come back, and gives it to another worker if the
    first one dies. The function, which may hold a network, is sent once and stays with the workers.

    Args:
        address: of the scheduler.
        function: takes loaded items and returns their results.

    Attributes:
        cores: number of chunks that are computed at a time, as far as is known.

    Raises:
        PipelineError: there is no scheduler; or, when it is entered, a worker has other versions.
    """

    def __init__(self, address: str, function: Callable) -> None:
        self._address, self._warned = address, False
        for name in ("distributed", "distributed.client"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # what ends the work is told in one line
        warnings.simplefilter("ignore", VersionMismatchWarning)  # `_check` is stricter
        dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TB"})  # a chunk of volumes is large

        async def reach() -> None:
            await (await connect(address, **Security().get_connection_args("client"))).close()

        try:
            asyncio.run(reach())  # a client that cannot connect waits again, and prints, when it is removed
            self._client = Client(address, set_as_default=False)
        except Exception as error:  # about the address, its resolution, TLS or the connection: Dask has many kinds
            raise self._lost(error) from error
        # To the scheduler these are calls of standard functions with bytes: it need not have this package.
        content = pickle.dumps(partial(_on_worker, versions(), function))
        self._function = self._client.submit(pickle.loads, content, pure=False)

    def __enter__(self) -> "Cluster":
        try:
            self._check()
            self.cores = self._count()
        except BaseException:
            self._client.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def submit(self, part: Iterator) -> Future:
        """Send loaded items."""
        content = pickle.dumps(list(part))
        with self._connected():
            return self._client.submit(operator.call, self._function, content, pure=False)

    def result(self, waiting: Future) -> list:
        """Wait for the results of what was submitted."""
        with self._in_one_line():
            if not waiting.done():
                self.cores = self._count()  # workers come and go
            while not self._ended(waiting):
                self.cores = self._count()
                if not self.cores and not self._warned:
                    self._warned = True
                    print(
                        f"warning: the Dask scheduler at {self._address} has no workers, waiting for some: "
                        f"dask worker {self._address} starts one",
                        file=sys.stderr,
                    )
            return pickle.loads(waiting.result())

    def _ended(self, waiting: Future) -> bool:
        try:
            waiting.exception(timeout=_PATIENCE)  # returns that of the function
        except TimeoutError:
            return False
        return True

    def _count(self) -> int:
        with self._connected():
            return sum(self._client.nthreads().values())

    def _check(self) -> None:
        """Raise a PipelineError if a worker that is there has other versions than this process."""
        with self._connected():
            every = self._client.run(versions, on_error="return")
        for worker, found in every.items():
            if isinstance(found, OSError):  # it was lost meanwhile
                continue
            if isinstance(found, Exception):
                raise PipelineError(
                    f"expected brain-tumor {brain_tumor.__version__} on the worker {worker}, found none that can be "
                    f"used ({found}): install it there and start the worker again"
                )
            _expect(versions(), found, worker)

    @contextmanager
    def _connected(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # a client that gave up the connection raises whatever it comes upon
            if isinstance(error, OSError) or self._client.status in ("closing", "closed"):
                raise self._lost("the connection was lost") from error
            raise

    @contextmanager
    def _in_one_line(self) -> Iterator[None]:
        """Tell the user what Dask's errors mean, and a failure of the function as it would be on this machine."""
        try:
            yield
        except PipelineError:
            raise
        except CancelledError as error:
            raise self._lost("the connection was lost, or the work cancelled") from error
        except KilledWorker as error:
            raise PipelineError(
                f"expected workers that live, {error.allowed_failures + 1} died of the same work, the last one at "
                f"{error.last_worker.address}: see what they printed; most often they need more memory"
            ) from error
        except Exception:
            self._check()  # one that has joined since, and cannot even load the function
            raise

    def _lost(self, cause: object) -> PipelineError:
        return PipelineError(
            f"expected a Dask scheduler at {self._address} (DASK_SCHEDULER_ADDRESS): {cause}: start one there with "
            "dask scheduler and try again, or unset DASK_SCHEDULER_ADDRESS to use this machine alone"
        )


def _on_worker(expected: dict[str, str], function: Callable, content: bytes) -> bytes:
    """Apply the function to a pickled chunk and pickle the results."""
    _expect(expected, versions(), get_worker().address)  # it may have joined after the others were checked
    return pickle.dumps(list(function(iter(pickle.loads(content)))))


def _expect(expected: dict[str, str], found: dict[str, str], worker: str) -> None:
    wrong = [name for name in expected if found.get(name) != expected[name]]
    if wrong:
        own, other = (", ".join(f"{name} {told.get(name)}" for name in wrong) for told in (expected, found))
        raise PipelineError(
            f"expected {own} on the worker {worker}, as on this machine, found {other}: install the same there and "
            "start the worker again"
        )


@cache
def versions() -> dict[str, str]:
    """What a worker must share with this process: name -> version of Python, this package, its code and others."""
    root, code = Path(brain_tumor.__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        code.update(f"{path.relative_to(root).as_posix()}\n".encode() + path.read_bytes())
    python = ".".join(platform.python_version_tuple()[:2])
    found = {"Python": python, "brain-tumor": brain_tumor.__version__, "its code": code.hexdigest()[:12]}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "none"
    return found
