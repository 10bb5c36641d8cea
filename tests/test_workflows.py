"""What runs on a pull request: the files are linted, the commands of every job are executed in a clean clone.

Replaced is what takes long or needs an account: `cml`, `apt-get` and most make targets, whose commands make only looks
up; .ci/run, which the job `test` starts, runs them for the project itself.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, run, with_params
from pull_request import LIMIT, fitting
from ruamel.yaml import YAML
from scratch import scratch_copy

from brain_tumor.params import load_params

FLOWS = {path.stem: YAML(typ="safe").load(path) for path in sorted((ROOT / ".github/workflows").glob("*.yml"))}
GITHUB = {name: job for flow in FLOWS.values() for name, job in flow["jobs"].items()}
GITLAB = YAML(typ="safe").load(ROOT / ".gitlab-ci.yml")
PROGRAMS = Path(sys.executable).parent


def programs(folder: Path, **texts: str) -> Path:
    """A folder of shell scripts."""
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    return folder


# ---------------------------------------------------------------- the files


@pytest.mark.parametrize(
    ("schema", "path", "needed"),
    [
        ("github-workflows", ".github/workflows/test.yml", "steps"),
        ("github-workflows", ".github/workflows/report.yml", "steps"),
        ("dependabot", ".github/dependabot.yml", "directory"),
        ("gitlab-ci", ".gitlab-ci.yml", "script"),
    ],
)
def test_a_file_follows_its_schema(tmp_path, schema, path, needed):
    check = [PROGRAMS / "check-jsonschema", "--builtin-schema", f"vendor.{schema}"]
    done = subprocess.run([*check, ROOT / path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(re.sub(rf"\b{needed}:", "another:", (ROOT / path).read_text(encoding="utf-8")))
    assert subprocess.run([*check, wrong], capture_output=True).returncode == 1


def test_no_workflow_can_be_injected_into_or_leaks(tmp_path):
    target = tmp_path / ".github"
    shutil.copytree(ROOT / ".github", target)
    command = [PROGRAMS / "zizmor", "--offline", "--no-progress", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    text = (target / "workflows/report.yml").read_text(encoding="utf-8")
    text = text.replace("run: make setup", "run: echo '${{ github.event.pull_request.title }}'")
    (target / "workflows/report.yml").write_text(re.sub(r"(actions/cache)@\w+", r"\1@v5", text))
    found = subprocess.run(command, capture_output=True, text=True).stdout
    assert "template-injection" in found and "unpinned-uses" in found


def test_only_the_job_without_a_checkout_may_write():
    assert all(flow["permissions"] == {"contents": "read"} for flow in FLOWS.values())
    assert {name: job["permissions"] for name, job in GITHUB.items() if "permissions" in job} == {
        "comment": {"pull-requests": "write"}
    }
    assert [name for name, job in GITHUB.items() if "token" in json.dumps(job)] == ["comment"]
    assert "actions/checkout" not in json.dumps(GITHUB["comment"])
    assert GITLAB["comment"]["variables"]["GIT_STRATEGY"] == "none" and GITLAB["comment"]["environment"]


def test_every_supported_python_is_tested_and_the_demo_has_valid_params(tmp_path):
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    low, high = re.search(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', text).groups()
    pythons = [f"3.{minor}" for minor in range(int(low), int(high))]
    (matrix,) = GITLAB["test"]["parallel"]["matrix"]
    assert GITHUB["test"]["strategy"]["matrix"]["python"] == matrix["PYTHON"] == pythons
    scratch_copy(tmp_path / "demo", YAML(typ="safe").load(ROOT / "demo.yaml"))
    assert load_params(tmp_path / "demo/params.yaml").data.main == "phantoms"


# ---------------------------------------------------------------- the comment


def test_a_long_comment_keeps_the_test_scores():
    rows = [
        f"| metrics/{name}.json   | score_{k} | 0.1 | 0.2 | 0.1 |" for name in ("maps", "test", "x") for k in range(900)
    ]
    shown = fitting("\n".join(["intro", "| Path | Metric | a |", "|------|-----|---|", *rows, "</details>", "end"]))
    assert LIMIT - 200 < len(shown) <= LIMIT and shown.startswith("intro\n") and "\n</details>\nend\n" in shown
    assert shown.count("| metrics/test.json | score") == 900 and "| metrics/x.json | score_899" not in shown
    left_out = int(re.search(r"\n(\d+) more metrics differ: `dvc metrics diff`\.\n$", shown)[1])
    assert left_out + shown.count("| metrics/") == len(rows)
    assert fitting("| a    | b |\nshort") == "| a | b |\nshort\n"


# ---------------------------------------------------------------- the jobs, executed


def pull_request(clone: Path) -> None:
    """Commit a pull request on a branch of a checkout, while main moves on."""
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org"]
    run("git", "checkout", "-q", "-b", "change", cwd=clone)
    with_params(clone, evaluate={"searched_folds": [1]})
    path = clone / "metrics/test.json"
    scores = json.loads(path.read_text(encoding="utf-8"))
    scores["patient_test"]["macro_f1"] += 0.01
    path.write_text(json.dumps(scores, indent=2))
    with open(clone / "plots/roc.svg", "a") as plot:
        plot.write("<!-- another -->\n")
    (clone / "plots/robustness.svg").unlink()
    run(*git, "commit", "-qam", "a change", cwd=clone)
    run("git", "checkout", "-q", "main", cwd=clone)
    run(*git, "commit", "-q", "--allow-empty", "-m", "main has moved on", cwd=clone)
    run("git", "checkout", "-q", "change", cwd=clone)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A git checkout of this project with its committed results, as CI has it: no data. It is a pull request."""
    folder = tmp_path_factory.mktemp("project")
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).stdout
    for name in listed.split("\0"):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    run("git", "init", "-q", "-b", "main", cwd=folder)
    run("git", "add", "-A", cwd=folder)
    run("git", "-c", "user.name=test", "-c", "user.email=test@example.org", "commit", "-qm", "start", cwd=folder)
    pull_request(folder)
    return folder


