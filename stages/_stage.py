"""What every stage needs around its work. Imported before the library, it puts the code of its own tree first."""

import argparse
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

from _parent import end_with_dvc

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
end_with_dvc(ROOT)  # before the imports of the stage, which take seconds


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
    with ending_in_one_line():
        main(load_params(), arguments)
