"""Copy the project to a scratch folder, change its parameters there and run the pipeline.

The parameters, dvc.lock and data of the project stay as they are; the copy runs its own code by the same dvc.yaml.

    python tools/scratch.py .demo --params demo.yaml
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
# Results of a run: neither code nor parameters.
_RESULTS = {"data", "models", "metrics", "plots", "report", "logs", "checkpoints", "dvc.lock"}
# Written by hand, although they are in a folder of results.
_INPUTS = {Path("data/fixes.csv"), Path("data/fixes_by_origin.csv"), Path("data/folds.csv"), Path("data/patients.csv")}
_NO_CODE = {".git", ".venv", ".demo", "__pycache__", "cache", "tmp", "build"}


def tree_files(root: Path = ROOT) -> list[Path]:
    """Files of the project without results: what git tracks or would track; without git, all files except caches."""
    if (root / ".git").exists() and shutil.which("git"):
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=root, capture_output=True, check=True).stdout.decode()
        found = [Path(name) for name in listed.split("\0") if name and (root / name).is_file()]
    else:
        found = []
        for folder, folders, names in os.walk(root):
            folders[:] = [name for name in folders if name not in _NO_CODE]
            found += [(Path(folder) / name).relative_to(root) for name in names]
    return sorted(path for path in found if path.parts[0] not in _RESULTS or path in _INPUTS)


def scratch_copy(target: Path, overrides: dict, root: Path = ROOT) -> None:
    """Copy the project to `target`, a new or earlier scratch folder, and change its parameters.

    Args:
        target: its DVC cache from an earlier run is kept, everything else in it is replaced.
        overrides: nested like params.yaml; its values replace those there. Sources are not merged.
        root: the project to copy.
    """
    for path in target.iterdir() if target.exists() else []:
        if path.name != ".dvc":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in tree_files(root):
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / path, target / path)
    change_params(target / "params.yaml", overrides)


def change_params(path: Path, overrides: dict) -> None:
    """Change a params.yaml as `scratch_copy` does."""
    yaml = YAML()
    params = yaml.load(path)
    _update(params, overrides)
    yaml.dump(params, path)


def environment() -> dict[str, str]:
    """The environment variables of this process, with the programs of its Python first on PATH."""
    return os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}


def _update(params: dict, overrides: dict) -> None:
    for key, value in overrides.items():
        if key != "sources" and isinstance(value, dict) and isinstance(params.get(key), dict):
            _update(params[key], value)
        else:
            params[key] = value


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", type=Path, help="scratch folder")
    parser.add_argument("--params", type=Path, required=True, help="YAML file of parameters that differ")
    arguments = parser.parse_args()
    scratch_copy(arguments.target, YAML(typ="safe").load(arguments.params))
    # The copy is not a git checkout, and not part of the one that may contain it.
    (arguments.target / ".dvc" / "config.local").write_text("[core]\n    no_scm = true\n", encoding="utf-8")
    return subprocess.run(["dvc", "repro"], cwd=arguments.target, env=environment()).returncode


if __name__ == "__main__":
    sys.exit(main())
