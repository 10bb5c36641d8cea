"""The command as people use it: what it says about mistakes, where it writes, in colours or not, and how it ends."""

import argparse
import fcntl
import json
import os
import pty
import re
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from rewritten import rewritten
from scan_files import H16, tiff, tiff_page

import brain_tumor
from brain_tumor.serving.command.arguments import parser
from brain_tumor.serving.command.cli import main

GOLDEN = Path(__file__).parent / "golden"
MODEL = GOLDEN / "classifier-2.tflite"
SCAN = (GOLDEN / "scan.png").read_bytes()
RESEARCH = "Research use only: not a medical device, not for diagnosis."
BASE = {"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin"}
COMMAND = [sys.executable, "-m", "brain_tumor"]
PREDICT = [*COMMAND, "predict", "--model", str(MODEL)]


def run(command: list, *, cwd: Path, code: int = 0, given: bytes = b"", **variables: str) -> tuple[str, str]:
    """What a command prints to its output and errors."""
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, input=given, env=BASE | variables, capture_output=True, timeout=60
    )
    assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done.stdout.decode(), done.stderr.decode()


def predict(folder: Path, *arguments: object, **options) -> tuple[str, str]:
    return run([*PREDICT, *arguments], cwd=folder, **options)


def refusal(folder: Path, *arguments: object, command: list = PREDICT) -> str:
    """The one line that is printed where nothing is done."""
    output, errors = run([*command, *arguments], cwd=folder, code=2)
    (line,) = errors.splitlines()
    assert output == "" and line.startswith("error: ")
    return line


