"""What runs on a pull request: workflows, the comment and git hooks, checked by linters and executed in clean clones.

Real are: the linters, every block of commands and in it git, DVC, `make lint`, `make compare` and the comment; and
pre-commit and git's hooks. Replaced are: `apt-get`; `make setup` and `make test`, which .ci/run runs; `make demo`, by
the small run, which is made by the same tool; and `cml`, which needs an account.
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

GITHUB = {path.stem: YAML(typ="safe").load(path) for path in sorted((ROOT / ".github/workflows").glob("*.yml"))}
GITLAB = YAML(typ="safe").load(ROOT / ".gitlab-ci.yml")
JOBS = {name: job for workflow in GITHUB.values() for name, job in workflow["jobs"].items()}
STEPS = [(name, step) for name, job in JOBS.items() for step in job["steps"]]
PROGRAMS = Path(sys.executable).parent
# The real make, but for the targets that take long or would create an environment.
MAKE = """#!/bin/sh
echo "make $*" >> "$CALLS"
case "$1" in
  setup | test) ;;
  demo) mkdir .demo && cp -r "$DEMO/metrics" "$DEMO/plots" "$DEMO/report" .demo ;;
  *) exec "$REAL_MAKE" "$@" ;;
esac
"""
CML = '#!/bin/sh\necho "cml $* ${#REPO_TOKEN}" >> "$CALLS"\nexit "${CML_FAILS:-0}"\n'


def gitlab_script(job: str) -> str:
    parts = GITLAB[".python"]["before_script"] if GITLAB[job].get("extends") == ".python" else []
    return "\n".join([*parts, *GITLAB[job]["script"]])


def blocks() -> dict[str, str]:
    """All commands of each job, of both systems."""
    github = {f"github {name}": "\n".join(step.get("run", "") for step in job["steps"]) for name, job in JOBS.items()}
    return github | {f"gitlab {name}": gitlab_script(name) for name in ("test", "report", "comment")}


# ---------------------------------------------------------------- the files


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ("vendor.github-workflows", ".github/workflows/test.yml"),
        ("vendor.github-workflows", ".github/workflows/report.yml"),
        ("vendor.gitlab-ci", ".gitlab-ci.yml"),
    ],
)
def test_a_workflow_follows_its_schema(tmp_path, schema, path):
    check = [PROGRAMS / "check-jsonschema", "--builtin-schema", schema]
    done = subprocess.run([*check, ROOT / path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(re.sub(r"\b(steps|script):", "commands:", (ROOT / path).read_text(encoding="utf-8")))
    assert subprocess.run([*check, wrong], capture_output=True).returncode == 1


def zizmor(folder: Path, *paths: Path) -> subprocess.CompletedProcess:
    # Actions are pinned to a major version, not to a hash.
    config = folder / "zizmor.yml"
    config.write_text('rules: {unpinned-uses: {config: {policies: {"*": ref-pin}}}}\n')
    command = [PROGRAMS / "zizmor", "--offline", "--no-progress", "--config", config, *paths]
    return subprocess.run(command, capture_output=True, text=True)


def test_no_workflow_can_be_injected_into_or_leaks(tmp_path):
    done = zizmor(tmp_path, *sorted((ROOT / ".github/workflows").glob("*.yml")))
    assert done.returncode == 0, done.stdout
    planted = tmp_path / "planted.yml"
    text = (ROOT / ".github/workflows/report.yml").read_text(encoding="utf-8")
    planted.write_text(text.replace("run: make setup", "run: echo '${{ github.event.pull_request.title }}'"))
    assert "template-injection" in zizmor(tmp_path, planted).stdout


def test_a_job_gets_no_more_than_it_needs():
    for workflow in GITHUB.values():
        assert workflow["permissions"] == {"contents": "read"}
        assert "github.ref" in workflow["concurrency"]["group"] and "cancel-in-progress" in workflow["concurrency"]
    assert {name: job["permissions"] for name, job in JOBS.items() if "permissions" in job} == {
        "comment": {"contents": "read", "pull-requests": "write"}
    }
    assert all(job["timeout-minutes"] <= 90 for job in JOBS.values())
    assert all(GITLAB[name]["timeout"] for name in ("test", "report", "comment"))
    for _, step in STEPS:
        assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step.get("uses", "a/b@v1"))
        assert "checkout" not in step.get("uses", "") or step["with"]["persist-credentials"] is False
    # The job that may write runs no code of the pull request.
    assert not re.search(r"make|python|\.venv|\bsh\b", blocks()["github comment"])


def test_no_secret_is_printed():
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / ".github/workflows").glob("*.yml")]
    assert not any(re.search(r"secrets\.|set -x|\bprintenv\b", text) for text in [*texts, *blocks().values()])
    with_token = [(name, step) for name, step in STEPS if "token" in json.dumps(step.get("env", {})).lower()]
    assert [name for name, _ in with_token] == ["comment"]
    for name, text in blocks().items():
        uses = text.count("TOKEN")
        assert uses == text.count('[ -z "$REPO_TOKEN" ]') + text.count("variable REPO_TOKEN"), name
        assert uses == 0 or name.endswith("comment")


def test_what_they_name_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text(encoding="utf-8"))
    texts = [*blocks().values(), container["postCreateCommand"]]
    named = {target for text in texts for target in re.findall(r"\bmake (?:--silent )?([a-z-]+)", text)}
    assert named == {"setup", "lint", "test", "demo", "compare", "repro"} and named <= targets
    for path in (*ROOT.glob(".github/workflows/*"), ROOT / ".gitlab-ci.yml", ROOT / "docs/pull-requests.md"):
        text = path.read_text(encoding="utf-8")
        for name in re.findall(
            r"(?<![\w/.-])(?:tools|docs|tests|\.ci|\.github)/[\w./-]*\w|\brequirements[\w-]*\.txt", text
        ):
            assert (ROOT / name).exists(), f"{path.name} names {name}"
    assert all((ROOT / name).is_file() for name in GITLAB[".python"]["cache"]["key"]["files"])


def test_both_systems_do_the_same_with_every_supported_python():
    makes = {name: re.findall(r"\bmake (?:--silent )?([a-z-]+)", text) for name, text in blocks().items()}
    for name in ("test", "report", "comment"):
        assert makes[f"github {name}"] == makes[f"gitlab {name}"]
    # pyproject.toml: >=3.11,<3.14
    low, high = re.search(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', (ROOT / "pyproject.toml").read_text()).groups()
    pythons = [f"3.{minor}" for minor in range(int(low), int(high))]
    assert JOBS["test"]["strategy"]["matrix"]["python"] == GITLAB["test"]["parallel"]["matrix"][0]["PYTHON"] == pythons
    assert "schedule" in GITHUB["test"]["on"] and "schedule" in json.dumps(GITLAB["workflow"])


def test_the_demo_can_be_started(tmp_path):
    environment_in(tmp_path)
    shutil.copy(ROOT / "Makefile", tmp_path)
    command = "python tools/scratch.py .demo --params demo.yaml"
    assert command in run("make", "--dry-run", "-o", ".venv/.locked", "demo", cwd=tmp_path).stdout.splitlines()
    scratch_copy(tmp_path / "demo", YAML(typ="safe").load(ROOT / "demo.yaml"))
    assert load_params(tmp_path / "demo/params.yaml").data.main == "phantoms"


# ---------------------------------------------------------------- the comment


def test_a_long_comment_keeps_the_test_scores():
    rows = [
        f"| metrics/{name}.json   | score_{k} | 0.1 | 0.2 | 0.1 |" for name in ("maps", "test", "x") for k in range(900)
    ]
    table = ["| Path | Metric | a | b | Change |", "|------|-----|----|----|-----|", *rows]
    text = "\n".join(["intro", "<details><summary>All metrics that differ</summary>", "", *table, "</details>", "end"])
    shown = fitting(text)
    assert len(shown) <= LIMIT and shown.startswith("intro\n") and shown.endswith("</details>\nend\n")
    assert shown.count("| metrics/test.json | score") == 900 and "| metrics/x.json | score_899" not in shown
    left = int(re.search(r"\n(\d+) more in `dvc metrics diff`", shown)[1])
    assert left + shown.count("| metrics/") == len(rows)
    assert fitting("| a    | b |\nshort") == "| a | b |\nshort\n"


# ---------------------------------------------------------------- the blocks, executed


def environment_in(clone: Path) -> None:
    """What `make setup` leaves behind: the programs of this environment in .venv/bin."""
    (clone / ".venv/bin").mkdir(parents=True)
    for program in PROGRAMS.iterdir():
        if not program.name.startswith("python"):
            (clone / ".venv/bin" / program.name).symlink_to(program)
    python = clone / ".venv/bin/python"  # a link would not find its packages
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (clone / ".venv/.locked").touch()


@pytest.fixture
def clone(small_run, tmp_path) -> Path:
    """A clean clone as CI has it: no data. Its last commit is a pull request, while its base has moved on."""
    clone = tmp_path / "clone"
    run("git", "clone", "-q", str(small_run), str(clone), cwd=small_run)
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
    return clone


def execute(clone: Path, scripts: list[str], fails: bool = False, cml: bool = True, **variables: str) -> str:
    """Run blocks of commands one after the other, as both systems do; returns the calls of the replaced programs."""
    shims, calls = clone.parent / "shims", clone.parent / "calls"
    shims.mkdir(exist_ok=True)
    calls.write_text("")
    if not (clone / ".venv").exists():
        environment_in(clone)
    programs = {"make": MAKE, "apt-get": '#!/bin/sh\necho "apt-get $*" >> "$CALLS"\n'} | ({"cml": CML} if cml else {})
    for name, text in programs.items():
        (shims / name).write_text(text)
        (shims / name).chmod(0o755)
    environment = {
        "PATH": f"{shims}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(clone.parent),
        "CALLS": str(calls),
        "REAL_MAKE": shutil.which("make"),
    }
    for k, script in enumerate(scripts):
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
        done = subprocess.run(
            command, cwd=clone, env=environment | variables, capture_output=True, text=True, timeout=200
        )
        expected = fails and k == len(scripts) - 1
        assert (done.returncode != 0) == expected, f"{script}\n{done.stdout}\n{done.stderr}"
        if expected:
            return done.stdout
    return calls.read_text()


def github(name: str) -> list[str]:
    return [step["run"] for step in JOBS[name]["steps"] if "run" in step]


def test_the_test_job_passes_where_the_lock_is_in_step_and_fails_where_it_is_not(clone):
    run("git", "checkout", "-q", "main", cwd=clone)
    calls = execute(clone, github("test"))
    expected = ["apt-get update -qq", "apt-get install -qq -y --no-install-recommends chromium"]
    assert calls.splitlines() == [*expected, "make setup", "make lint", "make test"]
    assert "directory" in (clone.parent / ".gitconfig").read_text()
    run("git", "checkout", "-q", "change", cwd=clone)
    out_of_step = "dvc.lock is out of step; run make repro and commit its results: evaluate: modified:"
    for script, name in ((github("test")[-1], "::error::"), (gitlab_script("test"), "error: ")):
        said = [line for line in execute(clone, [script], fails=True).splitlines() if "out of step" in line]
        assert f"{name}{out_of_step} metrics/test.json" in said and f"{name}{out_of_step} evaluate" in said


def linked(text: str, clone: Path) -> list[tuple[str, str]]:
    """Commits and paths of the pictures in the text, which must all be in git."""
    found = re.findall(r"!\[\w+\]\(https://example\.org/me/it(?:/-)?/raw/([0-9a-f]{40})/([\w./]+)\)", text)
    assert len(found) == text.count("![")
    for commit, path in found:
        run("git", "cat-file", "-e", f"{commit}:{path}", cwd=clone)
    return found


def test_the_comment_has_params_scores_plots_and_the_demo(clone, small_run):
    (clone / ".dvc/cache").symlink_to(small_run / ".dvc/cache")  # in place of a remote
    summary = clone.parent / "summary.md"
    base, head, start = (
        run("git", "rev-parse", name, cwd=clone).stdout.strip() for name in ("main", "change", "main~1")
    )
    variables = {
        "BASE": base,
        "DEMO": str(small_run),
        "GITHUB_SERVER_URL": "https://example.org",
        "GITHUB_REPOSITORY": "me/it",
        "GITHUB_RUN_ID": "7",
        "GITHUB_STEP_SUMMARY": str(summary),
    }
    calls = execute(clone, github("report"), **variables)
    short = [run("git", "rev-parse", "--short", name, cwd=clone).stdout.strip() for name in (start, head)]
    assert calls.splitlines()[:2] == ["make setup", "make demo"]
    assert calls.splitlines()[2:] == [f"make --silent compare A={short[0]} B={short[1]}"]
    text = (clone / "out/comment.md").read_text(encoding="utf-8")
    assert summary.read_text(encoding="utf-8") == text and len(text) < LIMIT
    assert f"### {short[0]} → {short[1]}" in text
    assert "| params.yaml | evaluate.searched_folds | [2] | [1] |" in text
    assert re.search(
        r"\| macro f1 \| (\S+) \| \1 \| \+0\.000 \(\+0\.000 to \+0\.000\) \|", text
    )  # the same predictions
    assert re.search(r"\| metrics/test.json \| patient_test.macro_f1 \| \S+ \| \S+ \| 0.01 \|", text)
    assert "No paired bootstrap" not in text
    assert linked(text, clone) == [
        (start, "plots/robustness.svg"),
        (start, "plots/roc.svg"),
        (head, "plots/roc.svg"),
    ]
    scores = json.loads((small_run / "metrics/test.json").read_text(encoding="utf-8"))["patient_test"]
    assert f"On {scores['n']} simulated test images" in text and f"| accuracy | {scores['accuracy']:.3f} (" in text
    assert "](https://example.org/me/it/actions/runs/7)" in text
    assert (clone / "out/report/index.html").is_file() and (clone / "out/compare.md").stat().st_size


def test_without_the_predictions_the_comment_says_so_and_has_what_git_knows(clone, small_run):
    start = run("git", "rev-parse", "main~1", cwd=clone).stdout.strip()
    variables = {
        "CI_MERGE_REQUEST_DIFF_BASE_SHA": start,
        "DEMO": str(small_run),
        "CI_PROJECT_URL": "https://example.org/me/it",
        "CI_JOB_URL": "https://example.org/me/it/-/jobs/7",
    }
    execute(clone, [gitlab_script("report")], **variables)
    text = (clone / "out/comment.md").read_text(encoding="utf-8")
    assert (clone / "out/compare.md").read_text() == ""
    assert "No paired bootstrap: the predictions of both commits are not in a DVC remote" in text
    assert "| params.yaml | evaluate.searched_folds | [2] | [1] |" in text
    assert re.search(r"\| metrics/test.json \| patient_test.macro_f1 \| \S+ \| \S+ \| 0.01 \|", text)
    assert [path for _, path in linked(text, clone)] == ["plots/robustness.svg", "plots/roc.svg", "plots/roc.svg"]
    assert "](https://example.org/me/it/-/jobs/7/artifacts/browse/out)" in text
    # Pip's cache lies in the checkout there: copies of the project leave it out.
    assert "/.cache/" in (clone / ".git/info/exclude").read_text()


def test_one_line_says_why_there_is_no_comment(tmp_path):
    clone, summary = tmp_path / "clone", tmp_path / "summary.md"
    clone.mkdir()
    call = "cml comment update --target=pr --publish=false --watermark-title=report out/comment.md"
    cases = [
        ({"REPO_TOKEN": "secret"}, True, f"{call} 6\n", ""),
        ({"REPO_TOKEN": ""}, True, "", "from a fork has no token"),
        ({"REPO_TOKEN": "secret"}, False, "", "CML could not be installed"),
        ({"REPO_TOKEN": "secret", "CML_FAILS": "1"}, True, f"{call} 6\n", "CML failed, see the log"),
    ]
    if shutil.which("cml"):
        cases.pop(2)
    for variables, installed, calls, said in cases:
        shutil.rmtree(tmp_path / "shims", ignore_errors=True)
        summary.write_text("")
        shown = execute(clone, github("comment"), cml=installed, GITHUB_STEP_SUMMARY=str(summary), **variables)
        assert shown == calls
        text = summary.read_text()
        assert said in text and len(text.splitlines()) == bool(said) and "secret" not in text
    condition = next(step["env"]["REPO_TOKEN"] for _, step in STEPS if "REPO_TOKEN" in step.get("env", {}))
    assert condition.startswith(
        "${{ github.event.pull_request.head.repo.full_name == github.repository && github.token"
    )
    assert execute(clone, [gitlab_script("comment")], REPO_TOKEN="secret") == f"{call} 6\n"
    assert execute(clone, [gitlab_script("comment")]) == ""


# ---------------------------------------------------------------- git hooks


def test_hooks_refuse_what_ci_would_refuse_and_move_the_data(small_clone, tmp_path):
    environment_in(small_clone)
    run(".venv/bin/pre-commit", "install", cwd=small_clone, HOME=str(tmp_path))
    assert {path.name for path in (small_clone / ".git/hooks").iterdir()} >= {"pre-commit", "pre-push", "post-checkout"}

    def git(*arguments: str, fails: bool = False) -> str:
        # Neither the environment nor a cache of pre-commit's helps.
        variables = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(tmp_path)}
        done = run("git", *arguments, cwd=small_clone, fails=fails, **variables)
        return done.stdout + done.stderr

    (small_clone / "stages/more.py").write_text("import os\nx = {  'a':1 }\n")
    (small_clone / "wrong.yaml").write_text("a: [1\n")
    (small_clone / "large.bin").write_bytes(bytes(1_100_000))
    git("add", "-A")
    said = git("commit", "-m", "wrong", fails=True)
    states = dict(re.findall(r"^(.+?)\.{3,}.*?(Passed|Failed|Skipped)$", said, re.MULTILINE))
    assert [name for name, state in states.items() if state == "Failed"] == [
        "ruff check",
        "ruff format",
        "YAML",
        "no large files, which belong into DVC",
    ]
    assert "F401" in said and "large.bin (1075 KB) exceeds 1000 KB" in said and states["dvc status"] == "Passed"
    git("rm", "-q", "-f", "--cached", "wrong.yaml", "large.bin")
    (small_clone / "stages/more.py").write_text("x = 1\n")
    git("add", "stages/more.py")
    said = git("commit", "-m", "right")
    assert "report:" in said and "changed deps:" in said  # the stage that depends on all code

    # push: nothing more than git does without a remote, the data with one
    run("git", "init", "-q", "--bare", str(tmp_path / "server.git"), cwd=tmp_path)
    git("push", "-q", str(tmp_path / "server.git"), "HEAD:refs/heads/a")
    run("dvc", "remote", "add", "-q", "-d", "storage", str(tmp_path / "storage"), cwd=small_clone)
    assert not (tmp_path / "storage").exists()
    git("push", "-q", str(tmp_path / "server.git"), "HEAD:refs/heads/b")
    assert len(list((tmp_path / "storage/files/md5").rglob("*"))) > 50

    # checkout: the data follow
    git("stash", "-q")
    shutil.rmtree(small_clone / "data/split")
    git("checkout", "-q", "-b", "other")
    assert (small_clone / "data/split/folds.csv").is_file()
    shutil.rmtree(small_clone / ".dvc/cache")  # as in a fresh clone: nothing to check out, and no error
    shutil.rmtree(small_clone / "data/split")
    git("checkout", "-q", "-b", "another")
