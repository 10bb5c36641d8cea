"""`brain-tumor predict`.

Exit codes: 0, every file was read; 1, some files could not be read, the others were answered; 2, nothing was done:
wrong arguments, no scan that can be read, or no classifier.
"""

import csv
import glob
import json
import os
import signal
import sys
import zlib
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import TextIO

from brain_tumor.errors import PipelineError
from brain_tumor.exported.states import ANSWER
from brain_tumor.files import all_below, replacing_file
from brain_tumor.serving.answers import Answer, File, stream
from brain_tumor.serving.classifier import Classifier
from brain_tumor.serving.command.arguments import RESEARCH
from brain_tumor.serving.command.lines import Lines, summary, takes_colour, worth
from brain_tumor.serving.output import as_json, csv_header, csv_row, title
from brain_tumor.serving.readers.formats import is_candidate

_INPUT = "standard input"


def predict(options: Namespace, classifier: Classifier) -> int:
    """Answer for the scans that the arguments name, and return the exit code.

    Raises:
        PipelineError: no scan was found, or there is a place that cannot be written to.
    """
    files = [file for path in options.paths for file in _files(path)]
    if not files:
        raise PipelineError(f"expected scans in {', '.join(options.paths)}, found none")
    if options.explain:
        with _told(options.explain, "--explain"):
            options.explain.mkdir(parents=True, exist_ok=True)

    counts: Counter[str | None] = Counter()
    with _written_to(options.output) as output:
        printed = _printer(options, classifier, output, [title(Answer(file.name)) for file in files])
        answers = stream(classifier, files, wanted=options.slice)
        for answer in _with_bar(answers, len(files), options.quiet or output.isatty()):
            printed(answer)
            said = answer.prediction
            counts[None if said is None else said.label if said.state == ANSWER else said.state] += 1
            if options.explain and said is not None:
                _explain(options.explain, answer, classifier)
        output.flush()
    failed = counts[None]
    if not options.quiet:
        if counts.total() > 1:
            print(summary(counts, classifier.metadata), file=sys.stderr)
        for line in (RESEARCH, *worth(classifier.metadata)) if counts.total() > failed else ():
            print(line, file=sys.stderr)
    return 0 if not failed else 1 if counts.total() > failed else 2


def _files(path: str) -> list[File]:
    """Standard input, a file, the scans of a folder or what a pattern stands for; the last two sorted by path."""
    if path == "-":
        content = _standard_input()
        return [File(_INPUT, lambda: content)]
    matching = [path] if os.path.exists(path) else sorted(glob.glob(path, recursive=True))
    found: dict[Path, None] = {}  # each once, although ** stands for a folder and for what is in it
    for each in map(Path, matching or [path]):  # what is not there gives an answer with the error
        found |= dict.fromkeys(_scans_below(each) if os.path.isdir(each) else [each])
    return [File(str(each), each.read_bytes) for each in found]


def _scans_below(folder: Path) -> list[Path]:
    """The scans of a folder, and the folders below it that cannot be listed, which give an answer with the error."""
    closed: list[Path] = []
    found = list(filter(is_candidate, all_below(folder, lambda error: closed.append(Path(error.filename)))))
    return sorted(found + closed)


def _standard_input() -> bytes:
    """Read here and not by a thread, whose wait no interruption would end."""
    try:
        return sys.stdin.buffer.read()
    except (AttributeError, OSError) as error:  # AttributeError: it is closed
        cause = error.strerror if isinstance(error, OSError) else "it is closed"
        raise PipelineError(f"cannot read {_INPUT}: {cause}: redirect it, or name a file") from error


@contextmanager
def _told(path: Path, option: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PipelineError(f"cannot write to {path} ({option}): {error.strerror}: choose another place") from error


@contextmanager
def _written_to(path: Path | None) -> Iterator[TextIO]:
    """Standard output, or the file that replaces `path` at the end."""
    if path is None or str(path) == "-":
        try:
            yield sys.stdout
        except BrokenPipeError:
            raise
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left would fail again at the end
            raise PipelineError(f"cannot write to standard output: {error.strerror}: redirect it") from error
        return
    with _told(path, "--output"):
        if path.exists() and not path.is_file():  # a pipe, or a device such as /dev/null: it must stay what it is
            with path.open("w", encoding="utf-8", newline="\n") as output:
                yield output
            return
        with (
            _ended_in_order(),
            replacing_file(path) as partial,
            partial.open("w", encoding="utf-8", newline="\n") as output,
        ):
            yield output


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Let SIGTERM, which would end the process at once, remove what is half written."""
    former = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def _printer(options: Namespace, classifier: Classifier, output: TextIO, names: list[str]) -> Callable[[Answer], None]:
    """What prints an answer, in the form that the arguments ask for."""
    about = classifier.metadata
    lines = Lines(about.classes, names, takes_colour(output))
    if not options.json and not options.csv:
        return lambda answer: print(lines.line(answer), file=output)
    in_utf8 = (output.encoding or "").lower() == "utf-8"
    table, cells = csv.writer(output, lineterminator="\n"), (about.classes, list(about.sets))
    if options.csv:
        table.writerow(csv_header(*cells))

    def printed(answer: Answer) -> None:
        if options.csv:
            table.writerow(csv_row(answer, *cells))
        else:
            print(json.dumps(as_json(answer, classifier.preprocessing), ensure_ascii=not in_utf8), file=output)
        if answer.prediction is None:  # a person looks here
            print(f"{title(answer)}: {answer.error}", file=sys.stderr)

    return printed


def _with_bar(answers: Iterator[Answer], files: int, hidden: bool) -> Iterator[Answer]:
    """The answers, with a progress bar over the files if there are several."""
    if files == 1 or hidden:
        yield from answers
        return
    from brain_tumor.progress import bar

    with bar(desc="predict", unit="file", total=files) as progress:
        for _, slices in groupby(answers, key=lambda answer: answer.name):
            yield from slices
            progress.update()


def _explain(folder: Path, answer: Answer, classifier: Classifier) -> None:
    """Write the picture of an answer below a folder, but never outside: root and ".." are dropped from its name."""
    from brain_tumor.serving.pictures import explained_picture

    path = Path(f"{title(answer)}.png")
    target = folder.joinpath(*(_short(part) for part in path.parts if part not in (path.anchor, "..")))
    with _told(target, "--explain"):
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing_file(target) as partial:
            partial.write_bytes(explained_picture(answer, classifier.preprocessing))


def _short(part: str) -> str:
    """A part of a path that file systems take: escapes may have made it longer than 255 bytes."""
    whole = part.encode()
    return part if len(whole) <= 255 else f"{whole[:200].decode(errors='ignore')}-{zlib.crc32(whole):08x}.png"
