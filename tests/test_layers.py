"""The library's rooms import downwards only, and what must stay light stays light."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "brain_tumor"
# Room -> rooms it may import from; the modules at the top level are open to all but `params`.
BELOW = {
    "data": set(),
    "evaluation": set(),
    "audit": {"data", "evaluation"},
    "model": {"data", "evaluation"},
    "serving": {"data", "evaluation"},
}
HEAVY = {"tensorflow", "keras"}
DOORS = {"__init__.py", "__main__.py"}  # of the package: they lead to `serving`


def imported(path: Path) -> set[str]:
    """Full names of the modules and names that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_run_downwards(path):
    names = imported(path)
    room = path.parent.name if path.parent != SOURCE else ""
    own = {name.split(".")[1] for name in names if name.startswith("brain_tumor.")}
    assert "params" not in own, "params.yaml is read by the stages only"
    allowed = BELOW[room] | {room} if room else {"serving"} if path.name in DOORS else set()
    assert own & BELOW.keys() <= allowed
    if room != "model":
        assert not HEAVY & {name.split(".")[0] for name in names}
    if path.name == "imaging.py":
        assert {name.split(".")[0] for name in names} <= {"cv2", "dataclasses", "numpy", "os"}


def test_every_room_is_listed():
    assert {path.parent.name for path in SOURCE.glob("*/*.py")} == BELOW.keys()
