"""Does a killed training give the same bytes? SIGKILLs at random times, half to the trainer and half to dvc.

    python benchmarks/kills.py [--params FILE] [--kills 20] [--seed 0] [FOLDER]

Trains fold 0 twice in scratch folders below FOLDER (default: .demo/kills), once uninterrupted and once with kills,
each time with a plain `dvc repro train@0`, and compares the model and the learning curves. FILE contains the
parameters that differ from params.yaml, such as demo.yaml.
"""

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

from scratch import environment, scratch_copy  # noqa: E402

COMMAND = ["dvc", "repro", "train@0"]


def digest(folder: Path) -> str:
    """SHA-256 over the model and the learning curves of fold 0."""
    files = sorted(p for name in ("models", "plots/training") for p in (folder / name).rglob("*") if p.is_file())
    return hashlib.sha256(b"".join(str(p.relative_to(folder)).encode() + p.read_bytes() for p in files)).hexdigest()


def trainer(process: psutil.Process) -> psutil.Process | None:
    """The training process below a `dvc repro`, if it is running."""
    try:
        found = [child for child in process.children(recursive=True) if "stages/train.py" in " ".join(child.cmdline())]
    except psutil.Error:
        return None
    return found[-1] if found else None


def under_fire(folder: Path, kills: int, rng: random.Random) -> None:
    """Start the training and kill it after a random time, again and again; then let it finish."""
    longest = 30.0
    for shot in range(kills):
        with subprocess.Popen(COMMAND, cwd=folder, env=environment(), stdout=subprocess.PIPE, text=True) as dvc:
            process = psutil.Process(dvc.pid)
            while not (victim := trainer(process)) and dvc.poll() is None:
                time.sleep(0.05)
            end = time.monotonic() + rng.uniform(0, longest)
            while time.monotonic() < end and dvc.poll() is None:
                time.sleep(0.05)
            if dvc.poll() is not None:
                print(f"training ended by itself before kill {shot + 1}", flush=True)
                return
            at_dvc = shot % 2 == 1
            os.kill(dvc.pid if at_dvc else victim.pid, signal.SIGKILL)
            dvc.stdout.close()
        print(f"kill {shot + 1}: {'dvc' if at_dvc else 'the trainer'}", flush=True)
    subprocess.run(COMMAND, cwd=folder, env=environment(), check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / ".demo" / "kills")
    parser.add_argument("--params", type=Path, help="YAML file of parameters that differ")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the times of the kills")
    arguments = parser.parse_args()
    overrides = YAML(typ="safe").load(arguments.params) if arguments.params else {}
    overrides["run"] = overrides.get("run", {}) | {"folds": [0]}
    peace, fire = arguments.folder / "peace", arguments.folder / "fire"
    scratch_copy(peace, overrides)
    (peace / ".dvc" / "config.local").write_text("[core]\n    no_scm = true\n", encoding="utf-8")
    for stage in ("split", "features"):
        subprocess.run(["dvc", "repro", stage], cwd=peace, env=environment(), check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(fire, ignore_errors=True)
    shutil.copytree(peace, fire, symlinks=True)
    subprocess.run(COMMAND, cwd=peace, env=environment(), check=True)
    under_fire(fire, arguments.kills, random.Random(arguments.seed))
    results = digest(peace), digest(fire)
    same = results[0] == results[1]
    print(
        f"uninterrupted {results[0][:16]}, interrupted {results[1][:16]}: {'the same' if same else 'DIFFERENT'} bytes"
    )
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
