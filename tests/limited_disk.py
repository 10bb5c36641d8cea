"""A file system of a few megabytes, to be full: real, and gone with the test, however that ends."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from conftest import ROOT, run

OBEYING = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
"""Before a command that root runs: permissions count for it."""


class LimitedDisk:
    """A tmpfs in a mount namespace of its own; a context manager, which skips the test where the kernel allows none.

    The namespace, and with it the file system, lives as long as a process that waits for this one.

    Attributes:
        place: where it is mounted, for the commands in the namespace.
        seen: the same folder, seen from here.
    """

    def __init__(self, place: Path, megabytes: int = 200):
        self.place, self._roomy = place, f"size={megabytes}m"

    def __enter__(self) -> "LimitedDisk":
        self.place.mkdir()
        script = f"mount -t tmpfs -o {self._roomy} tmpfs '{self.place}' && echo mounted && exec cat"
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        for rights in ([], ["--map-root-user"]):  # without rights of one's own, those in a user namespace
            try:
                self._holder = subprocess.Popen(["unshare", "--mount", *rights, "sh", "-c", script], **pipes)
            except FileNotFoundError:
                pytest.skip("this system has no mount namespaces")
            if self._holder.stdout.readline() == b"mounted\n":
                break
            said = self._holder.communicate()[1].decode().strip()
        else:
            pytest.skip(f"no file system can be mounted here: {said}")
        enter = ["nsenter", "--target", str(self._holder.pid), "--mount"]
        self._enter = enter + (["--user", "--preserve-credentials"] if rights else [])
        self.seen = Path(f"/proc/{self._holder.pid}/root{self.place}")
        (self.seen / "in use").write_text("a page, since a size of 0 would be no limit")
        return self

    def __exit__(self, *exception: object) -> None:
        self._holder.communicate()

    def command(self, *command: str | Path, cwd: str = ".", obeying: bool = False) -> list[str]:
        """What runs a program in the namespace, in a folder of the file system.

        Args:
            command: program and arguments.
            cwd: the folder, relative to the file system.
            obeying: permissions count, although it is root there.
        """
        shell = ["sh", "-c", 'cd "$0" && exec "$@"', self.place / cwd]
        return [*map(str, [*self._enter, *shell, *(OBEYING if obeying else []), *command])]

    def run(self, *command: str | Path, cwd: str = ".", obeying: bool = False, **options) -> CompletedProcess:
        """Run that as `conftest.run` does."""
        return run(*self.command(*command, cwd=cwd, obeying=obeying), cwd=ROOT, **options)

    @contextmanager
    def leaving(self, free: int) -> Iterator[None]:
        """Make the file system so small that this number of bytes, in whole pages, is free."""
        state = os.statvfs(self.seen)
        self._remount(f"size={(state.f_blocks - state.f_bfree) * state.f_frsize + free}")
        try:
            yield
        finally:
            self._remount(self._roomy)

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Let nothing be written, by root neither."""
        self._remount("ro")
        try:
            yield
        finally:
            self._remount("rw")

    def _remount(self, option: str) -> None:
        run(*self._enter, "mount", "-o", f"remount,{option}", str(self.place), cwd=ROOT)