@pytest.fixture
def clone(project, tmp_path) -> Path:
    run("git", "clone", "-q", str(project), str(tmp_path / "clone"), cwd=tmp_path)
    run("git", "branch", "-q", "main", "origin/main", cwd=tmp_path / "clone")
    return tmp_path / "clone"


def environment_in(clone: Path) -> None:
    """What `make setup` leaves behind."""
    (clone / ".venv").mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (clone / ".venv" / name).symlink_to(Path(sys.prefix) / name)
    (clone / ".venv/.locked").touch()


def execute(system: str, name: str, clone: Path, values: dict[str, str], **shims: str) -> tuple[str, int]:
    """Run the commands of a job one after the other, as the system does.

    Args:
        values: of the system's expressions or variables.
        shims: programs that stand for others.

    Returns:
        What was printed, and the exit code of the last command that ran.
    """
    if not (clone / ".venv").exists():
        environment_in(clone)
    path = programs(clone.parent / "shims", **{"apt-get": "exit 0"} | shims)
    variables = {"PATH": f"{path}{os.pathsep}{os.environ['PATH']}", "HOME": str(clone.parent), "CALLS": "calls"}
    if system == "github":
        steps = [step for step in GITHUB[name]["steps"] if "run" in step]
        shell = ["bash", "-e"] if "container" not in GITHUB[name] else ["sh", "-e"]
        blocks = [(step["run"], {k: expanded(v, values) for k, v in step.get("env", {}).items()}) for step in steps]
        variables |= {k: v for k, v in values.items() if k.startswith("GITHUB_")}
    else:
        job = GITLAB[name] | (GITLAB[".python"] if GITLAB[name].get("extends") else {})
        shell = ["bash", "-eo", "pipefail"]
        blocks = [("\n".join([*job.get("before_script", []), *job["script"]]), job.get("variables", {}) | values)]
    printed, code = "", 0
    for text, own in blocks:
        done = subprocess.run(
            [*shell, "-c", text],
            cwd=clone,
            env=variables | own,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=200,
        )
        printed, code = printed + done.stdout, done.returncode
        if code:
            break
    return printed, code


def expanded(text: str, values: dict[str, str]) -> str:
    return re.sub(r"\$\{\{ (.+?) \}\}", lambda found: values[found[1]], str(text))


# Looks every target up; the demo leaves behind what it would.
MAKE = f"""{shutil.which("make")} --dry-run "$@" > /dev/null || exit
echo "make $*" >> "$CALLS"
[ "$1" != demo ] || {{ mkdir -p .demo/report && cp -r metrics plots .demo && touch .demo/report/index.html; }}"""


