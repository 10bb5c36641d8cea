"""Does a killed run give the same bytes? SIGKILLs at random times, in turn to the stage and to dvc.

    python benchmarks/kills.py pipelines [--times 30]   # several kills in each run of the whole pipeline
    python benchmarks/kills.py stages [--times 200]     # one kill in a run of one stage, each stage in turn
    python benchmarks/kills.py training [--times 20]    # that many kills in one training of fold 0

Further options: [--params FILE] [--seed 0] [--folder .demo/kills]. Each measurement first makes an undisturbed run
below the folder. After the kills, `make repro` has to end in the same dvc.lock and in the same bytes of all outputs,
and to leave nothing half written and no process behind. FILE contains the parameters that differ from params.yaml:
tests/small.yaml by default, or demo.yaml; its second source is unpacked from an archive.
"""

import argparse
import collections
import contextlib
import hashlib
import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "src")]

from scratch import change_params, environment, scratch_copy  # noqa: E402

MAKE = ["make", "repro"]
TRAINING = ["dvc", "repro", "train@0"]
OUTPUTS = ["data", "metrics", "models", "plots", "report", "src/brain_tumor/serving/classifier.tflite"]
_LEFT_OVER = ["**/*.partial", "**/.partial-*", "data/**/.unpack-*", "data/**/.download-*", "checkpoints/*"]
# Of each pipeline, stage or training: the kills, and what was wrong then.
Results = list[tuple[list["Kill"], list[str]]]


@dataclass(frozen=True)
class Kill:
    """What a SIGKILL met: `victim` is "stage" or "dvc", and `stage` what ran, or what had run last."""

    victim: str
    stage: str
    running: bool

    def __str__(self) -> str:
        return f"{self.victim} {'in' if self.running else 'after'} {self.stage}"


def below(process: psutil.Process) -> tuple[psutil.Process | None, psutil.Process | None]:
    """The `dvc` and the stage that run below a process, or are it."""
    dvc = stage = None
    for each in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            command = each.cmdline()
            if any(part.startswith("stages/") for part in command[1:2]):
                stage = each
            elif any(Path(part).name == "dvc" for part in command[:2]):
                dvc = each
    return dvc, stage


def kill(command: list[str], folder: Path, victim: str, after: float, starts=0, **variables: str) -> Kill | float:
    """Run a command in a project and send one SIGKILL, as soon as the victim is there after so many seconds.

    Args:
        victim: "stage" or "dvc".
        after: seconds, from the start of the `starts`-th stage; 0: of the command.

    Returns:
        What it met; how many of these seconds the victim lived, if it had ended before.

    Raises:
        RuntimeError: the stage outlived its dvc.
    """
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=folder, env=_outer(variables), **quiet) as started:
        process, since, seen, names = psutil.Process(started.pid), time.monotonic(), 0.0, []
        while started.poll() is None:
            try:
                dvc, stage = below(process)
                running = stage.environ()["DVC_STAGE"] if stage else None
            except (psutil.Error, KeyError):  # it has just ended, or just begun
                continue
            if running and running not in names:
                names.append(running)
                since = time.monotonic() if len(names) == starts else since
            target = stage if victim == "stage" else dvc
            if target and len(names) >= starts:
                seen = time.monotonic() - since
                if seen >= after:
                    target.kill()
                    started.wait()
                    if stage and psutil.wait_procs([stage], timeout=20)[1]:
                        raise RuntimeError(f"{running} outlived its dvc")
                    return Kill(victim, names[-1] if names else "the start", running is not None)
            time.sleep(0.02)
    return seen


def outputs(folder: Path) -> dict[str, str]:
    """Path -> SHA-256 of dvc.lock and of all files that a run writes."""
    paths = [folder / "dvc.lock", *(folder / name for name in OUTPUTS)]
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def faults(folder: Path, expected: dict[str, str]) -> list[str]:
    """What is not as after an undisturbed run with the outputs `expected`."""
    found = outputs(folder)
    wrong = [f"{path} differs" for path in sorted(expected.keys() | found) if expected.get(path) != found.get(path)]
    left = {path for pattern in _LEFT_OVER for path in folder.glob(pattern) if ".dvc" not in path.parts}
    wrong += [f"{path.relative_to(folder)} is left over" for path in sorted(left)]
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if Path(process.cwd()).is_relative_to(folder) and process.pid != os.getpid():
                wrong.append(f"process {process.pid} still runs: {' '.join(process.cmdline())}")
    return wrong


