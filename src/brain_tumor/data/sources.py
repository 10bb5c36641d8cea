"""Where a data set comes from: Kaggle, an archive that is already here, or a folder."""

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from brain_tumor.data import manifest
from brain_tumor.data.archive import unpack
from brain_tumor.data.layout import list_images
from brain_tumor.errors import PipelineError
from brain_tumor.files import replacing_folder

FOLDER_PREFIX = "folder:"
BACKOFF_SECONDS = 2.0  # before the first further attempt; doubles with each

_SLUG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*/[A-Za-z0-9_][A-Za-z0-9_-]*")
# What the command prints when asking again cannot help. The server's own text replaces the status where it sends one.
_REFUSED = re.compile(r"\b40[0134] Client Error|^Authentication required|^Permission .* denied", re.MULTILINE)
_WAYS_OUT = (
    "sign in to Kaggle (~/.kaggle/kaggle.json, KAGGLE_USERNAME with KAGGLE_KEY, or KAGGLE_API_TOKEN), or use a copy "
    "with `DATASET_ARCHIVE=/path/to/archive.zip make repro`, or see the pipeline without the data with `make demo`"
)


class _AttemptFailed(Exception):
    """One run of the `kaggle` command brought no archive; `final` when another cannot either."""

    def __init__(self, reason: str, final: bool = False):
        super().__init__(" ".join(reason.split()))
        self.final = final


def fetch(
    dataset: str,
    target: Path | str,
    *,
    archive: Path | str | None = None,
    manifests: Path | str = Path("manifests"),
    retries: int = 3,
    stall_seconds: float = 60,
    accept: bool = False,
) -> None:
    """Bring a data set to `target` as `[<folder>/]<class>/<file>`: whole and checked, or not at all.

    A Kaggle set is held against `<manifests>/<owner>--<name>.sha256`; one without a manifest passes with a note on
    standard error. A folder has none: it is copied as it stands.

    Args:
        dataset: a Kaggle slug `owner/name`, or `folder:PATH`.
        target: folder to make or to replace.
        archive: a zip archive, or an unpacked folder, of the Kaggle set that is used in place of the network. No
            meaning for `folder:PATH`, which names its place itself.
        manifests: folder of the manifests.
        retries: further attempts at a download after a failed one, with growing pauses; what has come is kept.
        stall_seconds: a download is stopped after that many seconds without output or growth. The command writes in
            pieces of 1 MiB, so that a line slower than one piece in this time counts as silent.
        accept: write the manifest anew from what came instead of verifying.

    Raises:
        PipelineError: unknown kind of source, missing or damaged source, a layout that is not one of classes, content
            that differs from the manifest, or a download that failed for good.
    """
    target = Path(target)
    record = None
    if dataset.startswith(FOLDER_PREFIX):
        if accept:
            raise PipelineError(f"expected a Kaggle set to accept, received {dataset!r}: a folder has no manifest")
        source = Path(dataset.removeprefix(FOLDER_PREFIX)).expanduser()
        if not source.is_dir():
            raise PipelineError(f"expected a folder of images at {source}, found none: correct data.dataset")
    elif _SLUG.fullmatch(dataset):
        record = Path(manifests) / f"{dataset.replace('/', '--')}.sha256"
        source = None if archive is None else Path(archive).expanduser()
        if source is not None and not source.exists():
            raise PipelineError(f"expected a zip archive or a folder at {source}, found none: correct DATASET_ARCHIVE")
    else:
        raise PipelineError(
            f"expected a Kaggle slug owner/name, {FOLDER_PREFIX}PATH or phantoms, received {dataset!r}: "
            "correct data.dataset"
        )
    if source is not None:
        _check_apart(source, target)

    with replacing_folder(target) as partial:
        with TemporaryDirectory(prefix=".download-", dir=partial) as scratch:
            found = source or _download(dataset, Path(scratch), retries, stall_seconds)
            try:
                unpack(found, partial)
                list_images(partial)
            except PipelineError as error:
                # What the user knows, in place of folders that are gone when the line is read.
                text = str(error)
                for place in (found, partial):
                    text = text.replace(str(place), str(source or dataset))
                raise PipelineError(text) from error
        if accept:
            digests = manifest.compute(partial)
        elif record is not None and record.exists():
            manifest.verify(manifest.compute(partial), record)

    if accept:
        manifest.write(record, digests)
    elif record is not None and not record.exists():
        _say(f"{dataset} has no manifest and was not verified: `make accept-data` records this version in {record}")


