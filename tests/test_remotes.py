"""Remotes as docs/remotes.md sets them up, on a real SSH server and a real server with the S3 interface.

`make docs-test` runs this, and the page's own commands, which use a local folder.
"""

import getpass
import hashlib
import json
import os
import re
import secrets
import shlex
import shutil
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import botocore.session
import pytest
from conftest import ROOT, require
from ruamel.yaml import YAML
from scratch import environment
from walkthrough import commands

PAGE = (ROOT / "docs/remotes.md").read_text(encoding="utf-8")
MODEL = "models/fold-0/model.keras"
_OF_THE_USER = ("GIT_", "DVC_", "AWS_", "SSH_", "RCLONE_", "XDG_CONFIG")


def block(section: str, language: str, number: int = 0, **replaced: tuple[str, str]) -> str:
    """A fenced block of a section of the page, with what stands there for the user's own names replaced."""
    text = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)[1]
    found = re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)[number]
    for old, new in replaced.values():
        found = found.replace(old, new)
    return found


@dataclass
class Machine:
    """A user's home and DVC's own folder, both empty at first, and all that was printed there."""

    folder: Path
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.folder / "home").mkdir(parents=True, exist_ok=True)

    def sh(self, script: str, cwd: Path, fails: bool = False, **variables: str) -> str:
        """Run a shell script up to the first command that fails; an unexpected end fails the test and shows it."""
        own = {name: value for name, value in environment().items() if not name.startswith(_OF_THE_USER)}
        own |= {"HOME": str(self.folder / "home"), "DVC_SITE_CACHE_DIR": str(self.folder / "site")}
        own |= {"no_proxy": "127.0.0.1"}
        done = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", f"exec 2>&1\n{script}"],
            cwd=cwd,
            env=own | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            timeout=240,
        )
        self.told.append(done.stdout)
        assert (done.returncode != 0) == fails, f"{script} -> {done.returncode}\n{done.stdout}"
        return done.stdout


# ---------------------------------------------------------------- servers


@contextmanager
def running(command: list[str], log: Path, ready: Callable[[], bool], **variables: str) -> Iterator[None]:
    """Run a server from when it answers until the test has ended."""
    with log.open("w", encoding="utf-8") as out:
        server = subprocess.Popen(command, env=environment() | variables, stdout=out, stderr=subprocess.STDOUT)
    try:
        end = time.monotonic() + 20
        while not ready():
            assert server.poll() is None and time.monotonic() < end, log.read_text(encoding="utf-8")
            time.sleep(0.05)
        yield
    finally:
        server.terminate()
        server.wait(timeout=20)


@dataclass
class SshServer:
    folder: Path  # host key, log and the files that are pushed
    port: int
    home: Path  # with a .ssh folder of the user

    def setup(self) -> tuple[str, str]:
        """The page's commands: once for the project, and for every clone."""
        address = f"{getpass.getuser()}@127.0.0.1:{self.port}{self.folder}/pushed"
        url = ("you@server.example.org:22/srv/brain-tumor", address)
        return block("SSH", "sh", 0, url=url), block("SSH", "sh", 1)


@pytest.fixture(scope="module")
def ssh_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    """An OpenSSH server with a configuration, a host key and a user key of its own, on a free port."""
    program = shutil.which("sshd", path=f"{environment()['PATH']}{os.pathsep}/usr/sbin")
    if program is None:
        require("sshd")
    folder, home = tmp_path_factory.mktemp("server"), tmp_path_factory.mktemp("user")
    (home / ".ssh").mkdir(mode=0o700)
    for key in (folder / "host", home / ".ssh/id_ed25519"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", key], check=True)
    options = block("SSH", "text").split(" ssh-ed25519 ")[0]
    (folder / "authorized_keys").write_text(f"{options} {(home / '.ssh/id_ed25519.pub').read_text()}")
    # Where sshd is started by root it wants this empty folder, which its service makes otherwise.
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nPasswordAuthentication no\n"
        "KbdInteractiveAuthentication no\nSubsystem sftp internal-sftp\nLogLevel DEBUG1\n"
    )

    def answers() -> bool:
        with socket.socket() as link:
            return link.connect_ex(("127.0.0.1", port)) == 0

    with running([program, "-D", "-e", "-f", str(folder / "sshd_config")], folder / "log", answers):
        yield SshServer(folder, port, home)


