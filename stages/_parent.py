"""A stage ends with its `dvc`, so that the next one does not run it twice."""

import json
import os
import sys
import threading
import time
from pathlib import Path

import psutil


def end_with_dvc(root: Path) -> None:
    """End this process within a second after its `dvc` was killed, also if that was before this call.

    Args:
        root: the project.
    """
    if "DVC_STAGE" not in os.environ:  # started by hand and not by DVC
        return
    # Some shells stay between DVC and the stage.
    child = psutil.Process()
    while (parent := child.parent()) and Path(sys.argv[0]).name in _command(parent):
        child = parent
    holder = child.ppid()
    if holder not in _running_dvc(root, holder):
        sys.exit("error: the dvc that started this stage was killed: run `make repro` again")

    def watch() -> None:
        while child.is_running() and child.ppid() == holder:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it ended, or it is another user's: no shell of this stage
        return ""


def _running_dvc(root: Path, unknown: int) -> set[int]:
    """Processes that run a stage of this project, as DVC notes them; `unknown` where there is no such note.

    An orphan gets another parent at once, and nothing else tells that one from a `dvc`: not the number, since a
    container's first process may be `dvc`, and not the name, since a program may run the pipeline by DVC's API.
    """
    try:
        locks = json.loads((root / ".dvc" / "tmp" / "rwlock").read_text(encoding="utf-8"))
        return {lock["pid"] for lock in locks["write"].values()} or {unknown}
    except (OSError, ValueError, KeyError):  # it is being written, or is that of an enclosing DVC project
        return {unknown}
