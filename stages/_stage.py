"""What every stage needs around its work. Imported before the library, it puts the code of its own tree first."""

import argparse
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
# Before anything that is installed: an experiment in a copy of this tree runs the copy's code.
sys.path.insert(0, str(ROOT / "src"))

from brain_tumor.errors import ending_in_one_line  # noqa: E402

_ARGUMENTS = {
    "fold": {"type": lambda text: text if text == "all" else int(text), "metavar": "NUMBER|all"},
    "part": {"choices": ["validation", "test"]},
    "source": {},
}


def _quiet_tensorflow() -> None:
    """Send what C++ code writes to standard error to logs/<stage>.log; Python's own stays on the terminal."""
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # hints such as that a function is traced again
    log = ROOT / "logs" / f"{Path(sys.argv[0]).stem}.log"
    log.parent.mkdir(exist_ok=True)
    terminal = os.dup(2)
    with open(log, "wb") as stream:
        os.dup2(stream.fileno(), 2)
    sys.stderr = os.fdopen(terminal, "w", buffering=1, encoding="utf-8", errors="replace")


with ending_in_one_line():
    _quiet_tensorflow()


def run(main: Callable[..., None], *needed: str, **flags: str) -> None:
    """Run the stage script that calls this.

    Args:
        main: receives the validated params and the arguments.
        needed: arguments that the script needs: "fold", "part", "source".
        flags: switches of the script and their help texts.
    """
    from brain_tumor.params import load_params

    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    for name in needed:
        parser.add_argument(f"--{name}", required=True, **_ARGUMENTS[name])
    for flag, text in flags.items():
        parser.add_argument(f"--{flag}", action="store_true", help=text)
    arguments = parser.parse_args()
    _end_with_dvc()
    with ending_in_one_line():
        main(load_params(), arguments)


def _end_with_dvc() -> None:
    """End this process within a second after its `dvc` was killed, so that the next one does not run it twice."""
    if "DVC_STAGE" not in os.environ:  # started by hand and not by DVC
        return
    # Some shells stay between DVC and the stage.
    child = psutil.Process()
    while (parent := child.parent()) and Path(sys.argv[0]).name in " ".join(parent.cmdline()):
        child = parent
    holder = child.ppid()

    def watch() -> None:
        while child.is_running() and child.ppid() == holder:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
