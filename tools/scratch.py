"""Copy this tree to a scratch folder, with other params, and run the pipeline there.

The committed lock, params and data stay as they are; the same dvc.yaml runs, on the copy's own code.

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
# What a tree without git must not bring along: results, environments, caches.
_LEFT_OUT = {".git", ".venv", ".demo", "data", "models", "logs", "cache", "tmp", "__pycache__", "build"}


def tree_files(root: Path = ROOT) -> list[Path]:
    """Files of the project: what git tracks or would track; without git, all but results and caches."""
    listed = (
        subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=root, capture_output=True
        )
        if (root / ".git").exists() and shutil.which("git")
        else None
    )
    if listed and listed.returncode == 0:
        paths = [Path(name) for name in listed.stdout.decode().split("\0") if name]
        return sorted(path for path in paths if (root / path).is_file())
    found = []
    for folder, folders, names in os.walk(root):
        relative = Path(folder).relative_to(root)
        # src/brain_tumor/{data,model} are code: results are left out at the top and in .dvc only
        folders[:] = [name for name in folders if name not in _LEFT_OUT or relative.parts[:1] == ("src",)]
        found += [relative / name for name in names]
    return sorted(path for path in found if "__pycache__" not in path.parts)


def scratch_copy(target: Path, overrides: dict, root: Path = ROOT) -> None:
    """Copy the project to `target`, an absent or former scratch folder, and change its params.

    Args:
        target: keeps its DVC cache from an earlier run; all else in it is replaced.
        overrides: nested as params.yaml; a value replaces the one there.
        root: the tree to copy.
    """
    for path in target.iterdir() if target.exists() else []:
        if path.name != ".dvc":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in tree_files(root):
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / path, target / path)
    (target / "dvc.lock").unlink(missing_ok=True)
    yaml = YAML()
    params = yaml.load(target / "params.yaml")
    _update(params, overrides)
    yaml.dump(params, target / "params.yaml")


def environment() -> dict[str, str]:
    """This environment, with the programs of the running Python first on PATH."""
    return os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}


def _update(params: dict, overrides: dict) -> None:
    for key, value in overrides.items():
        if isinstance(value, dict) and isinstance(params.get(key), dict):
            _update(params[key], value)
        else:
            params[key] = value


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", type=Path, help="scratch folder")
    parser.add_argument("--params", type=Path, required=True, help="YAML file of params that differ")
    arguments = parser.parse_args()
    scratch_copy(arguments.target, YAML(typ="safe").load(arguments.params))
    # The copy is no git checkout of its own, nor part of the one it may lie in.
    (arguments.target / ".dvc" / "config.local").write_text("[core]\n    no_scm = true\n", encoding="utf-8")
    return subprocess.run(["dvc", "repro"], cwd=arguments.target, env=environment()).returncode


if __name__ == "__main__":
    sys.exit(main())