def recovered(folder: Path, expected: dict[str, str], **variables: str) -> list[str]:
    """Run `make repro` to its end; what is wrong then."""
    done = subprocess.run(MAKE, cwd=folder, env=_outer(variables), capture_output=True, text=True)
    if done.returncode:
        return [f"make repro -> {done.returncode}: {' | '.join((done.stdout + done.stderr).strip().splitlines()[-8:])}"]
    return faults(folder, expected)


def pipeline_kills(folder: Path, rng: random.Random, kills: int, longest: float, **variables: str) -> list[Kill]:
    """Start `make repro` and kill the stage or dvc within `longest` seconds, in turn, again and again."""
    victims = rng.sample(["stage", "dvc"], 2)
    met = (kill(MAKE, folder, victims[i % 2], rng.uniform(0, longest), **variables) for i in range(kills))
    return [each for each in met if isinstance(each, Kill)]


def stage_kill(folder: Path, name: str, victim: str, rng: random.Random, again: bool, **variables: str) -> Kill:
    """Kill one stage, or its dvc, at a random moment in a project in which all stages have run.

    Args:
        again: run it by force, with its outputs in DVC's caches; otherwise as after a change of the stage, so that
            only another run brings them back.
    """
    command = ["dvc", "repro", "--single-item", *(["--force"] if again else []), name]
    longest = 10.0
    while True:
        if not again:
            forget(folder, name)
        met = kill(command, folder, victim, rng.uniform(0, longest), starts=victim == "stage", **variables)
        if isinstance(met, Kill):
            return met
        longest = met


def forget(folder: Path, *names: str) -> None:
    """Make DVC run stages again, as after a change of their commands; nothing comes back from its run cache."""
    yaml = YAML()
    lock = yaml.load(folder / "dvc.lock")
    for name in names:
        lock["stages"][name]["cmd"] += " --changed"
    yaml.dump(lock, folder / "dvc.lock")
    shutil.rmtree(folder / ".dvc" / "cache" / "runs", ignore_errors=True)


def prepared(folder: Path, overrides: dict) -> dict[str, str]:
    """Make `folder` a committed copy of the project in which nothing has run; environment variables that it needs."""
    scratch_copy(folder, overrides)
    params = YAML(typ="safe").load(folder / "params.yaml")
    if params["data"]["sources"].get("second", {}).get("dataset") == "phantoms:second":
        from brain_tumor.source.phantoms.second import draw_second_set

        scans = folder.with_name(f"{folder.name}-archive") / "second"
        scans.mkdir(parents=True)  # below what main() has emptied
        draw_second_set(scans, **params["phantoms"])
        shutil.make_archive(str(scans), "zip", scans)
        params["data"]["sources"]["second"]["dataset"] = "nobody/second"
        change_params(folder / "params.yaml", {"data": params["data"]})
    with_environment(folder)
    _commit(folder)
    return {"DATASET_ARCHIVE": str(folder.with_name(f"{folder.name}-archive"))}


def _commit(folder: Path) -> None:
    author = ["-c", "user.name=kills", "-c", "user.email=kills@example.org"]
    for command in (["init", "-q"], ["add", "-A"], [*author, "commit", "-q", "-m", "kills"]):
        subprocess.run(["git", *command], cwd=folder, check=True)


def with_environment(folder: Path) -> None:
    """Have the project's `make` use the environment of this process."""
    (folder / ".venv").mkdir(exist_ok=True)
    (folder / ".venv" / ".locked").touch()


def _outer(variables: dict[str, str]) -> dict[str, str]:
    """The environment variables of a program, whose `make` is to be no nested one."""
    return {name: value for name, value in environment().items() if not name.startswith(("MAKE", "MFLAGS"))} | variables


