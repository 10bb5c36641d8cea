"""Real projects in scratch folders, with real DVC, for the tests that need them."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from filelock import FileLock
from ruamel.yaml import YAML
from scratch import environment, scratch_copy

ROOT = Path(__file__).resolve().parents[1]

# A shell's background job ignores Ctrl-C, and so would all programs that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# As little as shows every stage.
SMALL = YAML(typ="safe").load(ROOT / "tests" / "small.yaml")

# Put on PYTHONPATH, it keeps Python programs from the network.
NO_NETWORK = ROOT / "tests" / "no_network"
collect_ignore = ["no_network"]

# Their tests run the pipeline, open a browser, or copy the project.
_SLOW_FIXTURES = {"browser", "installed", "project", "small_clone", "small_run", "whole_run"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--docs", action="store_true", help="only the walk-throughs, which `make docs-test` runs")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what `make test-fast` leaves out; a test without such a fixture marks itself. Leave walk-throughs apart.

    What may take longest comes first, so that at the end all processes have something left to do.
    """
    apart = [item for item in items if bool(item.get_closest_marker("docs")) != config.getoption("--docs")]
    config.hook.pytest_deselected(items=apart)
    items[:] = [item for item in items if item not in apart]
    for item in items:
        if _SLOW_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: -_longest(item))


def _longest(item: pytest.Item) -> float:
    mark = item.get_closest_marker("timeout")
    return mark.args[0] if mark else 300


def run(
    *command: str, cwd: Path, fails: bool = False, timeout: float = 280, **variables: str
) -> subprocess.CompletedProcess:
    """Run a program to its end as from a shell, with the environment's programs first on PATH.

    What it prints comes back as text; an exit code other than expected fails the test and shows it. `timeout` in
    seconds only ends what hangs.
    """
    # Under `make test`, a `make` would otherwise be a nested one.
    outer = {name: value for name, value in environment().items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    done = subprocess.run(command, cwd=cwd, env=outer | variables, capture_output=True, text=True, timeout=timeout)
    assert (done.returncode != 0) == fails, f"{' '.join(command)} -> {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def with_params(project: Path, **changes: dict) -> Path:
    """Change params of a project: sections of changed values."""
    yaml = YAML()
    params = yaml.load(project / "params.yaml")
    for section, values in changes.items():
        params[section] |= values
    yaml.dump(params, project / "params.yaml")
    return project


def require(program: str) -> None:
    """Skip the test where a system program is absent; fail it under REQUIRE_ALL=1."""
    if shutil.which(program) is None:
        (pytest.fail if os.environ.get("REQUIRE_ALL") == "1" else pytest.skip)(f"{program} is not installed")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A scratch copy of the project with the small params; nothing has run in it."""
    target = tmp_path / "project"
    scratch_copy(target, SMALL)
    return target


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git checkout of the project on small phantoms, run end to end and committed. Leave it unchanged."""
    return _run_and_committed(tmp_path_factory, "small", SMALL)


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with every fold, so that a network of all patients is served. Leave it unchanged."""
    return _run_and_committed(tmp_path_factory, "whole", SMALL | {"run": {"folds": [0, 1, 2], "threads": 1}})


def _run_and_committed(tmp_path_factory: pytest.TempPathFactory, name: str, overrides: dict) -> Path:
    """One run for all workers of pytest-xdist: run no DVC and no git in it, which lock it against one another."""
    require("git")
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    target, done = shared / name / "project", shared / name / "done"
    with FileLock(shared / f"{name}.lock"):
        if not done.exists():
            scratch_copy(target, overrides)
            run("git", "init", "-q", "-b", "main", cwd=target)
            run("git", "config", "user.name", "test", cwd=target)
            run("git", "config", "user.email", "test@example.org", cwd=target)
            run("git", "add", "-A", cwd=target)
            run("git", "commit", "-q", "-m", "before the run", cwd=target)
            # Without a network; tests/test_network.py reads what was tried.
            blocked = {"PYTHONPATH": str(NO_NETWORK), "NO_NETWORK": str(target.with_name("network.log"))}
            ran = run("dvc", "repro", cwd=target, **blocked)
            (target / "repro.log").write_text(ran.stdout + ran.stderr, encoding="utf-8")
            run("git", "add", "-A", cwd=target)
            run("git", "commit", "-q", "-m", "small run", cwd=target)
            done.touch()
    return target


@pytest.fixture(scope="module")
def browser():
    """The system's Chromium, without a window."""
    require("chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def small_clone(small_run: Path, tmp_path: Path) -> Path:
    """A copy of `small_run`, cache and results included, to change at will."""
    return Path(shutil.copytree(small_run, tmp_path / "clone"))


@pytest.fixture
def whole_clone(whole_run: Path, tmp_path: Path) -> Path:
    """The same of `whole_run`."""
    return Path(shutil.copytree(whole_run, tmp_path / "clone"))
