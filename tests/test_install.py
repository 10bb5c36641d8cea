"""The package as `pip install .` brings it: small, whole, and without anything of the pipeline."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

import brain_tumor

LIMIT = 360_000_000
GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """An environment with the serving lock and the package, nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    source = folder / "source"
    tracked = ("pyproject.toml", "README.md", "LICENSE", *(path.name for path in ROOT.glob("requirements*.in")))
    source.mkdir()
    for name in tracked:
        shutil.copy(ROOT / name, source / name)
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    uv = Path(sys.executable).with_name("uv")
    python = folder / "environment/bin/python"
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, folder / "environment"], check=True)
    lock = ["--require-hashes", "-r", ROOT / "requirements-serving.txt"]
    done = subprocess.run([uv, "pip", "install", "-q", "--python", python, *lock], capture_output=True, text=True)
    if done.returncode and os.environ.get("REQUIRE_ALL") != "1":
        pytest.skip(f"the package index cannot be reached: {done.stderr[-200:]}")
    assert done.returncode == 0, done.stderr
    subprocess.run([uv, "pip", "install", "-q", "--python", python, "--no-deps", source], check=True)
    shutil.rmtree(source)
    return folder / "environment"


def test_it_is_small_and_brings_no_pipeline(installed):
    packages = next((installed / "lib").glob("python*/site-packages"))
    size = sum(path.lstat().st_size for path in packages.rglob("*") if path.is_file())
    assert size <= LIMIT, f"{size / 1e6:.0f} MB"
    names = {path.name for path in packages.iterdir()}
    assert not names & {"tensorflow", "keras", "dvc", "pandas", "sklearn", "matplotlib", "scipy", "pydicom", "nibabel"}


def test_its_version_is_that_of_the_source(installed, tmp_path):
    told = "from importlib.metadata import metadata; print(metadata('brain-tumor')['Version'])"
    shown = [
        subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60, check=True).stdout
        for command in ([installed / "bin/python", "-c", told], [installed / "bin/brain-tumor", "--version"])
    ]
    assert shown == [f"{brain_tumor.__version__}\n", f"brain-tumor {brain_tumor.__version__}\n"]
    assert brain_tumor.__version__.count(".") == 2


def test_its_shell_completion_is_there(installed, tmp_path):
    variables = {"_ARGCOMPLETE": "1", "COMP_LINE": "brain-tumor se", "COMP_POINT": "14", "COMP_TYPE": "9"}
    command = f"{installed / 'bin/brain-tumor'} 8>&1 9>/dev/null >/dev/null"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path, env=variables)
    assert done.stdout.strip() == "serve", done.stderr


def test_it_predicts_at_once_and_says_how_to_read_more(installed, tmp_path):
    command = [installed / "bin/brain-tumor", "predict", "--json", GOLDEN / "scan.png"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert sum(told["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    named = {"answer": 1, "unsure": 2, "no answer": 0}[told["state"]]
    assert len(told["likely"]) == named and told["abstained"] == (named != 1) == bool(told["reasons"])
    (tmp_path / "series.dcm").write_bytes(bytes(128) + b"DICM" + bytes(100))
    command = [installed / "bin/brain-tumor", "predict", "series.dcm"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 2 and "pip install 'brain-tumor[readers]'" in done.stdout


@pytest.mark.parametrize("version", [1, 2])
def test_it_reads_files_of_every_format(installed, tmp_path, version):
    expected = json.loads((GOLDEN / f"answer-{version}.json").read_text(encoding="utf-8"))
    model = ["--model", GOLDEN / f"classifier-{version}.tflite"]
    command = [installed / "bin/brain-tumor", "predict", "--json", *model, GOLDEN / "scan.png"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-5)
    assert told["state"] == expected.get("state", "no answer") and told["likely"] == expected.get("likely", [])


def test_its_page_is_there(installed, tmp_path):
    code = (
        "from brain_tumor import Classifier\n"
        "from brain_tumor.serving.server import Limits, make_app\n"
        "from brain_tumor.serving import server\n"
        "make_app(Classifier.load(), Limits())\n"
        "print(*sorted(str(path.relative_to(server._WEB)) for path in server._WEB.rglob('*.*')))"
    )
    done = subprocess.run([installed / "bin/python", "-c", code], capture_output=True, text=True, cwd=tmp_path)
    web = ROOT / "src/brain_tumor/serving/web"
    expected = sorted(str(path.relative_to(web)) for path in web.rglob("*.*"))
    assert done.stdout.split() == expected and {"index.html", "samples/glioma.jpg"} < set(expected), done.stderr