@dataclass
class Remote:
    """A project whose small run was pushed as the page says, and clones of it."""

    folder: Path
    machine: Machine
    credentials: str = ""  # what the page says for every clone
    variables: dict[str, str] = field(default_factory=dict)  # or these instead
    secret: str = ""
    known_places: set[str] = field(default_factory=set)
    # Its objects, reached past DVC.
    read: Callable[[str], bytes] | None = None
    write: Callable[[str, bytes], None] | None = None
    remove: Callable[[str], None] | None = None

    @property
    def project(self) -> Path:
        return self.folder / "project"

    def clone(self) -> tuple[Path, Machine]:
        """What somebody has who has git and the remote: another home, nothing of the project's cache."""
        number = len(list(self.folder.glob("clone-*")))
        target = self.folder / f"clone-{number}"
        machine = Machine(self.folder / f"machine-{number}", told=self.machine.told)
        for name in (".ssh", ".aws"):
            if (self.machine.folder / "home" / name).exists():
                shutil.copytree(self.machine.folder / "home" / name, machine.folder / "home" / name)
        machine.sh(f"git clone -q {self.project} {target}", self.folder)
        if self.credentials:
            machine.sh(self.credentials, target)
        return target, machine


def with_project(whole_run: Path, folder: Path) -> Remote:
    shutil.copytree(whole_run, folder / "project")
    (folder / "project/.dvc/config").write_text("")  # not the remote of the checkout that is tested
    return Remote(folder, Machine(folder))


@contextmanager
def ssh_remote(remote: Remote, request: pytest.FixtureRequest) -> Iterator[None]:
    server = request.getfixturevalue("ssh_server")
    shutil.copytree(server.home / ".ssh", remote.machine.folder / "home/.ssh")
    shared, own = server.setup()
    remote.machine.sh(shared + own, remote.project)
    remote.credentials = own.removesuffix("dvc push\n")
    remote.secret = (remote.machine.folder / "home/.ssh/id_ed25519").read_text().splitlines()[2]
    remote.known_places = {"home/.ssh/id_ed25519"}
    pushed = server.folder / "pushed"

    def write(name: str, content: bytes) -> None:
        (pushed / name).unlink(missing_ok=True)  # DVC leaves it read-only
        (pushed / name).write_bytes(content)

    remote.read, remote.write = (lambda name: (pushed / name).read_bytes()), write
    remote.remove = lambda name: (pushed / name).unlink()
    yield
    assert not places_of(remote.secret, server.folder)


@contextmanager
def s3_remote(remote: Remote, _: pytest.FixtureRequest) -> Iterator[None]:
    """The S3 server of rclone. Its folder is changed through S3 only, because it remembers what lies there."""
    program = shutil.which("rclone", path=environment()["PATH"])
    if program is None:
        require("rclone")
    key, secret = f"id{secrets.token_hex(8)}", f"planted{secrets.token_hex(16)}"
    folder, log = remote.folder / "buckets", remote.folder / "rclone.log"
    (folder / "brain-tumor").mkdir(parents=True)
    serve = [program, "--config", os.devnull, "serve", "s3", "--addr", "127.0.0.1:0", str(folder)]

    def address() -> str:
        found = re.search(r"on \[(http://127\.0\.0\.1:\d+)/\]", log.read_text(encoding="utf-8"))
        return found[1] if found else ""

    with running(serve, log, lambda: bool(address()), RCLONE_AUTH_KEY=f'"{key},{secret}"'):
        client = botocore.session.Session().create_client(
            "s3", "us-east-1", endpoint_url=address(), aws_access_key_id=key, aws_secret_access_key=secret
        )

        def call(method: str, name: str, **content: bytes) -> dict:
            return getattr(client, method)(Bucket="brain-tumor", Key=f"dvc/{name}", **content)

        remote.read = lambda name: call("get_object", name)["Body"].read()
        remote.write = lambda name, content: call("put_object", name, Body=content)
        remote.remove = lambda name: call("delete_object", name)
        remote.variables = {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}
        shared = block("S3", "sh", 0, endpoint=("https://s3.example.org", address()))
        remote.machine.sh(shared + block("S3", "sh", 1), remote.project, **remote.variables)
        (remote.machine.folder / "home/.aws").mkdir()
        pair = f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n"
        (remote.machine.folder / "home/.aws/credentials").write_text(pair)
        remote.secret = secret
        remote.known_places = {"home/.aws/credentials", "project/.dvc/config.local"}
        yield


@pytest.fixture(scope="module", params=[ssh_remote, s3_remote], ids=["ssh", "s3"])
def remote(request: pytest.FixtureRequest, whole_run: Path, tmp_path_factory) -> Iterator[Remote]:
    made = with_project(whole_run, tmp_path_factory.mktemp("remote"))
    with request.param(made, request):
        yield made


# ---------------------------------------------------------------- tests


def first_scan(project: Path) -> Path:
    return min((project / "data/raw").rglob("*.jpg")).relative_to(project)