def values_of(system: str, clone: Path) -> dict[str, str]:
    main = run("git", "rev-parse", "main", cwd=clone).stdout.strip()
    if system == "github":
        return {
            "github.event.pull_request.base.sha": main,
            "GITHUB_SERVER_URL": "https://example.org",
            "GITHUB_REPOSITORY": "me/it",
            "GITHUB_RUN_ID": "7",
            "GITHUB_STEP_SUMMARY": "summary.md",
        }
    return {
        "CI_MERGE_REQUEST_DIFF_BASE_SHA": run("git", "merge-base", main, "HEAD", cwd=clone).stdout.strip(),
        "CI_PROJECT_URL": "https://example.org/me/it",
        "CI_JOB_URL": "https://example.org/me/it/-/jobs/7",
    }


SYSTEMS = pytest.mark.parametrize("system", ["github", "gitlab"])


@SYSTEMS
@pytest.mark.slow
def test_the_tests_run_and_a_lock_out_of_step_fails(clone, system):
    printed, code = execute(system, "test", clone, values_of(system, clone), make=MAKE)
    assert (clone / "calls").read_text().splitlines() == ["make setup", "make lint", "make test"], printed
    assert code == 1
    said = [line for line in printed.splitlines() if line.startswith("error: dvc.lock is out of step; run make repro")]
    assert any("evaluate: modified: metrics/test.json" in line for line in said), printed


@SYSTEMS
@pytest.mark.slow
def test_known_vulnerabilities_are_looked_for_weekly(clone, system):
    printed, code = execute(system, "audit", clone, values_of(system, clone), make=MAKE)
    assert code == 0 and (clone / "calls").read_text() == "make audit-deps\n", printed
    assert "schedule" in json.dumps((GITHUB if system == "github" else GITLAB)["audit"])


def comment_of(system: str, clone: Path) -> str:
    """The text that the job `report` writes, after what is the same in all cases was checked."""
    values = values_of(system, clone)
    printed, code = execute(system, "report", clone, values, make=MAKE)
    assert code == 0, printed
    assert (clone / "calls").read_text().splitlines() == ["make setup", "make demo"]
    assert (clone / "out/report/index.html").is_file()
    text = (clone / "out/comment.md").read_text(encoding="utf-8")
    start, head = (run("git", "rev-parse", name, cwd=clone).stdout.strip() for name in ("main~1", "change"))
    assert len(text) < LIMIT and text.startswith(f"### {start[:7]}")
    assert "| params.yaml | evaluate.searched_folds |" in text
    assert re.search(r"\| metrics/test.json \| patient_test.macro_f1 \| \S+ \| \S+ \| 0.01 \|", text)
    assert re.findall(r"!\[\w+\]\(https://example\.org/me/it(?:/-)?/raw/(\w+)/([\w./]+)\)", text) == [
        (start, "plots/robustness.svg"),
        (start, "plots/roc.svg"),
        (head, "plots/roc.svg"),
    ]
    scores = json.loads((clone / "metrics/test.json").read_text(encoding="utf-8"))["patient_test"]
    assert f"On {scores['n']} simulated test images" in text and f"| accuracy | {scores['accuracy']:.3f} (" in text
    if system == "github":
        assert "](https://example.org/me/it/actions/runs/7)" in text
        assert (clone / "summary.md").read_text(encoding="utf-8") == text
    else:
        assert "](https://example.org/me/it/-/jobs/7/artifacts/browse/out)" in text
    return text


@SYSTEMS
@pytest.mark.slow
def test_without_the_predictions_the_comment_has_what_git_knows(clone, system):
    text = comment_of(system, clone)
    assert re.search(r"\nNo paired bootstrap: expected the results of \w+ in the DVC cache", text)


@pytest.mark.docs
def test_with_a_remote_the_comment_has_the_paired_bootstrap(whole_clone, tmp_path):
    run("dvc", "remote", "add", "-q", "-d", "storage", str(tmp_path / "storage"), cwd=whole_clone)
    run("dvc", "push", "-q", cwd=whole_clone)
    run("git", "commit", "-qam", "remote", cwd=whole_clone)
    pull_request(whole_clone)
    target = tmp_path / "fetched/clone"
    run("git", "clone", "-q", str(whole_clone), str(target), cwd=tmp_path)
    run("git", "branch", "-q", "main", "origin/main", cwd=target)
    text = comment_of("github", target)
    # The same predictions, so no difference.
    assert re.search(r"\n\| macro f1 \| (\S+) \| \1 \| \+0\.000 \(\+0\.000 to \+0\.000\) \|", text)
    assert "No paired bootstrap" not in text


