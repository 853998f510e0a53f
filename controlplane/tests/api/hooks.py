"""What schemathesis does with this API before each request: real ids in place of made-up ones.

In: cases made from /openapi.json; the file that PAYFENCE_API_STATE names, with an address, a key and ids of rows.
Out: the same cases naming rows that there are; counts of answers by operation, and of fields that were refused though the
description allows them, written when the run ends.
Always holds: what is bad on purpose stays so; rows that others need are never archived, revoked or rotated: whatever
ends a row is given one of its own.
"""

import atexit
import collections
import itertools
import json
import os
import threading

import requests
import schemathesis
from schemathesis.generation import GenerationMode

with open(os.environ["PAYFENCE_API_STATE"], encoding="utf-8") as file:
    STATE = json.load(file)
IDS = STATE["ids"]
NUMBERS = itertools.count()
COUNTS = collections.Counter()
REFUSED = collections.Counter()
LOCK = threading.Lock()

SUBSCRIPTION = {name: IDS[name] for name in ("site_id", "plan_id", "customer_id")}
# Operations that end a row, and how to make one for them: where it is posted, and what.
ENDING = {
    ("DELETE", "/v1/admin_keys/{admin_key_id}"): ("admin_key_id", "/v1/admin_keys", {"label": "k", "role": "viewer"}),
    ("DELETE", "/v1/customers/{customer_id}"): ("customer_id", "/v1/customers", {}),
    ("DELETE", "/v1/members/{member_id}"): ("member_id", "/v1/members", {"email": "#@x.example", "role": "viewer"}),
    ("DELETE", "/v1/nodes/{node_id}"): ("node_id", "/v1/nodes", {"name": "n#"}),
    ("DELETE", "/v1/nodes/{node_id}/tokens/{node_token_id}"):
        ("node_token_id", f"/v1/nodes/{IDS['node_id']}/tokens", {}),
    ("POST", "/v1/nodes/{node_id}/declare_dead"): ("node_id", "/v1/nodes", {"name": "n#"}),
    ("DELETE", "/v1/sites/{site_id}"): ("site_id", "/v1/sites", {"slug": "s#", "origin": "https://x.example"}),
    ("DELETE", "/v1/sites/{site_id}/plans/{plan_id}"): ("plan_id", f"/v1/sites/{IDS['site_id']}/plans", {}),
    ("DELETE", "/v1/sites/{site_id}/resources/{resource_id}"):
        ("resource_id", f"/v1/sites/{IDS['site_id']}/resources", {"pattern": "/made/#"}),
    ("DELETE", "/v1/subscriptions/{subscription_id}"): ("subscription_id", "/v1/subscriptions", SUBSCRIPTION),
    ("DELETE", "/v1/tokens/{token_id}"):
        ("token_id", "/v1/tokens", {"subscription_id": IDS["subscription_id"]}),
    ("POST", "/v1/tokens/{token_id}/rotate"):
        ("token_id", "/v1/tokens", {"subscription_id": IDS["subscription_id"]}),
}
# They are about what was bought.
BOUGHT = [f"/v1/subscriptions/{{subscription_id}}/{what}" for what in ("change", "preview", "cancel", "resume", "portal")]
# What a PATCH must leave as it is.
STAYS = ("slug", "reference", "site_id", "customer_id")


def fresh(path, body):
    """A row of its own for whoever ends it."""
    number = str(next(NUMBERS))
    body = {name: value.replace("#", number) if isinstance(value, str) else value for name, value in body.items()}
    headers = {"Authorization": f"Bearer {STATE['key']}"}
    answer = requests.post(STATE["url"] + path, json=body, headers=headers, timeout=30)
    assert answer.status_code == 201, f"{path}: {answer.status_code} {answer.text}"
    return answer.json()["id"]


def is_good(case, part):
    """Whether a part of the case is as the schema says."""
    component = next((info for kind, info in case.meta.components.items() if kind.value == part), None)
    return component is None or component.mode == GenerationMode.POSITIVE


def mend_body(case, number):
    """Names rows that there are, and no others."""
    body = case.body
    for name, value in IDS.items():
        if name in body and (body[name] is not None or number % 2):
            body[name] = value
    if case.method.upper() == "PATCH" and number % 4:
        for name in STAYS:
            body.pop(name, None)
    if "resources" in body and number % 4:
        body["resources"] = ["/api/*"]


def mend_purchase(case, number):
    """What was bought stays, and moves to a plan that has a price; what is sold has a test mode alone."""
    body, path = case.body, case.operation.path
    if "mode" in body and number % 4:
        body["mode"] = "test"
    if path in BOUGHT and "plan_id" in body and number % 4:
        body["plan_id"] = IDS["bought_plan_id"]
        body.pop("at", None)
    if path.endswith("/cancel"):
        body["when"] = "period_end"
    if path == "/v1/checkouts" and number % 4:
        body["plan_id"] = IDS["bought_plan_id"]
        body.pop("customer_id", None)


@schemathesis.hook
def before_call(context, case, kwargs):
    operation = (case.method.upper(), case.operation.path)
    number = next(NUMBERS)
    if case.path_parameters and is_good(case, "path"):
        for name in case.path_parameters:
            case.path_parameters[name] = IDS[name]
        if case.operation.path in BOUGHT:
            case.path_parameters["subscription_id"] = IDS["bought_subscription_id"]
        if operation in ENDING:
            name, path, body = ENDING[operation]
            case.path_parameters[name] = fresh(path, body)
    if case.query and is_good(case, "query"):
        for name in list(case.query):
            if name in IDS and number % 4:
                case.query[name] = IDS[name]
        # An entry to go on after is one of the same list; most pages are first ones.
        if number % 4:
            case.query.pop("starting_after", None)
    if case.headers.get("If-Match") is not None and number % 4:
        case.headers["If-Match"] = "*"
    if isinstance(case.body, dict) and is_good(case, "body"):
        mend_body(case, number)
        mend_purchase(case, number)


@schemathesis.hook
def after_call(context, case, response):
    with LOCK:
        operation = f"{case.method.upper()} {case.operation.path}"
        COUNTS[f"{operation} {response.status_code}"] += 1
        if response.status_code == 422 and case.meta.generation.mode == GenerationMode.POSITIVE:
            for error in response.json().get("errors", []):
                REFUSED[f"{operation} {error['field']}: {error['message']}"] += 1


@atexit.register
def write():
    """For whoever started the run."""
    with open(os.environ["PAYFENCE_API_COUNTS"], "w", encoding="utf-8") as file:
        json.dump({"answers": COUNTS, "refused": dict(REFUSED.most_common(100))}, file, indent=1)
