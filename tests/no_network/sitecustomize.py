"""On PYTHONPATH, it keeps Python programs from every socket but those that are files, and records each attempt.

The file that NO_NETWORK names gets a line for each program that starts, and one for each attempt.
"""

import errno
import os
import sys

_RECORD = os.environ["NO_NETWORK"]
_ATTEMPTS = ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo", "socket.gethostbyname")
_AF_UNIX = 1  # socket.AF_UNIX, without its import, which programs that need no socket do not have either


def _record(*words: object) -> None:
    with open(_RECORD, "a", encoding="utf-8") as file:
        file.write(" ".join(map(str, words)) + "\n")


def _watch(event: str, arguments: tuple) -> None:
    if event in _ATTEMPTS and getattr(arguments[0], "family", None) != _AF_UNIX:  # the socket, or a host's name
        _record("attempt", event, repr(arguments), *sys.orig_argv)
        raise OSError(errno.ENETUNREACH, "the test has no network")


_record("start", *sys.orig_argv)
sys.addaudithook(_watch)
