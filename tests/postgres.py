"""A real PostgreSQL server for tests, on a free port of this machine."""

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest


class Postgres:
    """A running server, whose user "sweep" needs a password; a context manager.

    Attributes:
        url: of its database, without the password.
        password: which `variables` give to programs that read libpq's.
    """

    def __init__(self, password: str) -> None:
        # Debian keeps the programs of each version off PATH.
        found = shutil.which("initdb") or max(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), default=None)
        if found is None:
            (pytest.fail if os.environ.get("REQUIRE_ALL") == "1" else pytest.skip)("postgresql is not installed")
        self._programs, self.password, self.variables = Path(found).parent, password, {"PGPASSWORD": password}
        # Root, as whom it refuses to run, becomes the user of Debian's package.
        self._user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.url = f"postgresql://sweep@127.0.0.1:{self._port}/postgres"

    def __enter__(self) -> "Postgres":
        file = self._folder / "password"
        file.write_text(self.password)
        for path in (self._folder, file) if self._user else ():
            shutil.chown(path, "postgres", "postgres")
        options = ["--username=sweep", "--auth=scram-sha-256", f"--pwfile={file}", "--locale=C.UTF-8", "--no-sync"]
        self._call("initdb", *options)
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
        shutil.rmtree(self._folder)

    def start(self) -> None:
        """Return once it takes connections."""
        options = f"-F -h 127.0.0.1 -p {self._port} -k {self._folder}"
        self._call("pg_ctl", "--wait", f"--log={self._folder / 'log'}", f"--options={options}", "start")

    def stop(self) -> None:
        """End all connections, as a restart does."""
        self._call("pg_ctl", "--wait", "--mode=fast", "stop")

    def _call(self, program: str, *options: str) -> None:
        command = [*self._user, str(self._programs / program), f"--pgdata={self._folder / 'data'}", *options]
        done = subprocess.run(
            command, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
