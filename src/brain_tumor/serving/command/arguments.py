"""The arguments of `brain-tumor`, and errors about them in one line that says what was probably meant."""

import argparse
import ast
import math
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import brain_tumor

RESEARCH = "Research use only: not a medical device, not for diagnosis."


class Parser(argparse.ArgumentParser):
    """An argument parser without abbreviations, whose errors are one line."""

    def __init__(self, **options) -> None:
        super().__init__(allow_abbrev=False, **options)
        self._option_string_actions["-h"].help = "Print this help and end."

    def error(self, message: str) -> NoReturn:
        """Print the error and end the process with exit code 2."""
        if found := re.search(r"invalid choice: (.+) \(choose from", message):  # of a command
            typed = ast.literal_eval(found[1])
            hint = _meant(typed, ["predict", "serve"])
            if not hint and os.path.exists(typed):
                hint = f"did you mean brain-tumor predict {shlex.quote(typed)}?"
            message = f"expected predict or serve, got {typed!r}"
        else:
            wrong = message.removeprefix("unrecognized arguments: ").split(" ")[0].split("=")[0]
            hint = _meant(wrong, self._option_string_actions) if wrong.startswith("-") else ""
            if wrong in self._option_string_actions:  # known, but before the command
                hint = f"it belongs after {self.prog}"
        self.exit(2, f"error: {message}{f': {hint}' if hint else f'; {self.prog} --help lists what there is'}\n")


def parser(predict: Callable, serve: Callable) -> Parser:
    """The parser of all arguments; it sets `run` to one of the two functions, and `parser` to that of its command."""
    top = Parser(
        prog="brain-tumor",
        description=f"Classifies MRI of the head by brain tumour. {RESEARCH}",
        epilog="brain-tumor COMMAND --help tells more about a command.",
    )
    version = f"%(prog)s {brain_tumor.__version__}"
    top.add_argument("--version", action="version", version=version, help="Print the version and end.")
    top.set_defaults(run=None, parser=top)
    commands = top.add_subparsers(metavar="COMMAND", title="commands")
    model = argparse.ArgumentParser(add_help=False)
    model.add_argument(
        "--model", type=Path, metavar="FILE", help="The exported classifier; without it, the one that comes with this."
    )

    said = "Classify scans and print an answer for each slice."
    command = commands.add_parser(
        "predict",
        parents=[model],
        help=said,
        description=f"{said} Reads JPEG, PNG, TIFF, BMP, WebP and PGM, and with the optional readers DICOM and NIfTI. "
        f"{RESEARCH}",
        epilog="Exit code 0: every file was read. 1: some could not be read, the others were answered. 2: nothing was "
        "done.",
    )
    command.add_argument(
        "paths",
        nargs="+",
        metavar="SCAN",
        help="A file, a folder, a quoted pattern such as 'scans/**/*.png', or - for standard input.",
    )
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="Print a JSON object for each slice, one per line.")
    form.add_argument("--csv", action="store_true", help="Print a CSV table with a row for each slice.")
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="Write the answers to this file, once all are there; - is standard output.",
    )
    command.add_argument(
        "--resume",
        action="store_true",
        help="With --csv and -o: append to FILE as answers come, and leave out files that are in it already, by path "
        "and even if they have changed; the last one is answered again.",
    )
    command.add_argument(
        "--explain",
        type=Path,
        metavar="FOLDER",
        help="Write each slice with its activation map as PNG to a folder.",
    )
    command.add_argument(
        "--slice",
        type=_slice,
        default="middle",
        metavar="middle|all|N",
        help="Which slices, frames or pages to answer: the middle (default), all, or one by its number from 0.",
    ).completer = lambda **_: ("middle", "all")  # for argcomplete
    command.add_argument(
        "-q", "--quiet", action="store_true", help="Print answers and errors only: no progress, summary and notices."
    )
    command.set_defaults(run=predict, parser=command)

    said = "Serve predictions over HTTP, with a page at / and documentation at /docs."
    command = commands.add_parser("serve", parents=[model], help=said, description=f"{said} {RESEARCH}")
    command.add_argument(
        "--host", default="127.0.0.1", help="The address to listen on; 0.0.0.0: all of them (default: %(default)s)."
    )
    command.add_argument("--port", type=_port, default=8000, help="The port to listen on (default: %(default)s).")
    command.add_argument(
        "--report", type=Path, metavar="FILE", help="The report of the run that made the classifier, served at /report."
    )
    number, count = _above_0(float), _above_0(int)
    command.add_argument(
        "--max-mb", type=number, default=32, metavar="MB", help="Megabytes that a request may have (default: 32)."
    )
    command.add_argument(
        "--max-files", type=count, default=16, metavar="N", help="Files that a request may have (default: 16)."
    )
    command.add_argument(
        "--max-pixels",
        type=count,
        default=25_000_000,
        metavar="N",
        help="Pixels that a file may have, over all slices (default: 25 million).",
    )
    command.add_argument(
        "--max-requests",
        type=count,
        default=16,
        metavar="N",
        help="Requests at a time; further ones get status 503 (default: 16).",
    )
    command.add_argument(
        "--max-connections",
        type=count,
        default=800,
        metavar="N",
        help="Connections at a time; a further one closes that which has been idle longest (default: 800).",
    )
    command.add_argument(
        "--max-seconds",
        type=number,
        default=10,
        metavar="SECONDS",
        help="Time that a request has for its header, to upload, to wait for a core and to be answered, each "
        "(default: 10).",
    )
    command.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="A file with the token that every request needs; or set BRAIN_TUMOR_TOKEN.",
    )
    command.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="A further name by which browsers may address the server; may be given several times.",
    )
    command.set_defaults(run=serve, parser=command)
    return top


def _meant(wrong: str, known) -> str:
    from difflib import get_close_matches

    near = get_close_matches(wrong, list(known), n=1)
    return f"did you mean {near[0]}?" if near else ""


def _slice(text: str) -> str | int:
    if text in ("middle", "all"):
        return text
    if text.isdecimal():
        return int(text)
    raise argparse.ArgumentTypeError(f"expected middle, all or a number from 0, got {text!r}")


def _port(text: str) -> int:
    if text.isdecimal() and int(text) < 2**16:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected a number from 0 (any free port) to 65535, got {text!r}")


def _above_0(kind: type) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = 0
        if value > 0 and math.isfinite(value):
            return value
        expected = "a whole number" if kind is int else "a number"
        raise argparse.ArgumentTypeError(f"expected {expected} above 0, got {text!r}")

    return parse
