"""Errors in one line: those whose message is written for the user, and what the system refuses."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# What the system refuses -> what failed, and what helps. Any other OSError is a bug and keeps its traceback.
_REFUSALS = {
    errno.ENOSPC: ("write", "make room there and run again"),
    errno.EDQUOT: ("write", "make room within the quota and run again"),
    errno.EFBIG: ("write", "raise the limit of file sizes (ulimit -f) and run again"),
    errno.EROFS: ("write", "mount it writable, or work in a copy elsewhere"),
    errno.EACCES: ("open", "give this user the permission, or run as the one who has it"),
    errno.EPERM: ("change", "give this user the permission, or run as the one who has it"),
    errno.EIO: ("read or write", "check the disk, then run again"),
    errno.ESTALE: ("read or write", "mount the network's disk again, then run again"),
    errno.EMFILE: ("open", "raise the limit of open files (ulimit -n) and run again"),
    errno.ENFILE: ("open", "end other programs and run again"),
}
REFUSALS = frozenset(_REFUSALS)
"""errno of what `in_one_line` knows."""
WRITING = frozenset(number for number, (failed, _) in _REFUSALS.items() if failed == "write")
"""Those that only writing meets."""

_LONGEST = 1000  # characters of a message; a file may hold names and lines of any length


class PipelineError(Exception):
    """An error that the user can correct.

    The message is one line: what was expected, what was found and what to do. Stages (exit code 1) and the command
    `brain-tumor` (exit code 2) print it without a traceback; any other exception is a bug and keeps its traceback,
    except for what `in_one_line` knows.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


def printable(message: str) -> str:
    """A message as one line that a terminal only shows: text from a file may get into it, and that may be anything.

    Example:
        >>> printable("expected a\\x1b[2J\\r\\nb")
        'expected a [2J  b'
        >>> len(printable("x" * 5000))
        1000
    """
    text = "".join(character if character.isprintable() else " " for character in message)
    half = (_LONGEST - 5) // 2
    return text if len(text) <= _LONGEST else f"{text[: half + 1]} ... {text[-half:]}"


def in_one_line(error: PipelineError | OSError | MemoryError) -> str:
    """The message of an error that the user can correct: a full disk, no permission and the like included.

    Raises:
        OSError: the error itself, which is a bug.
    """
    if isinstance(error, MemoryError):
        return "out of memory: end other programs, or raise the limit (ulimit -v), and run again"
    if not isinstance(error, OSError):
        return str(error)
    if error.errno not in _REFUSALS:
        raise error
    failed, remedy = _REFUSALS[error.errno]
    if isinstance(error.filename, (str, os.PathLike)):
        place = os.fspath(error.filename)
    else:  # of a library, or of what is printed
        place = f"to standard output or below {os.getcwd()} or {os.environ.get('TMPDIR', '/tmp')}"
    return printable(f"cannot {failed} {place}: {os.strerror(error.errno)}: {remedy}")


@contextmanager
def ending_in_one_line() -> Iterator[None]:
    """End the process with one line on standard error where the block raises an error that the user can correct."""
    try:
        yield
        sys.stdout.flush()  # here, so that an output that is full is an error as any other
    except (PipelineError, OSError, MemoryError) as error:
        message = f"error: {in_one_line(error)}"
    except KeyboardInterrupt:
        sys.exit(130)
    else:
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left would fail again at the end
    sys.exit(message)
