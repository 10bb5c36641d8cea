"""The command `brain-tumor`: predict what scans show, or serve predictions.

Exit codes of `predict`: 0, every file was read; 1, some could not be, the others are answered; 2, nothing could be
done: a wrong call, no file found, no classifier.
"""

import argparse
import csv
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from brain_tumor.errors import PipelineError

if TYPE_CHECKING:  # for a quick start each command imports what it needs
    from brain_tumor.serving.answers import Answer
    from brain_tumor.serving.classifier import Classifier

_RESEARCH = "Research use only: no medical device, and no diagnosis may rest on it."


def main(arguments: list[str] | None = None) -> int:
    """Run the command with these arguments, or those of the process; returns the exit code."""
    options = _parser().parse_args(arguments)
    # Files are spread over the cores already; OpenBLAS' own threads, which wait in a loop, would only take them away.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        return options.run(options)
    except PipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever reads the output has seen enough
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
        help="say what scans show",
        description=f"Say what scans show: JPEG, PNG, TIFF, BMP, WebP, PGM; DICOM and NIfTI with the optional readers. "
        f"{_RESEARCH}",
        epilog="Exit code 0: every file was read; 1: some could not be; 2: nothing could be done.",
    )
    predict.add_argument("paths", nargs="+", type=Path, metavar="FILE|FOLDER", help="of a folder, all scans in it")
    form = predict.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print an object per slice, a line each")
    form.add_argument("--csv", action="store_true", help="print a table, a row per slice")
    predict.add_argument("--explain", type=Path, metavar="DIR", help="write pictures of where the network looked")
    predict.add_argument(
        "--slice", type=_slice, default="middle", metavar="middle|all|N", help="of volumes and series, N from 0"
    )
    predict.set_defaults(run=_predict)

    serve = commands.add_parser("serve", parents=[model], help="answer over HTTP, with a page at /")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0: all (default: this machine)")
    serve.add_argument("--port", type=int, default=8000, help="default: 8000")
    serve.add_argument("--max-mb", type=float, default=32, help="of one request, megabytes (default: 32)")
    serve.add_argument("--max-files", type=int, default=16, help="of one request (default: 16)")
    serve.add_argument("--max-pixels", type=int, default=25_000_000, help="of one file (default: 25 million)")
    serve.add_argument("--max-requests", type=int, default=16, help="at a time; more are answered 503 (default: 16)")
    serve.add_argument("--max-seconds", type=float, default=10, help="for a request (default: 10)")
    serve.set_defaults(run=_serve)
    return parser


def _slice(text: str) -> str | int:
    return text if text in ("middle", "all") else int(text)


def _predict(options: argparse.Namespace) -> int:
    from brain_tumor.serving.answers import File, stream
    from brain_tumor.serving.output import as_json, as_line, csv_header, csv_row, explained_picture, title

    files = _files(options.paths)
    if not files:
        raise PipelineError(f"expected scans in {', '.join(map(str, options.paths))}, found none")
    classifier = _load(options.model)
    about = classifier.metadata
    cells = about.classes, list(about.sets)
    table = csv.writer(sys.stdout, lineterminator="\n")
    if options.csv:
        table.writerow(csv_header(*cells))

    failed = abstained = answered = 0
    named = (File(str(path), path.read_bytes) for path in files)
    for answer in _with_bar(stream(classifier, named, wanted=options.slice), len(files)):
        if options.json:
            print(json.dumps(as_json(answer, classifier.preprocessing), ensure_ascii=False))
        elif options.csv:
            table.writerow(csv_row(answer, *cells))
        else:
            print(as_line(answer))
        if answer.prediction is None:
            failed += 1
            if options.json or options.csv:
                print(as_line(answer), file=sys.stderr)
            continue
        answered, abstained = answered + 1, abstained + answer.prediction.abstained
        if options.explain:
            _write_inside(options.explain, f"{title(answer)}.png", explained_picture(answer, classifier.preprocessing))
    sys.stdout.flush()
    counts = f"slices: {answered}, of them without an answer: {abstained}; unreadable files: {failed}. "
    print(f"{counts if answered + failed > 1 else ''}{_RESEARCH}", file=sys.stderr)
    return 1 if failed else 0


def _files(paths: list[Path]) -> list[Path]:
    """The files named, and the scans in the folders named, each folder in order."""
    from brain_tumor.serving.readers.formats import is_candidate

    found: list[Path] = []
    for path in paths:
        found += sorted(filter(is_candidate, path.rglob("*"))) if path.is_dir() else [path]
    return found


def _with_bar(answers: Iterator["Answer"], files: int) -> Iterator["Answer"]:
    """The answers, with a progress bar over files where there are several and they are not printed to a terminal."""
    if files == 1 or sys.stdout.isatty():
        yield from answers
        return
    from brain_tumor.progress import bar

    with bar(desc="predict", unit="file", total=files) as progress:
        last = None
        for answer in answers:
            progress.update(answer.name != last)
            last = answer.name
            yield answer


def _write_inside(folder: Path, name: str, content: bytes) -> None:
    """Write to folder/name, where the name may be an absolute path or lead upwards."""
    path = Path(name)
    target = folder.joinpath(*(part for part in path.parts if part not in (path.anchor, "..")))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)


def _load(path: Path | None) -> "Classifier":
    from brain_tumor.serving.classifier import Classifier

    with _silenced():
        return Classifier.load(path) if path else Classifier.load()


@contextmanager
def _silenced() -> Iterator[None]:
    """Without what C++ code writes on standard error: LiteRT tells how it computes."""
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
    # OpenCV reads its limit when it is imported, and refuses by the header before memory is taken.
    os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(options.max_pixels)
    from brain_tumor.serving.server import Limits, serve

    limits = Limits(
        bytes=round(options.max_mb * 1e6),
        files=options.max_files,
        pixels=options.max_pixels,
        requests=options.max_requests,
        seconds=options.max_seconds,
    )
    serve(_load(options.model), limits, host=options.host, port=options.port)
    return 0