@pytest.mark.docs
def test_a_clone_trains_and_predicts_nothing(remote):
    clone, machine = remote.clone()
    assert not (clone / "models").exists()
    # A key pair in the environment, not in the home.
    shutil.rmtree(machine.folder / "home/.aws", ignore_errors=True)
    told = machine.sh("dvc pull", clone, **remote.variables)
    assert re.search(r"\d+ files fetched and \d+ files added", told)
    told = machine.sh("dvc repro evaluate report", clone)
    assert "Running stage" not in told
    skipped = re.findall(r"Stage '(.+)' didn't change, skipping", told)
    assert sorted(skipped) == sorted(YAML(typ="safe").load(clone / "dvc.lock")["stages"])
    assert machine.sh("git status --porcelain", clone) == ""
    assert (clone / MODEL).read_bytes() == (remote.project / MODEL).read_bytes()
    # It predicts what the classifier says where it was made.
    predict = f"python -m brain_tumor predict -q --json {first_scan(clone)}"
    answers = [machine.sh(predict, place, PYTHONPATH="src") for place in (clone, remote.project)]
    assert answers[0] == answers[1] and sum(json.loads(answers[0])["probabilities"].values()) == pytest.approx(1)


@pytest.mark.docs
def test_a_corrupted_or_missing_object_is_named(remote):
    output = "models/fold-0"
    digest = hashlib.md5((remote.project / MODEL).read_bytes()).hexdigest()
    damaged = f"files/md5/{digest[:2]}/{digest[2:]}"
    sound = remote.read(damaged)
    assert hashlib.md5(sound).hexdigest() == digest
    bad = bytes([*sound[:9], sound[9] ^ 1, *sound[10:]])
    remote.write(damaged, bad)
    try:
        clone, machine = remote.clone()
        told = machine.sh(f"dvc pull -v {output}", clone, fails=True)
        assert f"Checkout failed for following targets:\n{output}\n" in told
        assert not (clone / MODEL).exists()
        assert re.search(rf"corrupted cache file '.*/{damaged}'", told)
        assert remote.read(damaged) == bad, "DVC changed the remote"
        # The trap: what a user gets who does not set `verify`.
        config = (clone / ".dvc/config").read_text()
        (clone / ".dvc/config").write_text(config.replace("verify = true", ""))
        machine.sh(f"dvc pull {output}", clone)
        assert (clone / MODEL).read_bytes() == bad

        (clone / ".dvc/config").write_text(config)
        remote.remove(damaged)
        shutil.rmtree(clone / "models")
        shutil.rmtree(clone / ".dvc/cache")
        told = machine.sh(f"dvc pull {output}", clone, fails=True)
        assert f"failed to transfer '{digest}'" in told
        assert not (clone / MODEL).exists()
    finally:
        remote.write(damaged, sound)


def places_of(text: str, folder: Path) -> set[str]:
    """Files in a folder that hold a text, besides git's own, which are compressed."""
    files = (path for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts)
    return {path.relative_to(folder).as_posix() for path in files if text.encode() in path.read_bytes()}


@pytest.mark.docs
def test_credentials_stay_where_they_were_put(remote):
    remote.machine.sh("git check-ignore -q .dvc/config.local", remote.project)
    assert remote.machine.sh("git status --porcelain", remote.project) == ""
    (remote.project / "planted").write_text("pushed to see what is printed then")
    remote.machine.sh("dvc add -q planted && dvc push -v && dvc remote list", remote.project)
    remote.machine.sh("git add planted.dvc .gitignore && git commit -q -m planted", remote.project)
    clone, machine = remote.clone()
    machine.sh("dvc pull -v planted.dvc", clone)
    if "AWS_SECRET_ACCESS_KEY" in remote.variables:
        # Refused, with a key that nearly fits.
        wrong = remote.variables | {"AWS_SECRET_ACCESS_KEY": remote.secret[:-1]}
        told = machine.sh("rm -r .dvc/cache planted; dvc pull -v planted.dvc", clone, fails=True, **wrong)
        assert "failed to connect to s3" in told and remote.secret[:-1] not in told
        assert stat.S_IMODE((remote.project / ".dvc/config.local").stat().st_mode) == 0o600
        # The page says so: this command alone prints it.
        assert remote.secret in Machine(remote.machine.folder).sh("dvc config --list", remote.project)

    assert not [told for told in remote.machine.told if remote.secret in told]
    for checkout in (remote.project, clone):
        history = subprocess.run(
            ["git", "cat-file", "--batch", "--batch-all-objects"], cwd=checkout, capture_output=True, check=True
        ).stdout
        assert b"remote" in history and remote.secret.encode() not in history
    # Outputs, logs, dvc.lock, DVC's own folders, the server's log and all that was pushed to it.
    found = {re.sub(r"^machine-\d+/", "", place) for place in places_of(remote.secret, remote.folder)}
    assert found == remote.known_places


