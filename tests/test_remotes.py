"""Remotes as docs/remotes.md sets them up: a folder, a real SSH server and a real server with the S3 interface."""

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
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import ROOT, require
from ruamel.yaml import YAML
from scratch import environment
from walkthrough import commands

PAGE = (ROOT / "docs/remotes.md").read_text(encoding="utf-8")
MODEL = "models/fold-0/model.keras"
CLASSIFIER = "src/brain_tumor/serving/classifier.tflite"
_OF_THE_USER = ("GIT_", "DVC_", "AWS_", "SSH_", "RCLONE_", "XDG_CONFIG")


def blocks(section: str, language: str, **replaced: str) -> list[str]:
    """The fenced blocks of a section of the page, with what stands there for the user's own names replaced."""
    text = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)[1]
    found = re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    for old, new in replaced.values():
        assert any(old in block for block in found), f"the page no longer says {old}"
        found = [block.replace(old, new) for block in found]
    return found


@dataclass
class Desk:
    """A machine of a user: a home and DVC's own folder, both empty at first, and all that was printed there."""

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


@dataclass
class Store:
    """Where a remote keeps its objects, reached past DVC."""

    read: Callable[[str], bytes]
    write: Callable[[str, bytes], None]
    remove: Callable[[str], None]


def folder_store(folder: Path) -> Store:
    def write(name: str, content: bytes) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o444)  # as DVC leaves it

    return Store(lambda name: (folder / name).read_bytes(), write, lambda name: (folder / name).unlink())


@dataclass
class Remote:
    """A project whose small run was pushed as the page says, and clones of it."""

    kind: str
    folder: Path
    desk: Desk
    store: Store | None = None
    credentials: str = ""  # what the page says for every clone
    variables: dict[str, str] = field(default_factory=dict)  # or these instead
    secret: str = ""
    known_places: set[str] = field(default_factory=set)
    server: Path | None = None

    @property
    def project(self) -> Path:
        return self.folder / "project"

    def clone(self) -> tuple[Path, Desk]:
        """What somebody has who has git and the remote: another home, nothing of the project's cache."""
        number = len(list(self.folder.glob("clone-*")))
        target = self.folder / f"clone-{number}"
        desk = Desk(self.folder / f"desk-{number}", told=self.desk.told)
        for name in (".ssh", ".aws"):
            if (self.desk.folder / "home" / name).exists():
                shutil.copytree(self.desk.folder / "home" / name, desk.folder / "home" / name)
        desk.sh(f"git clone -q {self.project} {target}", self.folder)
        if self.credentials:
            desk.sh(self.credentials, target)
        return target, desk


def started(command: list[str], log: Path, ready: Callable[[], bool], **variables: str) -> subprocess.Popen | None:
    """A server that answers, or None where it ended at once."""
    with log.open("w", encoding="utf-8") as out:
        server = subprocess.Popen(command, env=environment() | variables, stdout=out, stderr=subprocess.STDOUT)
    end = time.monotonic() + 20
    while server.poll() is None and time.monotonic() < end:
        if ready():
            return server
        time.sleep(0.05)
    stop(server)
    return None


def stop(server: subprocess.Popen) -> None:
    server.terminate()
    server.wait(timeout=20)


def answers(port: int) -> bool:
    with socket.socket() as link:
        return link.connect_ex(("127.0.0.1", port)) == 0


@dataclass
class SshServer:
    folder: Path  # host key, log and the files that are pushed
    address: str
    port: int
    home: Path  # with a .ssh folder of the user

    def places(self) -> dict[str, tuple[str, str]]:
        return {
            "url": ("you@server.example.org:22/srv/brain-tumor", f"{self.address}:{self.port}{self.folder}/pushed"),
            "key": ("~/.ssh/id_ed25519", "~/.ssh/id_ed25519"),
        }


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
    options = blocks("SSH", "text")[0].split(" ssh-ed25519 ")[0]
    (folder / "authorized_keys").write_text(f"{options} {(home / '.ssh/id_ed25519.pub').read_text()}")
    # Where sshd is started by root it wants this empty folder, which its service makes otherwise.
    made = Path("/run/sshd") if os.getuid() == 0 and not Path("/run/sshd").exists() else None
    if made:
        made.mkdir(mode=0o755)
    server = None
    for _ in range(5):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        (folder / "sshd_config").write_text(
            f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\nUsePAM no\nStrictModes no\n"
            f"AuthorizedKeysFile {folder}/authorized_keys\nPasswordAuthentication no\n"
            "KbdInteractiveAuthentication no\nSubsystem sftp internal-sftp\nLogLevel DEBUG1\n"
        )
        command = [program, "-D", "-e", "-f", str(folder / "sshd_config")]
        server = started(command, folder / "log", lambda port=port: answers(port))
        if server:
            break
    try:
        assert server, (folder / "log").read_text()
        yield SshServer(folder, f"{getpass.getuser()}@127.0.0.1", port, home)
    finally:
        if server:
            stop(server)
        if made:
            made.rmdir()