@SYSTEMS
@pytest.mark.parametrize("cml", ["works", "fails"])
def test_the_comment_is_posted_or_one_line_says_why_not(tmp_path, system, cml):
    clone = tmp_path / "clone"
    clone.mkdir()
    values = {"github.token": "secret", "REPO_TOKEN": "secret", "CI_PROJECT_URL": "https://example.org/me/it"}
    values |= {"GITHUB_SERVER_URL": "https://example.org", "GITHUB_REPOSITORY": "me/it"}
    values |= {"GITHUB_STEP_SUMMARY": "summary.md"}
    shim = f'echo "$* ${{#REPO_TOKEN}} $ITERATIVE_DO_NOT_TRACK" >> "$CALLS"; exit {int(cml == "fails")}'
    printed, code = execute(system, "comment", clone, values, cml=shim)
    options = "--repo=https://example.org/me/it --target=pr --publish=false --watermark-title=report"
    assert code == 0 and (clone / "calls").read_text() == f"comment update {options} out/comment.md 6 1\n"
    summary = clone / "summary.md"
    said = summary.read_text() if summary.exists() else printed
    assert (said == "") if cml == "works" else re.fullmatch(r"No comment: CML failed.*\n", said)
    assert "secret" not in printed + said


# ---------------------------------------------------------------- git hooks


@pytest.mark.docs
def test_hooks_refuse_what_ci_would_refuse_and_move_the_data(whole_clone, tmp_path):
    environment_in(whole_clone)
    run(".venv/bin/pre-commit", "install", cwd=whole_clone, HOME=str(tmp_path))

    def git(*arguments: str, fails: bool = False) -> str:
        # Neither the environment nor a cache of pre-commit's helps.
        variables = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(tmp_path)}
        done = run("git", *arguments, cwd=whole_clone, fails=fails, **variables)
        return done.stdout + done.stderr

    (whole_clone / "stages/more.py").write_text("import os\nx = {  'a':1 }\n")
    (whole_clone / "wrong.yaml").write_text("a: [1\n")
    (whole_clone / "large.bin").write_bytes(bytes(1_100_000))
    path = whole_clone / ".gitlab-ci.yml"
    path.write_text(path.read_text(encoding="utf-8").replace("script:", "commands:"), encoding="utf-8")
    git("add", "-A")
    said = git("commit", "-m", "wrong", fails=True)
    states = dict(re.findall(r"^(.+?)\.{3,}.*?(Passed|Failed|Skipped)$", said, re.MULTILINE))
    assert [name for name, state in states.items() if state == "Failed"] == [
        "ruff check",
        "ruff format",
        "YAML",
        "no large files, which belong into DVC",
        "GitLab pipeline",
    ]
    assert "F401" in said and "large.bin (1075 KB) exceeds 1000 KB" in said and states["dvc status"] == "Passed"
    git("rm", "-q", "-f", "--cached", "wrong.yaml", "large.bin")
    git("checkout", "-q", "HEAD", ".gitlab-ci.yml")
    (whole_clone / "stages/more.py").write_text("x = 1\n")
    git("add", "stages/more.py")
    said = git("commit", "-m", "right")
    assert "report:" in said and "changed deps:" in said  # the stage that depends on all code

    # push: nothing more than git does without a remote, the data with one
    run("git", "init", "-q", "--bare", str(tmp_path / "server.git"), cwd=tmp_path)
    git("push", "-q", str(tmp_path / "server.git"), "HEAD:refs/heads/a")
    run("dvc", "remote", "add", "-q", "-d", "storage", str(tmp_path / "storage"), cwd=whole_clone)
    assert not (tmp_path / "storage").exists()
    git("push", "-q", str(tmp_path / "server.git"), "HEAD:refs/heads/b")
    assert len(list((tmp_path / "storage/files/md5").rglob("*"))) > 50

    # checkout: the data follow
    git("stash", "-q")
    shutil.rmtree(whole_clone / "data/split")
    git("checkout", "-q", "-b", "other")
    assert (whole_clone / "data/split/folds.csv").is_file()
    shutil.rmtree(whole_clone / ".dvc/cache")  # as in a fresh clone: nothing to check out, and no error
    shutil.rmtree(whole_clone / "data/split")
    git("checkout", "-q", "-b", "another")
