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
    from brain_tumor.serving.guard import Access


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
    except (PipelineError, OSError, MemoryError) as error:
        print(f"error: {in_one_line(error)}", file=sys.stderr)
        return 2


def _predict(options: Namespace) -> int:
    if options.resume and (not options.csv or options.output in (None, Path("-"))):
        options.parser.error("argument --resume: expected --csv and -o FILE beside it")
    from brain_tumor.serving.command.predict import predict

    classifier = _load(options.model)
    gc.enable()
    return predict(options, classifier)


def _serve(options: Namespace) -> int:
    # OpenCV reads this limit when it is imported; it then rejects a large image by its header, before it allocates.
    os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(options.max_pixels)
    listening = _listening(options.host, options.port)
    access = _access(options, listening)
    from brain_tumor.serving.server import Limits, serve

    size = {"bytes": round(options.max_mb * 1e6), "files": options.max_files, "pixels": options.max_pixels}
    number = {"requests": options.max_requests, "connections": options.max_connections}
    limits = Limits(**size, **number, seconds=options.max_seconds)
    if options.report and not options.report.is_file():
        raise PipelineError(f"expected a report in {options.report} (--report), found none: run the stage report")
    classifier = _load(options.model)
    gc.enable()
    serve(classifier, limits, listening, options.report, access)
    return 0


def _access(options: Namespace, listening: "socket.socket") -> "Access":
    """Who may ask: by which names, and with which token; it is never an argument, which other users can see."""
    from ipaddress import ip_address

    from brain_tumor.serving.guard import LOOPBACK, TOKEN, Access

    where, token = "BRAIN_TUMOR_TOKEN", os.environ.get("BRAIN_TUMOR_TOKEN", "")
    if options.token_file:
        where = f"{options.token_file} (--token-file)"
        try:
            token = options.token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            cause = error.strerror if isinstance(error, OSError) else "it is no text"
            raise PipelineError(f"cannot read a token from {where}: {cause}") from None
    if (token or options.token_file) and not TOKEN.fullmatch(token):
        raise PipelineError(
            f"expected a token of 20 or more letters, digits and -._~+/= in {where}, got something else: "
            "make one with openssl rand -hex 32"
        )
    # A page of another site could reach a server of this machine by a name of its own that leads here (DNS rebinding).
    own = ip_address(listening.getsockname()[0].partition("%")[0]).is_loopback
    names = {options.host.lower(), *map(str.lower, options.allow_host)} | LOOPBACK
    return Access(token, frozenset(names) if own or options.allow_host else None)


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
