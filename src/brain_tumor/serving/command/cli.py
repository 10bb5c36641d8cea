"""The command `brain-tumor`: classify scans, or serve predictions over HTTP."""

import gc
import io
import os
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from brain_tumor.errors import PipelineError, in_one_line
from brain_tumor.serving.command.arguments import parser

if TYPE_CHECKING:  # each command imports what it needs, so that it starts quickly
    import socket

    from brain_tumor.serving.classifier import Classifier


def main(arguments: list[str] | None = None) -> int:
    """Run the command with these arguments, or those of the process, and return the exit code."""
    top = parser(_predict, _serve)
    if "_ARGCOMPLETE" in os.environ:  # the shell asks what may follow
        import argcomplete

        argcomplete.autocomplete(top)
    options, unknown = top.parse_known_args(arguments)
    if unknown:
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if options.run is None:
        top.print_help()
        return 0
    gc.disable()  # what is imported and loaded stays: looking for garbage meanwhile takes 6 ms
    # The files keep all cores busy already; OpenBLAS's own threads, which wait in a loop, would only slow them down.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # A terminal that cannot show a character gets its escape, instead of the end of all answers.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return options.run(options)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of the output, such as `head`, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (PipelineError, OSError) as error:
        print(f"error: {in_one_line(error)}", file=sys.stderr)
        return 2


def _predict(options: Namespace) -> int:
    from brain_tumor.serving.command.predict import predict

    classifier = _load(options.model)
    gc.enable()
    return predict(options, classifier)


def _serve(options: Namespace) -> int:
    # OpenCV reads this limit when it is imported; it then rejects a large image by its header, before it allocates.
    os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(options.max_pixels)
    listening = _listening(options.host, options.port)
    from brain_tumor.serving.server import Limits, serve

    size = {"bytes": round(options.max_mb * 1e6), "files": options.max_files, "pixels": options.max_pixels}
    limits = Limits(**size, requests=options.max_requests, seconds=options.max_seconds)
    if options.report and not options.report.is_file():
        raise PipelineError(f"expected a report in {options.report} (--report), found none: run the stage report")
    classifier = _load(options.model)
    gc.enable()
    serve(classifier, limits, listening, options.report)
    return 0


def _listening(host: str, port: int) -> "socket.socket":
    """A socket that listens there; here, so that a taken port is an error in one line."""
    import socket

    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # With its protocol named, asyncio sends answers at once (TCP_NODELAY); otherwise they wait 40 ms.
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen()  # before that, with SO_REUSEADDR, another server could bind to it as well
        return listening
    except (OSError, UnicodeError) as error:
        cause = error.strerror.partition(" (")[0] if isinstance(error, OSError) else "no such host"
        raise PipelineError(
            f"cannot listen on {host}, port {port}: {cause}: choose others with --host and --port"
        ) from None


def _load(path: Path | None) -> "Classifier":
    from brain_tumor.serving.classifier import Classifier

    with _silenced():
        return Classifier.load(path) if path else Classifier.load()


@contextmanager
def _silenced() -> Iterator[None]:
    """Drop what C++ code writes to standard error, such as the log messages of LiteRT."""
    sys.stderr.flush()
    terminal, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
        os.close(nowhere)
