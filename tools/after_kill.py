"""Mend what a killed `dvc` may leave half written, before `make repro` starts the next one, and keep a second run away.

DVC writes two files in place, dvc.lock (a fifth of a second for each stage) and .dvc/tmp/rwlock. If it is killed or the
power fails meanwhile, they are cut off, and no `dvc repro` starts until someone has mended them by hand.

What killed stages have begun to write is removed.

    python tools/after_kill.py [--hold DESCRIPTOR]
    python tools/after_kill.py --finished             # after all stages have run
"""

import argparse
import contextlib
import fcntl
import itertools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
from filelock import FileLock, Timeout
from ruamel.yaml import YAML, YAMLError

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

_WRITTEN = ["checkpoints", "data", "metrics", "models", "plots", "report", "src"]
_PARTIAL = re.compile(r"\.(\d+)(?:\.former)?\.partial$|^\.partial-(\d+)-")
_PATIENCE = 3.0  # seconds; a stage ends within one after its `dvc`


def stages_of(text: str) -> set[str] | None:
    """Names of the stages in a dvc.lock; None if it is cut off within a stage or before the first."""
    try:
        stages = YAML(typ="safe").load(text)["stages"]
        for stage in stages.values():
            for entry in [*stage.get("deps", []), *stage["outs"]]:
                entry["nfiles" if entry["md5"].endswith(".dir") else "size"]  # the last of an entry, as outs of a stage
    except (YAMLError, TypeError, KeyError, AttributeError):
        return None
    return set(stages) if text.endswith("\n") else None


def mend_lock(root: Path) -> None:
    """Put the last commit's dvc.lock in the place of one that is cut off; without such a commit, remove it.

    Nothing is lost by that: DVC compares the files with it, and takes what was run since from its run cache.
    """
    lock = root / "dvc.lock"
    if not lock.exists():
        return
    command = ["git", "show", "HEAD:./dvc.lock"]
    shown = subprocess.run(command, cwd=root, capture_output=True) if (root / ".git").exists() else None
    committed = shown.stdout.decode() if shown and shown.returncode == 0 else None
    stages = stages_of(lock.read_text(encoding="utf-8", errors="replace"))
    # Whole stages at its end may be missing too. DVC itself never takes one out.
    if stages is not None and stages >= (stages_of(committed or "") or set()):
        return
    if committed is None:
        lock.unlink()
    else:
        lock.write_text(committed, encoding="utf-8", newline="\n")
    done = "removed" if committed is None else "replaced by that of the last commit"
    print(f"dvc.lock was cut off when dvc was killed: {done}; DVC's run cache has what was run since", file=sys.stderr)


def mend_rwlock(root: Path) -> None:
    """Take from DVC's notes of what is in use the processes that are no `dvc` of this folder.

    DVC removes those that have ended by itself, but takes another process for them that has their number by now, as is
    usual after a restart of the machine or container.
    """
    notes = root / ".dvc" / "tmp" / "rwlock"
    with open(notes.with_name("rwlock.lock"), "r+") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)  # as DVC does while it changes them
        try:
            locks = json.loads(notes.read_text(encoding="utf-8"))
            users = [*locks.get("write", {}).values(), *itertools.chain(*locks.get("read", {}).values())]
        except (ValueError, AttributeError):
            notes.unlink()
            print("removed .dvc/tmp/rwlock, which was cut off when dvc was killed", file=sys.stderr)
            return
        if users and not any(_is_dvc(user["pid"], root) for user in users):
            notes.unlink()


def _is_dvc(pid: int, root: Path) -> bool:
    try:
        process = psutil.Process(pid)
        return any("dvc" in part for part in process.cmdline()) and Path(process.cwd()).is_relative_to(root)
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:  # another user's: leave it to DVC
        return True


def remove_partial(root: Path) -> None:
    """Remove what killed stages have left under temporary names, see `brain_tumor.files`.

    The next run of such a stage removes it too, but there is none where DVC has the result in its cache.
    """
    # The report's stands beside it, in the root.
    for path in [*root.glob("*.partial*"), *(path for name in _WRITTEN for path in (root / name).rglob("*.partial*"))]:
        if not (named := _PARTIAL.search(path.name)):
            continue
        try:
            psutil.Process(int(named[1] or named[2])).wait(timeout=_PATIENCE)
        except psutil.NoSuchProcess:
            pass
        except psutil.TimeoutExpired:  # it is at work
            continue
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def remove_finished(root: Path) -> None:
    """Remove the checkpoints of killed trainings whose networks are there: they came from DVC's cache instead."""
    from brain_tumor.params import load_params

    params = load_params(root / "params.yaml")
    current = params.model_dump(include={"split", "run", "model", "train"}, exclude={"run": {"folds"}})
    for path in sorted(root.glob("checkpoints/*/facts.json")):
        with contextlib.suppress(Timeout, ValueError, KeyError), FileLock(path.with_name("lock"), timeout=0):
            facts = json.loads(path.read_text(encoding="utf-8"))["params"]
            mine = {key: value for key, value in facts.items() if key not in ("fold", "main")} == current
            if mine and facts["main"] == params.data.main and facts["fold"] in (*params.run.folds, "all"):
                shutil.rmtree(path.parent)


def hold(descriptor: int) -> None:
    """Lock an open file of the process that started this one, until that ends.

    Raises:
        SystemExit: another one holds it.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit("error: expected to be the only `make repro` in this folder, another one is running: wait for it")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hold", type=int, metavar="DESCRIPTOR", help="an open file of the caller, to be locked")
    parser.add_argument(
        "--finished", action="store_true", help="all stages have run: only remove what is of no use now"
    )
    arguments = parser.parse_args()
    if arguments.finished:
        remove_finished(Path.cwd())
        return
    if arguments.hold is not None:
        hold(arguments.hold)
    with contextlib.suppress(FileNotFoundError, BlockingIOError):  # no `dvc` has run here, or one is at work now
        with open(".dvc/tmp/lock", "r+") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)  # as DVC does while it writes dvc.lock
            mend_lock(Path.cwd())
        mend_rwlock(Path.cwd())
        remove_partial(Path.cwd())


if __name__ == "__main__":
    main()
