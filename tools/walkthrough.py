"""Run the commands of a documentation page in a scratch project, and check or paste what they print.

    python tools/walkthrough.py docs/experiments.md            # ends with 1 if a command fails or prints something else
    python tools/walkthrough.py docs/experiments.md --write    # pastes what the commands print into the page

A fenced block `console` holds commands after "$ " and what they print, `console quiet` only commands. The content of
a block `yaml params.yaml` is written into that file, in its place between the commands. All the blocks of a page run in
one shell, in a git checkout of the project with the small params of the tests, where nothing has run. With `--cache`,
`dvc repro` restores what an earlier page has run.
A command that is meant to fail ends with "|| true". What differs from run to run is not compared: hashes, decimals,
times, sizes and the path of the scratch folder.
"""

import argparse
import difflib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ruamel.yaml import YAML
from scratch import ROOT, change_params, environment, scratch_copy

_BLOCK = re.compile(r"^```(console|console quiet|yaml params\.yaml)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_MARK = "walkthrough-command"
_CHANGING = (
    (r"\b[0-9a-f]{7,64}\b", "<hash>"),
    (r"\d+\.\d+(e-?\d+)?", "<number>"),
    (r"\d+(\.\d+)? ?(s|ms|[kM]B?|files?/s|it/s)\b", "<size>"),
    (r"\b\d\d?:\d\d(:\d\d)?( [AP]M)?\b", "<time>"),
    (r"[ \u2500-]{2,}", " "),
)


def commands(block: str) -> list[str]:
    """The commands of a block; a backslash at the end of a line continues it."""
    found, open_ = [], False
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append(line[2:])
        elif open_:
            found[-1] += f"\n{line}"
        else:
            continue
        open_ = line.endswith("\\")
    return found


def run(page: str, project: Path) -> list[list[tuple[str, str, int]]]:
    """For each block its commands, with what each printed and its exit code."""
    writing = f"{shlex.quote(sys.executable)} {shlex.quote(str(Path(__file__).resolve()))} --params <<'END'\n"
    blocks = [
        [f"{writing}{found[2]}END"] if found[1].startswith("yaml") else commands(found[2])
        for found in _BLOCK.finditer(page)
    ]
    script = ["exec 2>&1"]
    for command in (command for block in blocks for command in block):
        script += [f"echo {_MARK}", command, f'code=$?; echo; echo "{_MARK} $code"']
    variables = environment() | {"COLUMNS": "120", "NO_COLOR": "1", "HOME": str(project.parent), "PAGER": "cat"}
    for name in [name for name in variables if name.startswith(("GIT_", "DVC_"))]:
        del variables[name]
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)], cwd=project, env=variables, stdout=subprocess.PIPE, text=True, timeout=1800
    )
    parts = iter(re.findall(rf"^{_MARK}\n(.*?)\n?^{_MARK} (\d+)$", done.stdout, re.DOTALL | re.MULTILINE))
    told = [[(command, *next(parts, ("the shell has ended", "1"))) for command in block] for block in blocks]
    return [[(command, _tidy(text, project), int(code)) for command, text, code in block] for block in told]


def _tidy(text: str, project: Path) -> str:
    lines = [line.rstrip() for line in text.replace(str(project.parent), "").replace("\r", "\n").splitlines()]
    return "".join(f"{line}\n" for line in lines).strip("\n")


def pasted(page: str, told: list[list[tuple[str, str, int]]]) -> str:
    """The page with what the commands printed."""
    blocks = iter(told)

    def block(found: re.Match) -> str:
        ran = next(blocks)
        if found[1] != "console":
            return found[0]
        parts = [f"$ {command}\n" + (f"{text}\n" if text else "") for command, text, _ in ran]
        return f"```console\n{''.join(parts)}```"

    return _BLOCK.sub(block, page)


def masked(page: str) -> list[str]:
    """Lines of a page without what differs from run to run."""
    for pattern, name in _CHANGING:
        page = re.sub(pattern, name, page)
    return page.splitlines()


def project_in(folder: Path) -> Path:
    """A committed git checkout of the project with the small params."""
    target = folder / "project"
    scratch_copy(target, YAML(typ="safe").load(ROOT / "tests" / "small.yaml"))
    (folder / ".gitconfig").write_text(
        "[user]\n\tname = you\n\temail = you@example.org\n[init]\n\tdefaultBranch = main\n"
    )
    variables = os.environ | {"HOME": str(folder)}
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "start"]):
        subprocess.run(["git", *command], cwd=target, env=variables, check=True)
    return target


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", type=Path)
    parser.add_argument("--write", action="store_true", help="paste what the commands print")
    parser.add_argument("--params", action="store_true", help="change params.yaml in this folder by standard input")
    parser.add_argument("--cache", type=Path, help="DVC cache from which `dvc repro` restores; it is moved and changed")
    arguments = parser.parse_args()
    if arguments.params:
        change_params(Path("params.yaml"), YAML(typ="safe", pure=True).load(sys.stdin))
    failed = 0
    for path in arguments.pages:
        page = path.read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as folder:
            project = project_in(Path(folder))
            own = project / ".dvc/cache"
            if arguments.cache and arguments.cache.exists():
                shutil.move(arguments.cache, own)
            told = run(page, project)
            if arguments.cache and own.exists():
                shutil.move(own, arguments.cache)
        now = pasted(page, told)
        for command, text, code in (ran for block in told for ran in block):
            if code:
                failed += 1
                print(f"error: {path}: exit code {code}: {command}\n{text[-2000:]}", file=sys.stderr)
        if arguments.write:
            path.write_text(now, encoding="utf-8", newline="\n")
        elif changed := list(difflib.unified_diff(masked(page), masked(now), "page", "now", lineterm="", n=1)):
            failed += 1
            print(
                f"error: {path}: the commands print something else; --write pastes it",
                *changed,
                sep="\n",
                file=sys.stderr,
            )
        print(f"{path}: {sum(map(len, told))} commands")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
