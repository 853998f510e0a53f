"""The API held to its own description: an independent validator, then a fuzzer that is driven by it.

Use: run.py PAYFENCE FOLDER SECONDS, with a Python that has requirements.txt. FOLDER is made anew.
In: the built binary. Out: a line 'ok NAME' or 'FAILED NAME' for each check; code 1 where one failed.
Always holds: the control plane has a port and a database of its own, SQLite first, then PostgreSQL, and ends with this; the
fuzzer has half of SECONDS on each.
"""

import collections
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import openapi_spec_validator
import requests

from cluster import Cluster

HERE = pathlib.Path(__file__).resolve().parent
GOLDEN = HERE.parents[2] / "docs/openapi.json"
FAILED = []


def told(name, is_well, text=""):
    print(("ok " if is_well else "FAILED ") + name, flush=True)
    if not is_well:
        print(text, flush=True)
        FAILED.append(name)


class Caller:
    """Whoever has a key."""

    def __init__(self, url, key):
        self.url, self.session = url, requests.Session()
        self.session.headers["Authorization"] = f"Bearer {key}"

    def made(self, path, body):
        answer = self.session.post(self.url + path, json=body, timeout=30)
        assert answer.status_code == 201, f"{path}: {answer.status_code} {answer.text}"
        return answer.json()["id"]


def rows(caller):
    """One row of each kind, by the names that paths, queries and bodies have for them."""
    ids = {"site_id": caller.made("/v1/sites", {"slug": "fuzzed", "origin": "https://api.example.com"})}
    site = f"/v1/sites/{ids['site_id']}"
    ids["resource_id"] = caller.made(f"{site}/resources", {"pattern": "/held/*"})
    caller.made(f"{site}/resources", {"pattern": "/api/*"})
    quota = {"requests": 1000, "per": "month"}
    ids["plan_id"] = caller.made(f"{site}/plans", {"reference": "held", "quota": quota})
    adjusted = caller.made(f"{site}/plans", {"reference": "adjusted", "quota": quota})
    ids["customer_id"] = caller.made("/v1/customers", {"reference": "held"})
    subscription = {name: ids[name] for name in ("site_id", "plan_id", "customer_id")}
    subscription["plan_id"] = adjusted
    ids["subscription_id"] = caller.made("/v1/subscriptions", subscription)
    adjustments = f"/v1/subscriptions/{ids['subscription_id']}/adjustments"
    ids["adjustment_id"] = caller.made(adjustments, {"units": 5, "reason": "held"})
    endpoint = {"url": "https://hooks.example.com/held", "events": ["token.issued"]}
    ids["webhook_endpoint_id"] = caller.made("/v1/webhook-endpoints", endpoint)
    ids["token_id"] = caller.made("/v1/tokens", {"subscription_id": ids["subscription_id"]})
    ids["admin_key_id"] = caller.made("/v1/admin_keys", {"label": "held", "role": "viewer"})
    ids["member_id"] = caller.made("/v1/members", {"email": "held@example.com", "role": "owner"})
    ids["node_id"] = caller.made("/v1/nodes", {"name": "held"})
    ids["node_token_id"] = caller.made(f"/v1/nodes/{ids['node_id']}/tokens", {})
    deliveries = caller.session.get(
        f"{caller.url}/v1/webhook-endpoints/{ids['webhook_endpoint_id']}/deliveries", timeout=30
    )
    ids["delivery_id"] = deliveries.json()["data"][0]["id"]
    return ids


def validate(url):
    served = requests.get(f"{url}/openapi.json", timeout=30).json()
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    told("the description that is served is the one that is checked in", served == golden)
    try:
        openapi_spec_validator.validate(served)
        told("the description is OpenAPI 3.1", served["openapi"].startswith("3.1"), served["openapi"])
    except openapi_spec_validator.exceptions.OpenAPISpecValidatorError as error:
        told("the description is OpenAPI 3.1", False, str(error))
    return served


def fuzz(url, key, work, seconds):
    environment = dict(
        os.environ,
        SCHEMATHESIS_HOOKS="hooks",
        PYTHONPATH=str(HERE),
        PAYFENCE_API_STATE=str(work / "state.json"),
        PAYFENCE_API_COUNTS=str(work / "counts.json"),
    )
    command = [
        pathlib.Path(sys.executable).parent / "schemathesis", "--config-file", HERE / "schemathesis.toml", "run", "--no-color", f"{url}/openapi.json",
        "-H", f"Authorization: Bearer {key}", "--phases", "examples,coverage,fuzzing", "--workers", "2",
        "--max-time", str(seconds), "--continue-on-failure", "--generation-database", "none",
        "--suppress-health-check", "all", "--request-timeout", "30", "--warnings", "off",
    ]
    # Its own bound is between requests; this one is for a run that hangs.
    done = subprocess.run(command, env=environment, cwd=work, timeout=seconds * 3 + 60, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    (work / "schemathesis.log").write_text(done.stdout, encoding="utf-8")
    told("the fuzzer finds no answer that is off the description", done.returncode == 0, done.stdout[-20_000:])
    return json.loads((work / "counts.json").read_text(encoding="utf-8"))["answers"]


def judge(document, counts):
    by_operation = collections.defaultdict(collections.Counter)
    for line, count in counts.items():
        method, path, status = line.split(" ")
        by_operation[f"{method} {path}"][int(status) // 100] += count
    operations = [f"{method.upper()} {path}" for path, of in document["paths"].items() for method in of]
    lacking = [name for name in operations if not by_operation[name][2]]
    told("every operation did what it is for at least once", not lacking, "\n".join(lacking))
    broken = [line for line in counts if line.rsplit(" ", 1)[1].startswith("5")]
    told("no answer is a 5xx", not broken, "\n".join(broken))
    total = sum(counts.values())
    good = sum(of[2] for of in by_operation.values())
    print(f"{total} requests to {len(operations)} operations, {good} answered with 2xx")


def hold(database, payfence, work, seconds, url):
    """All of it on one database."""
    print(f"-- {database}", flush=True)
    work.mkdir(parents=True)
    arguments = ["--data-dir", str(work / "data"), *(["--database-url", url] if url else [])]
    init = [payfence, "controlplane", "init", *arguments]
    key = subprocess.run(init, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    with open(work / "controlplane.log", "wb") as log:
        command = [payfence, "controlplane", "--listen", "127.0.0.1:0", *arguments]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        address = re.search(r"http://[0-9.:]+", server.stdout.readline()).group()
        document = validate(address)
        state = {"url": address, "key": key, "ids": rows(Caller(address, key))}
        (work / "state.json").write_text(json.dumps(state), encoding="utf-8")
        judge(document, fuzz(address, key, work, seconds))
        healthy = requests.get(f"{address}/healthz", timeout=30).status_code == 200
        told("it serves on afterwards", healthy and server.poll() is None)
    finally:
        server.terminate()
        server.wait(timeout=60)
    log = (work / "controlplane.log").read_text(encoding="utf-8", errors="replace")
    told("its log has neither an error nor a panic", not re.search(r"ERROR|panicked", log), log[-5_000:])


def main():
    payfence, work, seconds = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]), int(sys.argv[3])
    shutil.rmtree(work, ignore_errors=True)
    work = work.resolve()
    hold("SQLite", payfence, work / "sqlite", seconds // 2, None)
    with Cluster() as url:
        hold("PostgreSQL", payfence, work / "postgres", seconds // 2, url)
    sys.exit(1 if FAILED else 0)


main()