def _check_apart(source: Path, target: Path) -> None:
    """Refuse a source that the rename at the end would delete, or that would contain its own copy."""
    a, b = source.resolve(), target.resolve()
    if a.is_relative_to(b) or b.is_relative_to(a):
        raise PipelineError(f"expected a source apart from {target}, received {source}: move it elsewhere")


def _download(dataset: str, folder: Path, retries: int, stall_seconds: float) -> Path:
    """Run the `kaggle` command until it brings the archive; what came before a failure is continued, not repeated."""
    # The environment's own command comes first, also where the environment is not activated.
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    command = shutil.which("kaggle", path=places)
    if command is None:
        raise PipelineError("expected the `kaggle` command, found none: `make setup` installs it")
    file = folder / f"{dataset.split('/')[1]}.zip"
    for attempt in range(1, retries + 2):
        try:
            _run([os.path.abspath(command), "datasets", "download", dataset, "--path", "."], file, stall_seconds)
            if not file.exists():
                raise _AttemptFailed("the kaggle command ended without an archive")
            if not zipfile.is_zipfile(file):
                file.unlink()  # or the command takes it for complete
                raise _AttemptFailed("what came is no whole zip archive")
            return file
        except _AttemptFailed as failure:
            if failure.final:
                raise PipelineError(
                    f"Kaggle refused {dataset} ({failure}): check the name in data.dataset, {_WAYS_OUT}"
                ) from None
            if attempt > retries:
                raise PipelineError(
                    f"Kaggle did not deliver {dataset} in {attempt} attempts (last: {failure}): {_WAYS_OUT}"
                ) from None
            pause = BACKOFF_SECONDS * 2 ** (attempt - 1)
            _say(f"download: attempt {attempt} of {retries + 1} failed ({failure}), next in {pause:g} s")
            time.sleep(pause)
    raise AssertionError("unreachable: the last attempt returns or raises")


def _run(command: list[str], file: Path, stall_seconds: float) -> None:
    """Run `command` beside `file`, show its output on a terminal, and kill it when neither grows.

    Raises:
        _AttemptFailed: it was killed or ended with an error.
    """
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "COLUMNS": str(shutil.get_terminal_size().columns)}
    process = subprocess.Popen(
        command,
        # When this process is killed, the command lives on. A later run removes the folder, and with it the only place
        # where the command can write, as it knows the place by no other name.
        cwd=file.parent,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    lines: list[str] = []

    def relay() -> None:
        # newline="": a progress bar ends its lines with a carriage return.
        for line in io.TextIOWrapper(process.stdout, encoding="utf-8", errors="replace", newline=""):
            lines.append(line)
            if sys.stderr.isatty():
                print(line, end="", file=sys.stderr, flush=True)

    reader = threading.Thread(target=relay, daemon=True)
    reader.start()
    try:
        seen, since = None, time.monotonic()
        while process.poll() is None:
            state = len(lines), file.stat().st_size if file.exists() else 0
            if state != seen:
                seen, since = state, time.monotonic()
            elif time.monotonic() - since > stall_seconds:
                raise _AttemptFailed(f"no data for {stall_seconds:g} s")
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.2)
    finally:
        process.kill()
        process.wait()
        reader.join()
    if process.returncode != 0:
        output = "".join(lines)
        spoken = [line for line in re.split(r"[\r\n]+", output) if line.strip()]
        refused = _REFUSED.search(output)
        # A refusal may be followed by help on signing in; every other failure is the last thing said.
        reason = next(
            (line for line in spoken if refused and refused[0] in line), spoken[-1] if spoken else "no output"
        )
        raise _AttemptFailed(f"{reason.strip()}, exit {process.returncode}", final=refused is not None)


def _say(line: str) -> None:
    print(line, file=sys.stderr)
