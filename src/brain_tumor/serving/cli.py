"""The command `brain-tumor`: classify scans, or serve predictions over HTTP.

Exit codes of `predict`: 0, every file was read; 1, some files could not be read, the others were classified; 2,
nothing was done: wrong arguments, no scan found, or no classifier.
"""

import argparse
import csv
import io
import json
import os
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from brain_tumor.errors import PipelineError

if TYPE_CHECKING:  # each command imports what it needs, so that it starts quickly
    from brain_tumor.serving.answers import Answer
    from brain_tumor.serving.classifier import Classifier

_RESEARCH = "Research use only: not a medical device, not for diagnosis."


def main(arguments: list[str] | None = None) -> int:
    """Run the command with these arguments, or those of the process, and return the exit code."""
    options = _parser().parse_args(arguments)
    # The files keep all cores busy already; OpenBLAS's own threads, which wait in a loop, would only slow them down.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # A terminal that cannot show a character gets its escape, instead of the end of all answers.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return options.run(options)
    except PipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of the output, such as `head`, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="brain-tumor", description=f"Classify brain-tumour MRI. {_RESEARCH}")
    commands = parser.add_subparsers(required=True, metavar="predict|serve")
    model = argparse.ArgumentParser(add_help=False)
    model.add_argument("--model", type=Path, help="exported classifier; by default the one that comes with the package")

    predict = commands.add_parser(
        "predict",
        parents=[model],
        help="classify scans",
        description=f"Classify scans: JPEG, PNG, TIFF, BMP, WebP, PGM; DICOM and NIfTI with the optional readers. "
        f"{_RESEARCH}",
        epilog="Exit code 0: every file was read; 1: some could not be read; 2: nothing was done.",
    )
    predict.add_argument("paths", nargs="+", type=Path, metavar="FILE|FOLDER", help="a scan, or a folder with scans")
    form = predict.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print a JSON object per slice, one per line")
    form.add_argument("--csv", action="store_true", help="print a CSV table with a row per slice")
    predict.add_argument("--explain", type=Path, metavar="DIR", help="write each scan with its activation map as PNG")
    predict.add_argument(
        "--slice", type=_slice, default="middle", metavar="middle|all|N", help="slice, frame or page, from 0"
    )
    predict.set_defaults(run=_predict)

    serve = commands.add_parser("serve", parents=[model], help="serve predictions over HTTP, with a page at /")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0: all (default: 127.0.0.1)")
    serve.add_argument("--port", type=int, default=8000, help="port to listen on (default: 8000)")
    serve.add_argument("--max-mb", type=float, default=32, help="megabytes per request (default: 32)")
    serve.add_argument("--max-files", type=int, default=16, help="files per request (default: 16)")
    serve.add_argument("--max-pixels", type=int, default=25_000_000, help="pixels per file (default: 25 million)")
    serve.add_argument("--max-requests", type=int, default=16, help="requests at a time; others get 503 (default: 16)")
    serve.add_argument("--max-seconds", type=float, default=10, help="seconds to upload, and to predict (default: 10)")
    serve.set_defaults(run=_serve)
    return parser


def _slice(text: str) -> str | int:
    return text if text in ("middle", "all") else int(text)


def _predict(options: argparse.Namespace) -> int:
    from brain_tumor.exported.states import ANSWER, REFUSED, UNSURE
    from brain_tumor.serving.answers import File, stream
    from brain_tumor.serving.output import as_json, as_line, csv_header, csv_row, explained_picture, title, worth

    files = _files(options.paths)
    if not files:
        raise PipelineError(f"expected scans in {', '.join(map(str, options.paths))}, found none")
    classifier = _load(options.model)
    about = classifier.metadata
    cells = about.classes, list(about.sets)
    in_utf8 = (sys.stdout.encoding or "").lower() == "utf-8"
    table = csv.writer(sys.stdout, lineterminator="\n")
    if options.csv:
        table.writerow(csv_header(*cells))

    failed = unsure = refused = answered = 0
    named = (File(str(path), path.read_bytes) for path in files)
    for answer in _with_bar(stream(classifier, named, wanted=options.slice), len(files)):
        if options.json:
            print(json.dumps(as_json(answer, classifier.preprocessing), ensure_ascii=not in_utf8))
        elif options.csv:
            table.writerow(csv_row(answer, *cells))
        else:
            print(as_line(answer))
        if answer.prediction is None:
            failed += 1
            if options.json or options.csv:
                print(as_line(answer), file=sys.stderr)
            continue
        answered += answer.prediction.state == ANSWER
        unsure += answer.prediction.state == UNSURE
        refused += answer.prediction.state == REFUSED
        if options.explain:
            _write_inside(options.explain, f"{title(answer)}.png", explained_picture(answer, classifier.preprocessing))
    sys.stdout.flush()
    slices = answered + unsure + refused
    counts = (
        f"slices: {slices}, answered: {answered}, unsure: {unsure}, no answer: {refused}; unreadable files: {failed}. "
    )
    print(f"{counts if slices + failed > 1 else ''}{_RESEARCH}", file=sys.stderr)
    for line in worth(about):
        print(f"Measured on {line}.", file=sys.stderr)
    return 1 if failed else 0


def _files(paths: list[Path]) -> list[Path]:
    """The given files, and the scans in the given folders, sorted by path within each folder."""
    from brain_tumor.serving.readers.formats import is_candidate

    found: list[Path] = []
    for path in paths:
        found += sorted(filter(is_candidate, path.rglob("*"))) if path.is_dir() else [path]
    return found


def _with_bar(answers: Iterator["Answer"], files: int) -> Iterator["Answer"]:
    """The answers, with a progress bar over the files if there are several and the output is not a terminal."""
    if files == 1 or sys.stdout.isatty():
        yield from answers
        return
    from brain_tumor.progress import bar

    with bar(desc="predict", unit="file", total=files) as progress:
        for _, slices in groupby(answers, key=lambda answer: answer.name):
            yield from slices
            progress.update()


def _write_inside(folder: Path, name: str, content: bytes) -> None:
    """Write to folder/name, but never outside the folder: root and ".." are dropped from the name."""
    path = Path(name)
    target = folder.joinpath(*(_short(part) for part in path.parts if part not in (path.anchor, "..")))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)


def _short(part: str) -> str:
    """A part of a path that file systems take: escapes may have made it longer than 255 bytes."""
    whole = part.encode()
    return part if len(whole) <= 255 else f"{whole[:200].decode(errors='ignore')}-{zlib.crc32(whole):08x}.png"


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


def _serve(options: argparse.Namespace) -> int:
    # OpenCV reads this limit when it is imported; it then rejects a large image by its header, before it allocates.
    os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(options.max_pixels)
    from brain_tumor.serving.server import Limits, serve

    size = {"bytes": round(options.max_mb * 1e6), "files": options.max_files, "pixels": options.max_pixels}
    limits = Limits(**size, requests=options.max_requests, seconds=options.max_seconds)
    serve(_load(options.model), limits, host=options.host, port=options.port)
    return 0