@pytest.mark.docs
def test_only_openssh_checks_the_host_key(ssh_server, tmp_path):
    """Two traps that the page names, and the way round them; a key that is in the agent."""
    project, machine = tmp_path / "project", Machine(tmp_path)
    key = tmp_path / "home/.ssh/id_ed25519"
    shutil.copytree(ssh_server.home / ".ssh", key.parent)
    project.mkdir()
    setup = "git init -q\ngit config user.name test\ngit config user.email test@example.org\ndvc init -q\n"
    machine.sh(f"{setup}echo 1 > file && dvc add -q file\n{''.join(ssh_server.setup())}", project)
    fresh = "rm -rf .dvc/cache file && dvc pull file.dvc && test -s file"

    # Another server's key is known under this address: ssh would refuse, DVC does not.
    host, other = (ssh_server.folder / "host.pub").read_text(), (ssh_server.home / ".ssh/id_ed25519.pub").read_text()
    known = key.parent / "known_hosts"
    known.write_text(f"[127.0.0.1]:{ssh_server.port} {other}")
    (key.parent / "config").write_text(f"Host *\n    StrictHostKeyChecking yes\n    UserKnownHostsFile {known}\n")
    machine.sh(fresh, project)

    # ssh looks for keys in the home that the system names, so the test names them.
    options = f"ssh -F none -i {shlex.quote(str(key))} -o UserKnownHostsFile={shlex.quote(str(known))}"
    name = ("server.example.org", "127.0.0.1")
    (key.parent / "config").write_text(block("SSH", "text", 1, name=name, ssh=("ssh -F none", options)))
    assert "failed to connect to ssh" in machine.sh(fresh, project, fails=True)
    known.write_text(f"[127.0.0.1]:{ssh_server.port} {host}")
    machine.sh(fresh, project)

    # The agent's key, where no keyfile is set.
    (key.parent / "config").unlink()
    kept = key.rename(tmp_path / "kept")
    (project / ".dvc/config.local").unlink()
    assert "Permission denied" in machine.sh(fresh, project, fails=True)
    script = f"eval $(ssh-agent -s) > /dev/null; trap 'kill $SSH_AGENT_PID' EXIT; ssh-add -q {kept}\n{fresh}"
    machine.sh(script, project)
    assert "auth-agent-req@openssh.com" in (ssh_server.folder / "log").read_text(), "the page warns of it"


@pytest.mark.docs
def test_the_run_cache_of_another_checkout(whole_run, tmp_path):
    """Pushed by DVC it lacks what git tracks, so that training runs again; copied it lacks nothing."""
    remote = with_project(whole_run, tmp_path)
    setup = "dvc remote add --default storage ../storage && git commit -q -m Remote .dvc/config"
    remote.machine.sh(f"{setup} && dvc push --run-cache", remote.project)
    copy = commands(block("Run cache", "console"))[-1]
    assert copy.startswith("cp ")
    # Where the lock has nothing, the run cache alone tells what was run.
    lost = "rm dvc.lock && dvc fetch --run-cache && dvc repro --pull"
    clone, machine = remote.clone()
    told = machine.sh(f"{lost} preprocess", clone)
    assert set(re.findall(r"Stage '(.+)' is cached", told)) == {"download@phantoms", "download@second", "preprocess"}
    assert "Running stage" not in told
    assert re.findall(r"Running stage '(.+)'", machine.sh("dvc repro --pull --dry audit", clone)) == ["audit"]

    remote.machine.sh(copy, remote.project)
    clone, machine = remote.clone()
    told = machine.sh(f"{lost} train@0", clone)
    assert "Stage 'train@0' is cached - skipping run" in told and "Running stage" not in told
    assert (clone / MODEL).read_bytes() == (whole_run / MODEL).read_bytes()


def test_the_page_lists_what_the_run_cache_restores():
    restored, anew = re.search(
        r"another clone\s+restores (.+?) \(`dvc repro --pull`\), but runs (.+?) anew", PAGE, re.S
    ).groups()
    tracked = set()
    stages = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    for name, stage in stages.items():
        stage = stage.get("do", stage)
        outputs = [out for kind in ("outs", "metrics", "plots") for out in stage.get(kind, [])]
        if any(isinstance(out, dict) and next(iter(out.values())).get("cache") is False for out in outputs):
            tracked.add(name)
    assert set(re.findall(r"\w+", anew)) - {"and"} == tracked - {"export"}
    assert set(re.findall(r"\w+", restored)) - {"and"} == set(stages) - tracked