@pytest.fixture
def scans(tmp_path) -> Path:
    """A folder of scans, one of which is broken, in folders."""
    folder = tmp_path / "here"
    for name in ("1.png", "s/2.png", "s/t/naïve.png", "s/t/4.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(SCAN)
    (folder / "s/broken.png").write_bytes(b"none")
    return folder


# --- arguments


def test_without_arguments_it_says_what_there_is(tmp_path):
    output, errors = run(COMMAND, cwd=tmp_path)
    assert errors == "" and RESEARCH in " ".join(output.split())
    assert all(f"\n    {name} " in output for name in ("predict", "serve"))
    assert run([*COMMAND, "--help"], cwd=tmp_path) == (output, "")
    assert run([*COMMAND, "--version"], cwd=tmp_path) == (f"brain-tumor {brain_tumor.__version__}\n", "")


def parsers() -> dict[str, argparse.ArgumentParser]:
    top = parser(print, print)
    (commands,) = (action for action in top._actions if isinstance(action, argparse._SubParsersAction))
    return {"": top, **commands.choices}


@pytest.mark.parametrize("name", ["", "predict", "serve"])
def test_the_help_is_in_sentences(name):
    found = parsers()[name]
    said = {action.dest: found._get_formatter()._expand_help(action) for action in found._actions if action.help}
    if found._subparsers:
        (commands,) = found._subparsers._group_actions
        said |= {action.dest: action.help for action in commands._choices_actions}
    said |= {"description": found.description, "epilog": found.epilog or "Exit code 0: there is none."}
    for action in found._actions:
        assert action.dest in said or isinstance(action, argparse._SubParsersAction), action.dest
    for what, text in said.items():
        assert re.fullmatch(r"(brain-tumor COMMAND|[A-Z]).*[^.]\.", text), (what, text)
        assert "%(" not in text and "  " not in text
    printed = found.format_help()
    assert all(len(line) <= 100 for line in printed.splitlines())
    assert all(option in printed for action in found._actions for option in action.option_strings)


def test_the_defaults_of_the_server_are_those_of_the_library():
    from brain_tumor.serving.server import Limits

    options, said = parser(print, print).parse_args(["serve"]), parsers()["serve"].format_help()
    assert Limits() == Limits(
        bytes=round(options.max_mb * 1e6),
        files=options.max_files,
        pixels=options.max_pixels,
        seconds=options.max_seconds,
        requests=options.max_requests,
        connections=options.max_connections,
    )
    assert (options.token_file, options.allow_host) == (None, [])
    assert (options.host, options.port, options.report, options.model) == ("127.0.0.1", 8000, None, None)
    for default in ("127.0.0.1", "8000", "32", "25 million", "10", "800"):
        assert f"(default: {default})" in " ".join(said.split())


def wrong(arguments: list[str], capsys) -> str:
    """What is said in one line about arguments that are wrong; nothing is done or loaded before."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    told = capsys.readouterr()
    assert (ended.value.code, told.out) == (2, "")
    (line,) = told.err.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize(
    ("typed", "mistaken", "meant"),
    [
        ("predcit x.png", "'predcit'", "predict"),
        ("sevre", "'sevre'", "serve"),
        ("predict --josn x.png", "--josn", "--json"),
        ("predict x.png --cvs", "--cvs", "--csv"),
        ("predict --explian=maps x.png", "--explian", "--explain"),
        ("predict x.png --quite", "--quite", "--quiet"),
        ("predict x.png --slices all", "--slices", "--slice"),
        ("serve --prot 80", "--prot", "--port"),
        ("serve --max_mb 5", "--max_mb", "--max-mb"),
    ],
)
def test_a_typo_is_said_with_what_was_probably_meant(typed, mistaken, meant, capsys):
    line = wrong(typed.split(), capsys)
    assert mistaken in line and line.endswith(f": did you mean {meant}?")


@pytest.mark.parametrize("typed", ["--json predict x.png", "-q predict x.png"])
def test_an_option_before_its_command_is_not_called_a_typo_of_itself(typed, capsys):
    option, line = typed.split()[0], wrong(typed.split(), capsys)
    assert option in line and f"did you mean {option}?" not in line


@pytest.mark.parametrize("name", ["scan.png", "a scan.png", "patient's scan.png", 'the "scan".png', "naïve.png"])
def test_a_file_in_place_of_a_command_is_to_be_predicted(name, tmp_path, monkeypatch, capsys):
    (tmp_path / name).write_bytes(SCAN)
    monkeypatch.chdir(tmp_path)
    line = wrong([name], capsys)
    assert line.endswith("?")
    meant = line.removesuffix("?").partition(": did you mean ")[2]
    assert shlex.split(meant) == ["brain-tumor", "predict", name]  # as it is to be typed


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("xyz", "expected predict or serve, got 'xyz'"),
        ("predict", "SCAN"),
        ("predict --json --csv x", "not allowed with"),
        ("predict --slice some x", "expected middle, all or a number from 0, got 'some'"),
        ("predict --slice -1 x", "--slice"),
        ("predict x -o", "expected one argument"),
        ("predict x --zzz", "--zzz"),
        ("serve here", "here"),
        ("serve --port x", "to 65535, got 'x'"),
        ("serve --port 99999", "to 65535, got '99999'"),
        ("serve --port -1", "--port"),
        ("serve --max-mb 0", "expected a number above 0, got '0'"),
        ("serve --max-mb 1e999", "expected a number above 0, got '1e999'"),
        ("serve --max-files -1", "--max-files"),
        ("serve --max-files=-1", "expected a whole number above 0, got '-1'"),
        ("serve --max-pixels 1.5", "expected a whole number above 0, got '1.5'"),
        ("serve --max-requests ten", "expected a whole number above 0, got 'ten'"),
        ("serve --max-seconds nan", "expected a number above 0, got 'nan'"),
    ],
)
def test_wrong_arguments_are_said_in_one_line(typed, expected, capsys):
    line = wrong(typed.split(), capsys)
    assert expected in line and line.endswith(
        f"brain-tumor{' serve' * ('serve ' in typed)}{' predict' * ('predict' in typed)} --help lists what there is"
    )


def test_wrong_arguments_end_a_process_with_2(tmp_path):
    for arguments in (["predcit", "x.png"], ["predict", "--josn", "x.png"], ["serve", "--port", "99999"]):
        refusal(tmp_path, *arguments, command=COMMAND)


# --- files


def until(holds) -> None:
    """Wait for a state that a process is about to reach."""
    for _ in range(1500):
        if holds():
            return
        time.sleep(0.02)
    raise AssertionError("it never came to this")


def names(output: str) -> list[str]:
    return [json.loads(line)["name"] for line in output.splitlines()]


def test_patterns_stand_for_files_and_names_for_themselves(tmp_path):
    for name in ("[1].png", "1.png", "n[o].png", "no.png", "w*.png", "wide.png", "a/b/c.png", "a/x.jpg", "a/.h.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(SCAN)
    found = {
        "[1].png": ["[1].png"],
        "n[o].png": ["n[o].png"],
        "w*.png": ["w*.png"],
        "wi*.png": ["wide.png"],
        "n?.png": ["no.png"],
        "**/*.png": ["1.png", "[1].png", "a/b/c.png", "n[o].png", "no.png", "w*.png", "wide.png"],
        "a/**/*.*": ["a/b/c.png", "a/x.jpg"],
        "a": ["a/b/c.png", "a/x.jpg"],
        "*/b": ["a/b/c.png"],
        "1.png": ["1.png"],
    }
    assert names(predict(tmp_path, "-q", "--json", *found)[0]) == [name for each in found.values() for name in each]
    (told,) = predict(tmp_path, "-q", "*.tif", code=2)[0].splitlines()
    assert re.split(" {2,}", told) == ["*.tif", "error", "No such file or directory"]


def test_a_pattern_names_each_file_once(scans):
    """`**` stands for the folders too, of which each would be searched again."""
    expected = ["s/2.png", "s/broken.png", "s/t/4.jpg", "s/t/naïve.png"]
    assert names(predict(scans, "-q", "--json", "s/**", code=1)[0]) == expected


def test_a_name_that_no_file_can_have_is_not_found(tmp_path):
    (told,) = predict(tmp_path, "-q", "x" * 300, code=2)[0].splitlines()
    assert re.split(" {2,}", told) == ["x" * 300, "error", "File name too long"]
    refusal(tmp_path, "x" * 300, command=COMMAND)


def test_standard_input_is_a_file(scans):
    told, other = predict(scans, "--json", "-", "1.png", given=SCAN)[0].splitlines()
    assert json.loads(told) == json.loads(other) | {"name": "standard input"}
    output, errors = predict(scans, "-", given=SCAN)
    assert re.split(" {2,}", output)[:2] == ["standard input", "unsure"] and "slice" not in errors
    output, _ = predict(scans, "-", given=b"none", code=2)
    assert re.split(" {2,}", output)[:2] == ["standard input", "error"]
    closed = ["bash", "-c", 'exec "$@" <&-', "bash", *PREDICT]
    assert "standard input" in refusal(scans, "-", command=closed)
    volume = tiff(*[tiff_page(H16.astype(np.uint16))] * 3)
    assert len(predict(scans, "-", "--slice", "all", given=volume)[0].splitlines()) == 3


# --- what is printed, and where


def test_the_line_about_research_is_printed_once_and_quiet_is_quiet(scans):
    broken = "s/broken.png: not an image, truncated, or in a format that OpenCV does not read"
    for arguments, alone in (
        (["1.png"], []),
        (["1.png", "1.png", "--csv"], []),
        (["."], []),  # the error is a line among the others
        ([".", "--json"], [broken]),
    ):
        code = int("." in arguments)
        output, errors = predict(scans, *arguments, code=code)
        assert errors.splitlines().count(RESEARCH) == 1 and "Research" not in output
        assert output.count("s/broken.png") == code
        quiet, errors = predict(scans, *arguments, "-q", code=code)
        assert quiet == output and errors.splitlines() == alone


def test_slices_stand_in_columns_too(tmp_path):
    pages = [tiff_page((H16 // k).astype(np.uint16)) for k in range(1, 13)]
    (tmp_path / "pages.tif").write_bytes(tiff(*pages))
    (tmp_path / "1.png").write_bytes(SCAN)
    output, errors = predict(tmp_path, "1.png", "pages.tif", "/none.png", "--slice", "all", code=1)
    lines = output.splitlines()
    assert len(lines) == 1 + 12 + 1 and all(f"[{k}]" in lines[1 + k] for k in range(12))
    assert errors.startswith("13 slices: ") and "; 1 file could not be read.\n" in errors
    assert len({re.search(r" (unsure|no answer|glioma|error) ", line).start() for line in lines}) == 1


def test_one_slice_is_no_slices(scans):
    assert predict(scans, "1.png", "/none.png", code=1)[1].startswith("1 slice: ")


def test_the_output_goes_to_a_file(scans, tmp_path):
    written = tmp_path / "new" / "answers"
    for form, option in (([], "-o"), (["--csv"], "--output"), (["--json"], "-o")):
        output, errors = predict(scans, "1.png", "s", *form, code=1)
        assert len(output.splitlines()) == 5 + (form == ["--csv"]) and "naïve" in output
        assert predict(scans, "1.png", "s", *form, option, written, code=1) == ("", errors)
        assert written.read_bytes() == output.encode()
        written.write_text("former")
    assert list(written.parent.iterdir()) == [written]


def test_a_pipe_or_device_as_output_is_written_to_and_stays(scans, tmp_path):
    """With enough rights, a file in place of /dev/null would be the end of many a program."""
    os.mkfifo(tmp_path / "pipe")
    output, _ = predict(scans, "1.png")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert predict(scans, "1.png", "-q", "-o", tmp_path / "pipe") == ("", "")
        assert (tmp_path / "pipe").is_fifo()
        assert os.read(reader, 2**16).decode() == output
    finally:
        os.close(reader)


def test_places_that_cannot_be_written_to_are_named_in_one_line(scans, tmp_path):
    """Files in the place of folders, and the other way round: nobody can write there, root neither."""
    (tmp_path / "file").write_text("here")
    for target in (tmp_path / "file", tmp_path / "file/maps"):
        assert f"cannot write to {target} (--explain)" in refusal(scans, "1.png", "--explain", target)
    assert f"cannot write to {tmp_path / 'file/answers'} (--output)" in refusal(
        scans, "1.png", "-o", tmp_path / "file/answers"
    )
    assert f"cannot write to {tmp_path} (--output)" in refusal(scans, "1.png", "-o", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "here"]
    assert (tmp_path / "file").read_text() == "here"


def test_an_output_that_is_full_is_an_error_in_one_line(scans):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*PREDICT, "-q", "1.png"], cwd=scans, env=BASE, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("error: ") and "No space left" in line


def test_a_run_that_ends_early_leaves_the_former_output(scans, tmp_path):
    (tmp_path / "answers.csv").write_text("former")
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps/s").write_text("in the way of the second map")
    arguments = ["1.png", "s/2.png", "--csv", "-o", tmp_path / "answers.csv", "--explain", tmp_path / "maps"]
    line = refusal(scans, *arguments)
    assert "(--explain)" in line and str(tmp_path / "maps/s") in line
    assert (tmp_path / "maps/1.png.png").exists()
    assert (tmp_path / "answers.csv").read_text() == "former"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.csv", "here", "maps"]


def let_go(fifo: Path) -> bool:
    """Let whoever waits for the content of a named pipe find it empty; whether there was one."""
    with suppress(OSError):  # none
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
        return True
    return False


def interruptible() -> None:
    """Let SIGINT end the process, which programs in the background of a shell ignore."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("ended", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_killed_leaves_the_former_output_and_nothing_else(scans, tmp_path, ended):
    (tmp_path / "answers.txt").write_text("former")
    os.mkfifo(scans / "waits.png")
    command = [*PREDICT, "1.png", "waits.png", "-o", str(tmp_path / "answers.txt")]
    process = subprocess.Popen(command, cwd=scans, env=BASE, stderr=subprocess.PIPE, preexec_fn=interruptible)
    try:
        until(lambda: len(list(tmp_path.iterdir())) == 3)  # with the file that would become the output
        process.send_signal(ended)
        until(lambda: process.poll() is not None or let_go(scans / "waits.png"))
        errors = process.communicate(timeout=30)[1]
    finally:
        process.kill()
    assert process.returncode in (128 + ended, -ended) and errors == b""
    assert (tmp_path / "answers.txt").read_text() == "former"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.txt", "here"]


def test_an_interruption_ends_the_wait_for_standard_input(tmp_path):
    pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([*PREDICT, "-"], cwd=tmp_path, env=BASE, preexec_fn=interruptible, **pipes)
    try:
        process.stdin.write(b"x")
        process.stdin.flush()
        until(lambda: fcntl.ioctl(process.stdin, termios.FIONREAD, bytes(4)) == bytes(4))  # it was read
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 130
        assert process.stderr.read() == b""
    finally:
        process.kill()
        process.communicate()


# --- terminals


def on_a_terminal(folder: Path, *arguments: object, of: str = "stdout", code: int = 0, **variables: str) -> str:
    """What a terminal gets `of` the output, the errors, or both."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL) | dict.fromkeys(of.split(), theirs)
    command, environment = [*PREDICT, *map(str, arguments)], BASE | {"TERM": "xterm"} | variables
    with subprocess.Popen(command, cwd=folder, env=environment, **streams) as process:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # the end of a terminal
            while part := os.read(ours, 65536):
                shown += part
        os.close(ours)
    assert process.returncode == code
    return shown.decode().replace("\r\n", "\n")


def test_only_a_terminal_gets_colours(scans, tmp_path):
    calm = tmp_path / "calm.tflite"
    rewritten(MODEL, calm, confidence=[0.5] * 3)  # answers
    for model, verdict, colour in ((MODEL, "unsure", 33), (calm, "glioma", 1)):
        plain, _ = predict(scans, "1.png", "s/broken.png", "--model", model, code=1)
        assert "\x1b" not in plain
        shown = on_a_terminal(scans, "1.png", "s/broken.png", "--model", model, code=1)
        assert re.sub(r"\x1b\[[0-9;]*m", "", shown) == plain
        first, second = shown.splitlines()
        assert re.search(r"\x1b\[(\d+)m(\S+) *\x1b\[0m", first).groups() == (str(colour), verdict)
        assert re.search(r"\x1b\[(\d+)m(\S+) *\x1b\[0m", second).groups() == ("31", "error")
        assert first.count("\x1b") == second.count("\x1b") == 2
    assert "\x1b[" in on_a_terminal(scans, "1.png", NO_COLOR="")  # empty is not set, says no-color.org
    plain, _ = predict(scans, "1.png")
    for variables in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert on_a_terminal(scans, "1.png", **variables) == plain
    for form in ("--csv", "--json"):
        assert "\x1b" not in on_a_terminal(scans, "1.png", form)
    assert on_a_terminal(scans, "1.png", "-o", tmp_path / "answers") == ""
    assert (tmp_path / "answers").read_text() == plain


def test_a_bar_tells_the_progress_to_a_terminal_alone(scans):
    told = on_a_terminal(scans, "1.png", "s", of="stderr", code=1)
    assert "predict: 100%" in told and "5/5" in told and RESEARCH in told
    assert "1/1" not in on_a_terminal(scans, "1.png", of="stderr")
    assert on_a_terminal(scans, "1.png", "s", "-q", of="stderr", code=1) == ""
    both = on_a_terminal(scans, "1.png", "s", of="stdout stderr", code=1)  # there the lines tell it
    assert "5/5" not in both and "\r" not in both and len(both.splitlines()) == 5 + 4 and RESEARCH in both


# --- completion


def completed(line: str, folder: Path) -> list[str]:
    """What bash would offer after a line: argcomplete's protocol, by which the answers come in file 8."""
    variables = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "COMP_LINE": line, "COMP_POINT": str(len(line))}
    command = f"{shlex.join(COMMAND)} 8>&1 9>/dev/null >/dev/null"
    environment = BASE | variables | {"COMP_TYPE": "9", "PYTHONPATH": f"{folder}:{ROOT / 'src'}"}
    done = subprocess.run(["bash", "-c", command], cwd=folder, env=environment, capture_output=True, timeout=60)
    assert done.stderr == b""
    return done.stdout.decode().split("\n")


def test_the_shell_completes_commands_options_and_files(tmp_path):
    for slow in ("cv2", "numpy", "ai_edge_litert", "fastapi", "uvicorn", "tqdm"):
        (tmp_path / f"{slow}.py").write_text("import os; os.write(2, b'imported'); os._exit(1)")
    (tmp_path / "brain.png").write_bytes(SCAN)
    assert {"predict", "serve", "--help", "--version"} <= set(completed("brain-tumor ", tmp_path))
    assert completed("brain-tumor pre", tmp_path) in (["predict"], ["predict "])
    options = {option for action in parsers()["predict"]._actions for option in action.option_strings}
    offered = set(completed("brain-tumor predict --", tmp_path))
    assert offered == {option for option in options if option.startswith("--")} and "--json" in offered
    assert "brain.png" in [each.strip() for each in completed("brain-tumor predict b", tmp_path)]
    assert {"--port", "--report"} <= set(completed("brain-tumor serve --", tmp_path))
