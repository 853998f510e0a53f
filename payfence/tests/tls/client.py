"""Python's own TLS against the gateway.

Use: client.py ask PORT CA VERSION            requests, a large body both ways, a resumed session
     client.py swap PORT CA FOLDER SECONDS    requests while the pair of FOLDER is replaced every second
Ends with code 1 at the first thing that is not as it must be.
"""

import http.client
import os
import shutil
import socket
import ssl
import sys
import threading
import time

NAME = "shop.test"


def context(ca: str, version: str = "") -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=ca)
    if version:
        made.minimum_version = made.maximum_version = {
            "1.2": ssl.TLSVersion.TLSv1_2,
            "1.3": ssl.TLSVersion.TLSv1_3,
        }[version]
    return made


class Connection(http.client.HTTPSConnection):
    """For shop.test, at a port of this machine."""

    def __init__(self, port: int, context: ssl.SSLContext, session: ssl.SSLSession | None = None):
        super().__init__(NAME, port, context=context, timeout=20)
        self.tls, self.session = context, session

    def connect(self) -> None:
        plain = socket.create_connection(("127.0.0.1", self.port), 20)
        self.sock = self.tls.wrap_socket(plain, server_hostname=NAME, session=self.session)

    def ask(self, method: str = "GET", body: bytes | None = None) -> bytes:
        self.request(method, "/x", body=body)
        answer = self.getresponse()
        read = answer.read()
        assert answer.status == 200, (answer.status, read)
        return read


def ask(port: int, ca: str, version: str) -> None:
    made = context(ca, version)
    client = Connection(port, made)
    for _ in range(50):
        assert client.ask() == b"ok"
    assert client.sock.version() == f"TLSv{version}"
    body = os.urandom(5_000_000)
    assert client.ask("POST", body) == body
    session = client.sock.session
    again = Connection(port, made, session)
    assert again.ask() == b"ok"
    assert again.sock.session_reused, "the session goes on"
    trusting_nobody = Connection(port, ssl.create_default_context())
    try:
        trusting_nobody.ask()
    except ssl.SSLCertVerificationError:
        return
    raise AssertionError("an authority that nobody knows was believed")


def swap(port: int, ca: str, folder: str, seconds: int) -> None:
    made = context(ca)
    done, counts, failures = threading.Event(), [0] * 6, []

    def load(number: int) -> None:
        client = Connection(port, made)
        try:
            while not done.is_set():
                if number % 2 == 0:
                    client.close()
                    client = Connection(port, made)
                assert client.ask() == b"ok"
                counts[number] += 1
        except Exception as error:  # Any failure at all is what is looked for.
            failures.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=load, args=(number,)) for number in range(len(counts))]
    for thread in threads:
        thread.start()
    seen = set()
    for number in range(seconds):
        for kind in ("key", "crt"):
            new = os.path.join(folder, f".new.{kind}")
            shutil.copy(os.path.join(folder, "..", f"swap-{number % 4}.{kind}"), new)
            os.replace(new, os.path.join(folder, f"shop-ecdsa.{kind}"))
        time.sleep(1)
        client = Connection(port, made)
        client.ask()
        seen.add(client.sock.getpeercert(binary_form=True))
    done.set()
    for thread in threads:
        thread.join()
    print(f"{sum(counts)} requests, {len(failures)} failed, {len(seen)} certificates seen")
    assert not failures, failures[:3]
    assert len(seen) == min(seconds, 4) and min(counts) > 0


port, ca = int(sys.argv[2]), sys.argv[3]
if sys.argv[1] == "ask":
    ask(port, ca, sys.argv[4])
else:
    swap(port, ca, sys.argv[4], int(sys.argv[5]))
