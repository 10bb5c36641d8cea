"""Downloads from Kaggle with the official `kaggle` command, watched and repeated.

The command neither notices a silent server nor tries again. `kagglehub`, the newer client, notices but does not try
again either, and it unpacks archives itself, into a cache in the user's home and without the checks of `archive`.
"""

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

from brain_tumor.errors import REFUSALS, WRITING, PipelineError
from brain_tumor.source.archive import ends_as_zip

BACKOFF_SECONDS = 2.0  # before the first further attempt; doubles with each

# What the command prints when another attempt cannot help. The server's own text replaces the status if it sends one.
_REFUSED = re.compile(r"\b40[0134] Client Error|^Authentication required|^Permission .* denied", re.MULTILINE)
# A token that ends with a line break cannot be sent: the error of the client quotes the whole header.
_SECRET = re.compile(r"""\b(Basic|Bearer) [^'"\r\n]+""")
# What no further attempt changes: the command tries five times, a minute in all, to write to a disk that is full.
_REFUSED_HERE = re.compile(r"\[Errno (\d+)\][^:\r\n]*(?:: '([^']+)')?")
# What the command says of a web page where Kaggle's answer should be.
_NO_JSON = "Expecting value: line 1 column 1"
_WAYS_OUT = (
    "sign in to Kaggle (~/.kaggle/kaggle.json, KAGGLE_USERNAME with KAGGLE_KEY, or KAGGLE_API_TOKEN), or use a copy "
    "with `DATASET_ARCHIVE=/path/to/archive.zip make repro` (for several sources a folder of their archives), or see "
    "the pipeline without the data with `make demo`"
)


class _AttemptFailed(Exception):
    """One run of the `kaggle` command failed; `final` if another attempt cannot succeed either."""

    def __init__(self, reason: str, final: bool = False):
        super().__init__(" ".join(reason.split()))
        self.final = final


def download(dataset: str, folder: Path, retries: int, stall_seconds: float) -> Path:
    """Download the archive of a data set; a download that was interrupted is continued.

    Args:
        dataset: Kaggle slug `owner/name`.
        folder: existing, to write to.
        retries: further attempts after a failed one, with growing pauses.
        stall_seconds: a download without output or growth for so long has failed. The command writes in pieces of
            1 MiB, so a line slower than one piece in this time counts as silent.

    Returns:
        The zip archive.

    Raises:
        PipelineError: Kaggle refused, every attempt failed, or the command is not installed.
        OSError: the archive cannot be written or the key not read, with an errno in `errors.REFUSALS`.
    """
    # The environment's own command comes first, even if the environment is not activated.
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
            if not ends_as_zip(file):
                file.unlink()  # otherwise the command would consider it complete
                raise _AttemptFailed("the download is not a whole zip archive")
            return file
        except _AttemptFailed as failure:
            if failure.final:
                raise PipelineError(
                    f"Kaggle refused {dataset} ({failure}): check the name in data.sources, {_WAYS_OUT}"
                ) from None
            if attempt > retries:
                raise PipelineError(
                    f"Kaggle did not deliver {dataset} in {attempt} attempts (last: {failure}): {_WAYS_OUT}"
                ) from None
            pause = BACKOFF_SECONDS * 2 ** (attempt - 1)
            print(
                f"download: attempt {attempt} of {retries + 1} failed ({failure}), next in {pause:g} s",
                file=sys.stderr,
            )
            time.sleep(pause)
    raise AssertionError("unreachable: the last attempt returns or raises")


def _run(command: list[str], file: Path, stall_seconds: float) -> None:
    """Run `command` beside `file`, show its output on a terminal, and kill it if neither grows.

    Raises:
        _AttemptFailed: it was killed or ended with an error.
        OSError: the system refuses it a file, with an errno in `errors.REFUSALS`.
    """
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "COLUMNS": str(shutil.get_terminal_size().columns)}
    process = subprocess.Popen(
        command,
        # If this process is killed, the command lives on. A later run removes this folder, and with it the only place
        # where the command can write, because it knows no other path to it.
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
            line = _SECRET.sub(r"\1 ***", line)
            lines.append(line)
            if sys.stderr.isatty():
                print(line, end="", file=sys.stderr, flush=True)

    reader = threading.Thread(target=relay, daemon=True)
    reader.start()
    try:
        seen, since = (0, 0), time.monotonic()
        while process.poll() is None:
            state = len(lines), file.stat().st_size if file.exists() else 0
            if state != seen:
                _raise_refused_here(lines[seen[0] :])
                seen, since = state, time.monotonic()
            elif time.monotonic() - since > stall_seconds:
                raise _AttemptFailed(f"no data for {stall_seconds:g} s")
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.2)
    finally:
        process.kill()
        process.wait()
        reader.join()
    _raise_refused_here(lines)
    if process.returncode != 0:
        output = "".join(lines)
        output_lines = [line for line in re.split(r"[\r\n]+", output) if line.strip()]
        refused = _REFUSED.search(output)
        # A refusal may be followed by help on signing in; every other failure is in the last line.
        last = output_lines[-1] if output_lines else "no output"
        reason = next((line for line in output_lines if refused and refused[0] in line), last)
        if reason.startswith(_NO_JSON):
            reason = "expected JSON, received something else, perhaps a web page to sign in to this network"
        raise _AttemptFailed(f"{reason.strip()}, exit {process.returncode}", final=refused is not None)


def _raise_refused_here(lines: list[str]) -> None:
    for found in _REFUSED_HERE.finditer("".join(lines)):
        # Without the name of a file, other errors may be those of the network.
        if (number := int(found[1])) in (REFUSALS if found[2] else WRITING):
            raise OSError(number, os.strerror(number), found[2])