def _copied(folder: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(folder, target, symlinks=True)


def _undisturbed(folder: Path, command: list[str], variables: dict[str, str]) -> float:
    begin = time.monotonic()
    subprocess.run(command, cwd=folder, env=_outer(variables), check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - begin


def measure_pipelines(base: Path, overrides: dict, times: int, rng: random.Random) -> Results:
    variables = prepared(base / "before", overrides)
    peace, fire = base / "peace", base / "fire"
    _copied(base / "before", peace)
    seconds, results = _undisturbed(peace, MAKE, variables), []
    for i in range(times):
        _copied(base / "before", fire)
        try:
            met = pipeline_kills(fire, rng, 6, seconds / 3, **variables)
            wrong = recovered(fire, outputs(peace), **variables)
        except RuntimeError as error:
            met, wrong = [], [str(error)]
        results.append(_told(f"pipeline {i + 1}", met, wrong, fire))
    return results


def measure_stages(base: Path, overrides: dict, times: int, rng: random.Random) -> Results:
    overrides["run"] = overrides.get("run", {}) | {"folds": list(range(overrides.get("split", {}).get("folds", 5)))}
    peace, fire, variables = base / "peace", base / "fire", prepared(base / "peace", overrides)
    _undisturbed(peace, MAKE, variables)
    _commit(peace)
    names = list(YAML(typ="safe").load(peace / "dvc.lock")["stages"])
    expected, results = outputs(peace), []
    for i in range(times):
        if not i or results[-1][1]:
            _copied(peace, fire)
        try:
            again, turn = divmod(i // 2, len(names))
            met = [stage_kill(fire, names[turn], ("stage", "dvc")[i % 2], rng, again % 2 == 1, **variables)]
            wrong = recovered(fire, expected, **variables)
        except RuntimeError as error:
            met, wrong = [], [str(error)]
        results.append(_told(f"stage {i + 1}", met, wrong, fire))
    return results


def measure_training(base: Path, overrides: dict, times: int, rng: random.Random) -> Results:
    overrides["run"] = overrides.get("run", {}) | {"folds": [0]}
    peace, fire, variables = base / "peace", base / "fire", prepared(base / "peace", overrides)
    _undisturbed(peace, ["dvc", "repro", "split", "features"], variables)
    _copied(peace, fire)
    _undisturbed(peace, TRAINING, variables)
    met = [kill(TRAINING, fire, ("stage", "dvc")[i % 2], rng.uniform(0, 30), **variables) for i in range(times)]
    _undisturbed(fire, TRAINING, variables)
    return [_told("training", [each for each in met if isinstance(each, Kill)], faults(fire, outputs(peace)), fire)]


def _told(name: str, met: list[Kill], wrong: list[str], folder: Path) -> tuple[list[Kill], list[str]]:
    said = "; ".join(wrong) if wrong else "the same bytes"
    print(f"{time.strftime('%H:%M:%S')} {name}: {', '.join(map(str, met)) or 'not killed'}: {said}", flush=True)
    if wrong:
        _copied(folder, folder.with_name(f"{name.replace(' ', '-')}-wrong"))
    return met, wrong


_MEASURES = {"pipelines": (measure_pipelines, 30), "stages": (measure_stages, 200), "training": (measure_training, 20)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=_MEASURES)
    parser.add_argument("--times", type=int, help="pipelines, stages or, for the training, kills")
    parser.add_argument("--folder", type=Path, default=ROOT / ".demo/kills")
    parser.add_argument("--params", type=Path, default=ROOT / "tests/small.yaml", help="parameters that differ")
    parser.add_argument("--seed", type=int, default=0, help="of the times of the kills")
    arguments = parser.parse_args()
    measure, usual = _MEASURES[arguments.what]
    base, rng = arguments.folder.resolve() / arguments.what, random.Random(arguments.seed)
    shutil.rmtree(base, ignore_errors=True)
    results = measure(base, YAML(typ="safe").load(arguments.params), arguments.times or usual, rng)
    counts = collections.Counter((each.stage, each.victim, each.running) for met, _ in results for each in met)
    print(f"\n{'stage':<22}{'stage killed':>14}{'dvc while it ran':>18}{'dvc before or after':>21}")
    for name in sorted({stage for stage, *_ in counts}):
        numbers = (counts[name, *key] for key in (("stage", True), ("dvc", True), ("dvc", False)))
        print("{:<22}{:>14}{:>18}{:>21}".format(name, *numbers))
    right = sum(not wrong for _, wrong in results)
    print(f"{counts.total()} kills; {right} of {len(results)} {arguments.what} ended in the same bytes")
    return int(right < len(results))


if __name__ == "__main__":
    sys.exit(main())
