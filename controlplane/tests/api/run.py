"""The API held to its own description: an independent validator, then a fuzzer that is driven by it.

Use: run.py PAYFENCE STRIPE_SANDBOX FOLDER SECONDS, with a Python that has requirements.txt. FOLDER is made anew.
In: the built binaries. Out: a line 'ok NAME' or 'FAILED NAME' for each check; code 1 where one failed.
Always holds: the control plane has a port and a database of its own, SQLite first, then PostgreSQL, and ends with this; the
fuzzer has half of SECONDS on each.
"""

import collections
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import time

import openapi_spec_validator
import requests

from cluster import Cluster

HERE = pathlib.Path(__file__).resolve().parent
SECRET = "whsec_fuzzed"
# It would take away what the others work on, so it comes last, once, and not from the fuzzer.
LAST = ("DELETE", "/v1/stripe/account")
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


def waited(what, look):
    """What `look` finds, within a minute."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"waited a minute in vain for {what}")


def sold(caller, ids):
    """What there is once something was bought at the stand-in for Stripe."""
    account = caller.session.post(
        f"{caller.url}/v1/stripe/account", json={"mode": "test", "email": "held@example.com", "country": "DE"}, timeout=30
    )
    assert account.status_code == 200, account.text
    onboarded = requests.post(account.json()["onboarding_url"], allow_redirects=False, timeout=30)
    assert onboarded.status_code < 400, onboarded.text
    price = {"amount": 1000, "currency": "eur", "interval": "month"}
    plan = {"reference": "sold", "quota": {"requests": 1000, "per": "month"}, "price": price}
    plan_id = caller.made(f"/v1/sites/{ids['site_id']}/plans", plan)
    dearer = dict(plan, reference="dearer", price=dict(price, amount=2000))
    ids["bought_plan_id"] = caller.made(f"/v1/sites/{ids['site_id']}/plans", dearer)
    checkout = {"site_id": ids["site_id"], "plan_id": plan_id, "mode": "test"}
    ids["checkout_id"] = caller.made("/v1/checkouts", checkout)
    shown = f"{caller.url}/v1/checkouts/{ids['checkout_id']}"
    page = caller.session.get(shown, timeout=30).json()["url"]
    paid = requests.post(page, data={"choice": "pay"}, allow_redirects=False, timeout=30)
    assert paid.status_code < 400, paid.text
    look = lambda: caller.session.get(shown, timeout=30).json().get("subscription_id")
    ids["bought_subscription_id"] = waited("what was bought", look)
    events = lambda: caller.session.get(f"{caller.url}/v1/stripe/events", timeout=30).json()["data"]
    ids["stripe_event_id"] = waited("an event of Stripe's", events)[0]["id"]
    ids["account_id"] = caller.session.get(f"{caller.url}/v1/account", timeout=30).json()["id"]


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


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
        "-H", f"Authorization: Bearer {key}", "--phases", "examples,coverage,fuzzing", "--workers", "1",
        "--max-time", str(seconds), "--continue-on-failure", "--generation-database", "none",
        "--suppress-health-check", "all", "--request-timeout", "30", "--warnings", "off",
        "--exclude-name", " ".join(LAST),
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


def end(caller, counts):
    """What comes last."""
    mode = {"mode": "test"}
    # Another account is connected where none is.
    for (method, path), query, body in [(LAST, mode, None), (("POST", "/v1/stripe/oauth/authorize"), None, mode)]:
        answer = caller.session.request(method, caller.url + path, params=query, json=body, timeout=30)
        print(f"{method} {path} {answer.status_code}")
        counts[f"{method} {path} {answer.status_code}"] = 1


def hold(database, payfence, sandbox, work, seconds, url):
    """All of it on one database."""
    print(f"-- {database}", flush=True)
    work.mkdir(parents=True)
    port = free_port()
    webhooks = ["--connect-webhook", f"http://127.0.0.1:{port}/stripe/webhooks/test", SECRET]
    stripe = subprocess.Popen([sandbox, "--key", "sk_test_fuzzed", *webhooks], stdout=subprocess.PIPE, text=True)
    (work / "key").write_text("sk_test_fuzzed", encoding="utf-8")
    (work / "secret").write_text(SECRET, encoding="utf-8")
    try:
        selling = [
            "--stripe-secret-key-file", str(work / "key"), "--stripe-webhook-secret-file", str(work / "secret"),
            "--stripe-client-id", "ca_sandbox", "--stripe-base-url", stripe.stdout.readline().strip(), "--public-url", f"http://127.0.0.1:{port}",
        ]
        serve(payfence, work, seconds, url, ["--listen", f"127.0.0.1:{port}", *selling])
    finally:
        stripe.terminate()
        stripe.wait(timeout=60)


def serve(payfence, work, seconds, url, flags):
    arguments = ["--data-dir", str(work / "data"), *(["--database-url", url] if url else [])]
    init = [payfence, "controlplane", "init", *arguments]
    key = subprocess.run(init, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    with open(work / "controlplane.log", "wb") as log:
        command = [payfence, "controlplane", *flags, *arguments]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        address = re.search(r"http://[0-9.:]+", server.stdout.readline()).group()
        document = validate(address)
        caller = Caller(address, key)
        state = {"url": address, "key": key, "ids": rows(caller)}
        sold(caller, state["ids"])
        (work / "state.json").write_text(json.dumps(state), encoding="utf-8")
        counts = fuzz(address, key, work, seconds)
        end(caller, counts)
        judge(document, counts)
        healthy = requests.get(f"{address}/healthz", timeout=30).status_code == 200
        told("it serves on afterwards", healthy and server.poll() is None)
    finally:
        server.terminate()
        server.wait(timeout=60)
    log = (work / "controlplane.log").read_text(encoding="utf-8", errors="replace")
    told("its log has neither an error nor a panic", not re.search(r"ERROR|panicked", log), log[-5_000:])


def main():
    payfence, sandbox = (pathlib.Path(path).resolve() for path in sys.argv[1:3])
    work, seconds = pathlib.Path(sys.argv[3]), int(sys.argv[4])
    shutil.rmtree(work, ignore_errors=True)
    work = work.resolve()
    hold("SQLite", payfence, sandbox, work / "sqlite", seconds // 2, None)
    with Cluster() as url:
        hold("PostgreSQL", payfence, sandbox, work / "postgres", seconds // 2, url)
    sys.exit(1 if FAILED else 0)


main()
