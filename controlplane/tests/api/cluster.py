"""A PostgreSQL cluster for one run, on a socket in a folder of its own alone.

In: nothing but the installed server. Out: the URL of an empty database.
Always holds: it does not run as root, which PostgreSQL refuses, and ends with the run, its folder with it.
"""

import glob
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

NOBODY = 65_534
START_SECONDS = 60


def binary(name):
    """Debian keeps the server beside its version, out of everybody's path."""
    return shutil.which(name) or sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"))[-1]


def unprivileged(name):
    if os.getuid() != 0:
        return [binary(name)]
    return ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups", binary(name)]


class Cluster:
    def __enter__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="payfence-api-"))
        if os.getuid() == 0:
            os.chown(self.folder, NOBODY, NOBODY)
        data, quiet = self.folder / "data", {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        make = ["-U", "payfence", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D", data]
        subprocess.run([*unprivileged("initdb"), *make], check=True, cwd="/", **quiet)
        serve = ["-D", data, "-k", self.folder, "-c", "listen_addresses=", "-c", "fsync=off"]
        self.server = subprocess.Popen([*unprivileged("postgres"), *serve], cwd="/", **quiet)
        ready = [binary("pg_isready"), "-q", "-h", self.folder]
        deadline = time.monotonic() + START_SECONDS
        while subprocess.run(ready, check=False).returncode != 0:
            assert time.monotonic() < deadline and self.server.poll() is None, "PostgreSQL did not start"
            time.sleep(0.1)
        return f"postgres://payfence@localhost/postgres?host={self.folder}"

    def __exit__(self, *_):
        # A fast shutdown: whoever is still connected is cut off.
        self.server.send_signal(signal.SIGINT)
        self.server.wait(timeout=60)
        shutil.rmtree(self.folder, ignore_errors=True)
