"""The rooms of the library: what they hold, what they import, and that stages depend on the rooms they use."""

import ast
import json
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from conftest import ROOT, run
from ruamel.yaml import YAML

SOURCE = ROOT / "src" / "brain_tumor"
# A room imports from the rooms before it. docs/architecture.md has the picture.
ORDER = [
    *("imaging", "tables", "exported", "networks", "training", "perturbations", "source", "own_tables", "prepare"),
    *("drawing", "audit", "split", "metrics", "prediction", "evaluation", "probes", "audit_model", "report", "serving"),
]
PLUMBING = {
    "__init__",
    "__main__",
    "cluster",
    "errors",
    "files",
    "params",
    "params_messages",
    "progress",
    "words",
    "workers",
}
LIGHT = ("imaging", "exported", "serving")
# The stages of pre-trained weights load it where there are some, which the small run has not.
WITHOUT_TENSORFLOW = (
    *("download", "preprocess", "audit", "split", "backbone", "features"),
    *("validate", "evaluate", "audit_model", "report"),
)
PIPELINE = YAML(typ="safe").load(ROOT / "dvc.yaml")
# Stages of a `foreach` have their content below `do`.
STAGES = {name: stage.get("do", stage) for name, stage in PIPELINE["stages"].items()}
FILES = sorted(SOURCE.rglob("*.py"))


def module_of(path: Path) -> str:
    parts = ("brain_tumor", *path.relative_to(SOURCE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path) for path in FILES}


def imported(path: Path) -> set[str]:
    """Modules and packages that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names & MODULES or {node.module}
    return found


def test_every_room_has_its_place():
    assert {path.name for path in SOURCE.iterdir() if (path / "__init__.py").exists()} == set(ORDER)
    picture = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    assert [room for room in ORDER if f"`{room}`" not in picture] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_run_downwards(path):
    names = imported(path)
    used = {name.split(".")[1] for name in names if name.startswith("brain_tumor.")}
    assert "params" not in used, "params.yaml is read by the stages only"
    room = path.relative_to(SOURCE).parts[0]
    if room in ORDER:
        assert used - PLUMBING <= set(ORDER[: ORDER.index(room) + 1])
    else:
        assert used <= PLUMBING | ({"serving"} if path.stem in ("__init__", "__main__") else set())
    if room not in ("networks", "training", "prediction", "probes"):
        assert not {"tensorflow", "keras"} & {name.split(".")[0] for name in names}


def test_no_import_runs_in_a_circle():
    # The package itself leads to `serving`, on demand.
    graph = {module_of(path): imported(path) & (MODULES - {"brain_tumor"}) for path in FILES}
    TopologicalSorter(graph).prepare()  # raises CycleError


def test_rooms_and_files_stay_small():
    for folder in {path.parent for path in FILES}:
        assert len([path for path in folder.iterdir() if path.is_file()]) <= 12, folder
    for path in FILES:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 300, path


def test_stages_stay_short_and_each_is_in_the_pipeline():
    scripts = {path for path in (ROOT / "stages").glob("*.py") if not path.name.startswith("_")}
    for path in scripts:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 80, path
    assert {f"stages/{path.name}" for path in scripts} == {stage["cmd"].split()[1] for stage in STAGES.values()}


def test_what_must_stay_light_does():
    names = [module for module in sorted(MODULES) if module.split(".")[1:2] and module.split(".")[1] in LIGHT]
    code = f"import sys; sys.path.insert(0, 'src'); import {', '.join(names)}; print(*sys.modules)"
    loaded = set(run(sys.executable, "-c", code, cwd=ROOT).stdout.split())
    assert not {"tensorflow", "keras", "dvc", "pandas", "matplotlib", "pydicom", "nibabel"} & loaded


def test_stages_name_the_rooms_they_load(tmp_path):
    """In one process; the stages that need no TensorFlow come first, so that it shows."""
    scripts = {name: stage["cmd"].split()[1] for name, stage in STAGES.items()}
    names = sorted(scripts, key=lambda name: name not in WITHOUT_TENSORFLOW)
    program = tmp_path / "rooms.py"
    program.write_text(f"""
import json, runpy, sys
sys.path.insert(0, "stages")
loaded = {{}}
for name, script in {[(name, scripts[name]) for name in names]!r}:
    for module in [module for module in sys.modules if module.split(".")[0] == "brain_tumor"]:
        del sys.modules[module]
    runpy.run_path(script)
    own = [module.split(".") for module in sys.modules if module.startswith("brain_tumor.")]
    loaded[name] = sorted({{parts[1] for parts in own}}), "tensorflow" in sys.modules
print(json.dumps(loaded))
""")
    all_rooms = {dep.removeprefix("src/brain_tumor/") for stage in STAGES.values() for dep in stage["deps"]}
    all_rooms = {name for name in all_rooms if name in ORDER}
    assert all_rooms == set(ORDER) - {"serving"}
    for name, (rooms, tensorflow) in json.loads(run(sys.executable, str(program), cwd=ROOT).stdout).items():
        named = [dep.removeprefix("src/brain_tumor/") for dep in STAGES[name]["deps"] if dep[:4] == "src/"]
        if name == "report":  # states the fingerprint of all code that stages depend on
            assert set(rooms) - PLUMBING <= set(named) and sorted(named) == ["__init__.py", *sorted(all_rooms)]
            assert "stages" in STAGES[name]["deps"]
            continue
        assert sorted(named) == sorted(set(rooms) - PLUMBING), name
        assert scripts[name] in STAGES[name]["deps"]
        assert tensorflow == (name not in WITHOUT_TENSORFLOW), name


def test_the_pipeline_reads_at_a_glance():
    assert len((ROOT / "dvc.yaml").read_text(encoding="utf-8").splitlines()) <= 400
    ignored = (ROOT / ".dvcignore").read_text(encoding="utf-8").splitlines()
    assert {"__pycache__", "*.sw?", "*~", ".DS_Store"} <= set(ignored)  # would make a room look changed
    exported = next(iter(STAGES["export"]["outs"][0]))
    for stage in STAGES.values():
        assert not any(exported.startswith(f"{dep}/") for dep in stage["deps"])
