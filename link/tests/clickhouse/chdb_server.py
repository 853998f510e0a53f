#!/usr/bin/env python3
"""An HTTP server in front of chdb, today's ClickHouse engine: enough of ClickHouse's HTTP interface for its Rust client.

usage: chdb_server.py PORT DATA_DIR

Queries run one after the other. Settings arrive in the URL and are given to the engine; bodies are the data of an INSERT when the
query stands in the URL. system.processes knows only the query that asks. Ends when its standard input does.
"""

import os
import re
import sys
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from chdb import session

PORT, DATA_DIR = int(sys.argv[1]), sys.argv[2]
ENGINE = session.Session(DATA_DIR)
LOCK = threading.Lock()
NOT_SETTINGS = {"query", "database", "query_id", "default_format", "user", "password", "compress", "decompress", "wait_end_of_query"}


def run(parameters, body):
    query = parameters.get("query", "")
    insert = re.match(r"\s*INSERT\b.*\bFORMAT\s+(\w+)\s*$", query, re.S | re.I)
    form = parameters.get("default_format", "TabSeparated")
    settings = [f"{name} = '{value}'" for name, value in parameters.items() if name not in NOT_SETTINGS]
    path = None
    try:
        if insert:
            # The engine in this process reads an INSERT's data from a file.
            path = os.path.join(DATA_DIR, f"insert-{threading.get_ident()}.data")
            with open(path, "wb") as file:
                file.write(body)
            query = query[: insert.start(1)].rstrip()
            query = re.sub(r"\bFORMAT$", "", query, flags=re.I)
            query += f" FROM INFILE '{path}'"
            if settings:
                query += " SETTINGS " + ", ".join(settings)
            query += f" FORMAT {insert.group(1)}"
        else:
            query += body.decode()
            found = re.search(r"\bFORMAT\s+(\w+)\s*;?\s*$", query, re.I)
            if found:
                form = found.group(1)
                query = query[: found.start()]
            if settings and re.match(r"\s*(SELECT|INSERT|WITH)\b", query, re.I):
                query += " SETTINGS " + ", ".join(settings)
        with LOCK:
            database = parameters.get("database")
            ENGINE.query(f"USE `{database}`" if database else "USE default")
            return ENGINE.query(query, form).bytes()
    finally:
        if path:
            os.unlink(path)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(200, b"Ok.\n") if self.path == "/ping" else self.do_POST()

    def do_POST(self):
        url = urllib.parse.urlsplit(self.path)
        parameters = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        body = self.body()
        try:
            self.answer(200, run(parameters, body))
        except Exception as error:  # the engine's own errors have no class of their own
            text = str(error)
            code = re.search(r"Code: (\d+)", text)
            self.answer(500, text.encode(), code.group(1) if code else "1000")

    def body(self):
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while True:
            line = self.rfile.readline()
            size = int(line.split(b";")[0], 16)
            parts.append(self.rfile.read(size))
            if len(parts[-1]) != size:
                raise ConnectionError("the body was cut off")
            self.rfile.readline()
            if size == 0:
                return b"".join(parts)

    def answer(self, status, body, code=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if code:
            self.send_header("X-ClickHouse-Exception-Code", code)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
print("listening", flush=True)
sys.stdin.read()
os._exit(0)
