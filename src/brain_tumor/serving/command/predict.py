"""`brain-tumor predict`.

Exit codes: 0, every file was read; 1, some files could not be read, the others were answered; 2, nothing was done:
wrong arguments, no scan that can be read, or no classifier.
"""

import glob
import json
import os
import signal
import sys
import zlib
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
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
from brain_tumor.serving.command.resume import Table
from brain_tumor.serving.output import as_json, csv_header, csv_line, csv_row, named, title
from brain_tumor.serving.readers.formats import is_candidate

_INPUT = "standard input"


def predict(options: Namespace, classifier: Classifier) -> int:
    """Answer for the scans that the arguments name, and return the exit code.

    Raises:
        PipelineError: no scan was found, or there is a place that cannot be written to.
    """
    found = [each for path in options.paths for each in _files(path, options.quiet)]
    if not found:
        raise PipelineError(f"expected scans in {', '.join(options.paths)}, found none")
    if options.resume:
        found = list(dict.fromkeys(found))  # no file is answered twice
    if options.explain:
        with _told(options.explain, "--explain"):
            options.explain.mkdir(parents=True, exist_ok=True)

    table = Table(options.output, csv_header(*_cells(classifier)), classifier.sha256)
    with _written_to(options, table, map(_name, found)) as output:
        counts, left = table.counts, [each for each in found if _name(each) not in table.names]
        printed = _printer(options, classifier, output, left)
        answers = stream(classifier, map(_opened, left), wanted=options.slice)
        for answer in _with_bar(answers, len(left), options.quiet or output.isatty()):
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


def _files(path: str, quiet: bool) -> list[str | File]:
    """Standard input, a file, the scans of a folder or what a pattern stands for; the last two sorted by path.

    Files are paths, of which there may be millions: of each, `_opened` makes the `File` when its turn comes.
    """
    if path == "-":
        content = _standard_input()
        return [File(_INPUT, lambda: content)]
    matching = [path] if os.path.exists(path) else sorted(glob.glob(path, recursive=True))
    found: dict[str, None] = {}  # each once, although ** stands for a folder and for what is in it
    for each in map(Path, matching or [path]):  # what is not there gives an answer with the error
        found |= dict.fromkeys(_scans_below(each, quiet) if os.path.isdir(each) else [str(each)])
    return list(found)


def _scans_below(folder: Path, quiet: bool) -> list[str]:
    """The scans of a folder, and the folders below it that cannot be listed, which give an answer with the error."""
    closed: list[str] = []
    below = all_below(folder, lambda error: closed.append(str(Path(error.filename))))
    if not quiet:
        from brain_tumor.progress import bar

        below = bar(below, desc="look for scans", unit="file", delay=1, leave=False)
    found = [str(path) for path in below if is_candidate(path)]
    return sorted(found + closed, key=lambda path: path.replace(os.sep, "\0"))  # folder by folder, as paths compare


def _opened(each: str | File) -> File:
    return each if isinstance(each, File) else File(each, Path(each).read_bytes)


def _name(each: str | File) -> str:
    """As answers have it."""
    return named(each.name if isinstance(each, File) else each)


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
def _written_to(options: Namespace, table: Table, names: Iterable[str]) -> Iterator[TextIO]:
    """Standard output, the file that replaces the one of --output at the end, or the table that is resumed there."""
    path = options.output
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
        if options.resume:
            with table.going_on(names, options.quiet) as output:
                yield output
            return
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


def _cells(classifier: Classifier) -> tuple[list[str], list[str]]:
    """The classes and the levels of prediction sets that a table has columns for."""
    return classifier.metadata.classes, list(classifier.metadata.sets)


def _printer(
    options: Namespace, classifier: Classifier, output: TextIO, files: list[str | File]
) -> Callable[[Answer], None]:
    """What prints an answer, in the form that the arguments ask for."""
    if not options.json and not options.csv:
        names = [title(Answer(_name(each))) for each in files]
        lines = Lines(classifier.metadata.classes, names, takes_colour(output))
        return lambda answer: print(lines.line(answer), file=output)
    in_utf8 = (output.encoding or "").lower() == "utf-8"
    cells = _cells(classifier)
    if options.csv and not options.resume:  # a table that goes on has them
        output.write(csv_line(csv_header(*cells)))

    def printed(answer: Answer) -> None:
        if options.csv:
            output.write(csv_line(csv_row(answer, *cells, classifier.sha256)))
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