def local_remote(remote: Remote, _: pytest.FixtureRequest) -> None:
    script = commands(blocks("Local folder", "console")[0])
    assert script[-2:] == ["dvc push", "dvc status --cloud"]
    told = remote.desk.sh("\n".join(script), remote.project)
    assert "are in sync" in told
    remote.store = folder_store(remote.folder / "storage")


def ssh_remote(remote: Remote, request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue("ssh_server")
    shutil.copytree(server.home / ".ssh", remote.desk.folder / "home/.ssh")
    shared, own = blocks("SSH", "sh", **server.places())
    remote.desk.sh(shared, remote.project)
    remote.desk.sh(own, remote.project)
    remote.store = folder_store(server.folder / "pushed")
    remote.credentials = own.removesuffix("dvc push\n")
    remote.secret = (remote.desk.folder / "home/.ssh/id_ed25519").read_text().splitlines()[2]
    remote.known_places = {"home/.ssh/id_ed25519"}
    remote.server = server.folder


def s3_remote(remote: Remote, request: pytest.FixtureRequest) -> None:
    """The S3 server of rclone. Its folder is changed through S3 only, because it remembers what lies there."""
    program = shutil.which("rclone", path=environment()["PATH"])
    if program is None:
        require("rclone")
    key, secret = f"id{secrets.token_hex(8)}", f"planted{secrets.token_hex(16)}"
    folder, log = remote.folder / "buckets", remote.folder / "rclone.log"
    (folder / "brain-tumor").mkdir(parents=True)

    def address() -> str:
        found = re.search(r"on \[(http://127\.0\.0\.1:\d+)/\]", log.read_text(encoding="utf-8"))
        return found[1] if found else ""

    base = [program, "--config", os.devnull]
    serve = [*base, "serve", "s3", "--addr", "127.0.0.1:0", str(folder)]
    server = started(serve, log, lambda: bool(address()), RCLONE_AUTH_KEY=f'"{key},{secret}"')
    assert server, log.read_text()
    request.addfinalizer(lambda: stop(server))
    access = {"TYPE": "s3", "PROVIDER": "Rclone", "ENDPOINT": address()}
    access |= {"ACCESS_KEY_ID": key, "SECRET_ACCESS_KEY": secret}
    variables = environment() | {f"RCLONE_CONFIG_BUCKETS_{name}": value for name, value in access.items()}

    def rclone(command: str, name: str, content: bytes | None = None) -> bytes:
        call = [*base, "-q", command, f"buckets:brain-tumor/dvc/{name}"]
        return subprocess.run(call, env=variables, input=content, stdout=subprocess.PIPE, check=True, timeout=60).stdout

    remote.store = Store(
        lambda name: rclone("cat", name),
        lambda name, content: rclone("rcat", name, content) and None,
        lambda name: rclone("deletefile", name) and None,
    )
    remote.variables = {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}
    shared, own = blocks("S3", "sh", endpoint=("https://s3.example.org", address()))
    remote.desk.sh(shared, remote.project)
    remote.desk.sh(own, remote.project, **remote.variables)
    (remote.desk.folder / "home/.aws").mkdir()
    pair = f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n"
    (remote.desk.folder / "home/.aws/credentials").write_text(pair)
    remote.secret = secret
    remote.known_places = {"home/.aws/credentials", "project/.dvc/config.local"}


KINDS = {"local": local_remote, "ssh": ssh_remote, "s3": s3_remote}


@pytest.fixture(scope="module", params=list(KINDS))
def remote(request: pytest.FixtureRequest, small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Remote:
    made = with_project(request.param, small_run, tmp_path_factory.mktemp("remote"))
    KINDS[request.param](made, request)
    return made


def with_project(kind: str, small_run: Path, folder: Path) -> Remote:
    shutil.copytree(small_run, folder / "project")
    made = Remote(kind, folder, Desk(folder))
    # The remote of the checkout that is tested, if it has one.
    for name in re.findall(r'remote "(.+)"', (made.project / ".dvc/config").read_text()):
        made.desk.sh(f"dvc remote remove {name}", made.project)
    return made


def object_of(project: Path, path: str) -> str:
    """The object of a file in a cache or a remote."""
    digest = hashlib.md5((project / path).read_bytes()).hexdigest()
    return f"files/md5/{digest[:2]}/{digest[2:]}"


def first_scan(project: Path) -> Path:
    return min((project / "data/raw").rglob("*.jpg")).relative_to(project)


PREDICT = "python -m brain_tumor predict -q --json {}"


@pytest.fixture(scope="module")
def answer(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What the classifier says to a scan where it was made."""
    desk = Desk(tmp_path_factory.mktemp("desk"))
    said = json.loads(desk.sh(PREDICT.format(first_scan(small_run)), small_run, PYTHONPATH="src"))
    assert sum(said["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    return said


def test_a_clone_trains_and_predicts_nothing(remote, small_run, answer):
    clone, desk = remote.clone()
    assert not (clone / "models").exists()
    # A key pair in the environment, not in the home.
    shutil.rmtree(desk.folder / "home/.aws", ignore_errors=True)
    told = desk.sh("dvc pull", clone, **remote.variables)
    assert re.search(r"\d+ files fetched and \d+ files added", told)
    told = desk.sh("dvc repro evaluate report", clone)
    assert "Running stage" not in told
    skipped = re.findall(r"Stage '(.+)' didn't change, skipping", told)
    assert sorted(skipped) == sorted(YAML(typ="safe").load(clone / "dvc.lock")["stages"])
    assert f"All {len(skipped)} stages are skipped" in PAGE
    assert desk.sh("git status --porcelain", clone) == ""
    assert (clone / MODEL).read_bytes() == (small_run / MODEL).read_bytes()

    assert desk.sh(f"git ls-files {CLASSIFIER}", clone).strip() == CLASSIFIER
    told = desk.sh(PREDICT.format(first_scan(clone)), clone, PYTHONPATH="src")
    assert json.loads(told) == answer


def test_a_corrupted_or_missing_object_is_named(remote, small_run):
    damaged, output = object_of(small_run, MODEL), "models/fold-0"
    digest = damaged.removeprefix("files/md5/").replace("/", "")
    sound = remote.store.read(damaged)
    assert hashlib.md5(sound).hexdigest() == digest
    bad = bytes([*sound[:9], sound[9] ^ 1, *sound[10:]])
    remote.store.write(damaged, bad)
    try:
        clone, desk = remote.clone()
        told = desk.sh(f"dvc pull -v {output}", clone, fails=True)
        assert f"Checkout failed for following targets:\n{output}\n" in told
        assert not (clone / MODEL).exists()
        assert re.search(rf"corrupted cache file '.*/{damaged}'", told)
        assert remote.store.read(damaged) == bad, "DVC changed the remote"
        # The trap: what a user gets who does not set `verify`.
        config = (clone / ".dvc/config").read_text()
        (clone / ".dvc/config").write_text(config.replace("verify = true", ""))
        desk.sh(f"dvc pull {output}", clone)
        assert (clone / MODEL).read_bytes() == bad

        (clone / ".dvc/config").write_text(config)
        remote.store.remove(damaged)
        shutil.rmtree(clone / "models")
        shutil.rmtree(clone / ".dvc/cache")
        told = desk.sh(f"dvc pull {output}", clone, fails=True)
        assert f"failed to transfer '{digest}'" in told
        assert not (clone / MODEL).exists()
    finally:
        remote.store.write(damaged, sound)


def places_of(text: str, folder: Path) -> set[str]:
    """Files in a folder that hold a text, besides git's own, which are compressed."""
    files = (path for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts)
    return {path.relative_to(folder).as_posix() for path in files if text.encode() in path.read_bytes()}


def test_credentials_stay_where_they_were_put(remote):
    remote.desk.sh("git check-ignore -q .dvc/config.local", remote.project)
    assert remote.desk.sh("git status --porcelain", remote.project) == ""
    if not remote.secret:
        return
    (remote.project / "planted").write_text("pushed to see what is printed then")
    remote.desk.sh("dvc add -q planted && dvc push -v && dvc remote list", remote.project)
    remote.desk.sh("git add planted.dvc .gitignore && git commit -q -m planted", remote.project)
    clone, desk = remote.clone()
    desk.sh("dvc pull -v planted.dvc", clone)
    # Refused, with a key that nearly fits.
    if remote.kind == "s3":
        wrong = {
            "AWS_ACCESS_KEY_ID": remote.variables["AWS_ACCESS_KEY_ID"],
            "AWS_SECRET_ACCESS_KEY": remote.secret[:-1],
        }
        told = desk.sh("rm -r .dvc/cache planted; dvc pull -v planted.dvc", clone, fails=True, **wrong)
        assert "failed to connect to s3" in told and remote.secret[:-1] not in told
        assert stat.S_IMODE((remote.project / ".dvc/config.local").stat().st_mode) == 0o600
        # The page says so: this command alone prints it.
        assert remote.secret in Desk(remote.desk.folder).sh("dvc config --list", remote.project)

    assert not [told for told in remote.desk.told if remote.secret in told]
    for checkout in (remote.project, clone):
        history = subprocess.run(
            ["git", "cat-file", "--batch", "--batch-all-objects"], cwd=checkout, capture_output=True, check=True
        ).stdout
        assert b"remote" in history and remote.secret.encode() not in history
    # Outputs, logs, dvc.lock, DVC's own folders, the server's log and all that was pushed to it.
    found = {re.sub(r"^desk-\d+/", "", place) for place in places_of(remote.secret, remote.folder)}
    assert found == remote.known_places
    assert remote.server is None or not places_of(remote.secret, remote.server)


@pytest.mark.slow
def test_only_openssh_checks_the_host_key(ssh_server, tmp_path):
    """Two traps that the page names, and the way round them; a key that is in the agent."""
    project, desk = tmp_path / "project", Desk(tmp_path)
    key = tmp_path / "home/.ssh/id_ed25519"
    shutil.copytree(ssh_server.home / ".ssh", key.parent)
    project.mkdir()
    shared, own = blocks("SSH", "sh", **ssh_server.places())
    setup = "git init -q\ngit config user.name test\ngit config user.email test@example.org\ndvc init -q\n"
    desk.sh(f"{setup}echo 1 > file && dvc add -q file\n{shared}{own}", project)
    fresh = "rm -rf .dvc/cache file && dvc pull file.dvc && test -s file"

    # Another server's key is known under this address: ssh would refuse, DVC does not.
    host, other = (ssh_server.folder / "host.pub").read_text(), (ssh_server.home / ".ssh/id_ed25519.pub").read_text()
    known = key.parent / "known_hosts"
    known.write_text(f"[127.0.0.1]:{ssh_server.port} {other}")
    (key.parent / "config").write_text(f"Host *\n    StrictHostKeyChecking yes\n    UserKnownHostsFile {known}\n")
    desk.sh(fresh, project)

    # ssh looks for keys in the home that the system names, so the test names them.
    options = f"ssh -F none -i {shlex.quote(str(key))} -o UserKnownHostsFile={shlex.quote(str(known))}"
    host_name = ("server.example.org", "127.0.0.1")
    config = blocks("SSH", "ssh-config", host=host_name, ssh=("ssh -F none", options))[0]
    (key.parent / "config").write_text(config)
    assert "failed to connect to ssh" in desk.sh(fresh, project, fails=True)
    known.write_text(f"[127.0.0.1]:{ssh_server.port} {host}")
    desk.sh(fresh, project)

    # The agent's key, where no keyfile is set.
    (key.parent / "config").unlink()
    kept = key.rename(tmp_path / "kept")
    (project / ".dvc/config.local").unlink()
    assert "Permission denied" in desk.sh(fresh, project, fails=True)
    script = f"eval $(ssh-agent -s) > /dev/null; trap 'kill $SSH_AGENT_PID' EXIT; ssh-add -q {kept}\n{fresh}"
    desk.sh(script, project)
    assert "auth-agent-req@openssh.com" in (ssh_server.folder / "log").read_text(), "the page warns of it"


def test_the_run_cache_of_another_checkout(small_run, tmp_path):
    """Pushed by DVC it lacks what git tracks, so that training runs again; copied it lacks nothing."""
    remote = with_project("local", small_run, tmp_path)
    setup = "dvc remote add --default storage ../storage && git commit -q -m Remote .dvc/config"
    remote.desk.sh(f"{setup} && dvc push --run-cache", remote.project)
    copy = commands(blocks("Run cache", "console")[0])[-1]
    assert copy.startswith("cp ")
    # Where the lock has nothing, the run cache alone tells what was run.
    lost = "rm dvc.lock && dvc fetch --run-cache && dvc repro --pull"
    clone, desk = remote.clone()
    told = desk.sh(f"{lost} preprocess", clone)
    assert set(re.findall(r"Stage '(.+)' is cached", told)) == {"download@phantoms", "download@second", "preprocess"}
    assert "Running stage" not in told
    assert re.findall(r"Running stage '(.+)'", desk.sh("dvc repro --pull --dry audit", clone)) == ["audit"]

    remote.desk.sh(copy, remote.project)
    clone, desk = remote.clone()
    told = desk.sh(f"{lost} train@0", clone)
    assert "Stage 'train@0' is cached - skipping run" in told and "Running stage" not in told
    assert (clone / MODEL).read_bytes() == (small_run / MODEL).read_bytes()


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
