"""A table of answers that goes on where a run ended: `--csv -o FILE --resume`.

Rows are appended as they come, each as a whole: a kill leaves whole rows, and at most a part of one more, which is cut
off. The rows of a file stand together, and those of the last one may not all be there: it is answered once more.
"""

import csv
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TextIO

from brain_tumor.errors import PipelineError
from brain_tumor.exported.states import ANSWER
from brain_tumor.serving.output import csv_line

try:
    import fcntl
except ImportError:  # Windows, where nothing keeps two runs from one table
    fcntl = None

_LONGEST = 2**16  # bytes of a row; the names of files, its longest cells, are shorter


class Table:
    """A table of answers in a file, which may be there already.

    Args:
        path: of the file.
        header: names of the columns.
        model: SHA-256 of the classifier, which stands in the last column of each row.

    Attributes:
        names: of the files that were answered before, as the table has them.
        counts: of their slices, as `lines.summary` takes them.
    """

    def __init__(self, path: Path, header: list[str], model: str) -> None:
        self._path, self._header, self._model = path, header, model
        self.names: set[str] = set()
        self.counts: Counter[str | None] = Counter()

    @contextmanager
    def going_on(self, names: Iterable[str], quiet: bool) -> Iterator[TextIO]:
        """Read what is there, and yield the file to append rows to; a new one begins with the header.

        Args:
            names: of the files that can be answered, as the table has them.
            quiet: show no progress.

        Raises:
            PipelineError: it is no such table, or another process appends to it.
            OSError: it cannot be read or written.
        """
        path = self._path
        if path.exists() and not path.is_file():
            raise PipelineError(f"expected a file in {path} (--output), got something else: choose another place")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            if fcntl:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # let go when the process ends, in whichever way
                except BlockingIOError:
                    raise PipelineError(f"another process writes to {path}: wait until it has ended") from None
            file.seek(0)
            head = csv_line(self._header).encode()
            if (begin := file.read(len(head))) == head:
                file.truncate(self._read(file, len(head), names, quiet))
            elif head.startswith(begin):  # new, or cut off in the header
                file.truncate(0)
            else:
                message = f"expected a table of this classifier's answers in {path}, got other columns"
                raise PipelineError(f"{message}: choose another file")
            with path.open("a", encoding="utf-8", newline="\n", buffering=1) as output:  # each row leaves at its end
                if begin != head:
                    output.write(csv_line(self._header))
                yield output

    def _read(self, file: BinaryIO, end: int, names: Iterable[str], quiet: bool) -> int:
        """Note what the rows from the offset `end` on say; the offset after those that stay."""
        last, start, of_last = "", end, Counter()  # the last file: its name, where its rows begin, what they say
        state, label, error = map(self._header.index, ("state", "label", "error"))
        rows = _rows(file, end)
        if not quiet:
            from brain_tumor.progress import bar

            rows = bar(rows, desc="read answers", unit="row", delay=1, leave=False)
        for number, (row, following) in enumerate(rows, 2):
            self._check(row, number)
            if row[0] not in self.names:
                last, start, of_last = row[0], end, Counter()
                self.names.add(last)
            said = None if row[error] else row[label] if row[state] == ANSWER else row[state]
            self.counts[said] += 1
            of_last[said] += 1
            end = following
        if (rest := self._path.stat().st_size - end) > _LONGEST:
            message = f"expected rows in {self._path}, got none in its last {rest} bytes"
            raise PipelineError(f"{message}: remove what is damaged there")
        if last not in names:
            return end
        self.names.remove(last)
        self.counts -= of_last
        return start

    def _check(self, row: list[str], number: int) -> None:
        if len(row) != len(self._header):
            expected = f"expected {len(self._header)} cells in row {number} of {self._path}"
            raise PipelineError(f"{expected}, got {len(row)}: remove the row")
        if row[-1] != self._model:
            raise PipelineError(
                f"expected answers of the classifier {self._model[:12]} in {self._path}, got {row[-1][:12]} in row "
                f"{number}: choose another file, or that classifier with --model"
            )


def _rows(file: BinaryIO, end: int) -> Iterator[tuple[list[str], int]]:
    """The whole rows from the offset `end` on, where the file is, and the offset at which each ends."""

    def lines() -> Iterator[str]:
        nonlocal end
        while (line := file.readline(_LONGEST)).endswith(b"\n"):  # otherwise it is cut off, or no row
            end += len(line)
            yield line.decode("utf-8", errors="replace")

    with suppress(csv.Error):  # cut off in a name that has a line break, or damaged
        for row in csv.reader(lines(), strict=True):
            yield row, end
