"""Holds the sandbox to the official Python client: every call, every object, every parameter name.

In: the sandbox's binary. Out: a line 'ok …' or 'FAILED …' for each check; 1 if any failed.
Always holds: objects are checked against the types of the client itself, not against a copy of them.
"""

import http.server
import json
import queue
import subprocess
import sys
import threading
import time
import typing

import stripe

from shapes import always_there, members, parameter_names
from routes import PARAMETERS

KEY, SECRET = "sk_test_sandbox", "whsec_judge"
failures = 0


def check(name, verdict, detail=""):
    global failures
    if verdict:
        print(f"ok {name}")
    else:
        failures += 1
        print(f"FAILED {name} {detail}")
    return verdict


class Hooks(http.server.BaseHTTPRequestHandler):
    got: "queue.Queue" = queue.Queue()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.got.put((body, self.headers["stripe-signature"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def objects_of(value):
    """All Stripe objects within an answer."""
    if isinstance(value, stripe.StripeObject):
        yield value
        for below in members(value).values():
            yield from objects_of(below)
    elif isinstance(value, list):
        for below in value:
            yield from objects_of(below)


def has_its_fields(name, answer):
    missing = []
    for found in objects_of(answer):
        for field in always_there(found):
            if field not in found:
                missing.append(f"{type(found).__qualname__}.{field}")
            elif found[field] is None:
                missing.append(f"{type(found).__qualname__}.{field} is null")
        kind = members(found).get("object")
        if kind and kind != "list" and type(found) is stripe.StripeObject:
            missing.append(f"{kind} was not parsed as its class")
    check(f"fields {name}", not missing, ", ".join(sorted(set(missing))[:20]))


def refused(name, call, kind, code=None):
    try:
        call()
    except stripe.StripeError as error:
        check(name, isinstance(error, kind) and (code is None or error.code == code), repr(error))
        check(f"{name}: request id", bool(error.request_id), repr(error))
    else:
        check(name, False, "it was not refused")


class Judge:
    def __init__(self, binary):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hooks)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        hooks = f"http://127.0.0.1:{server.server_port}/"
        self.binary = binary
        command = [binary, "--seed", "7", "--webhook", hooks, SECRET, "--connect-webhook", hooks, SECRET]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip()
        addresses = {"api": self.url, "connect": self.url}
        self.client = stripe.StripeClient(KEY, base_addresses=addresses, max_network_retries=0)

    def call(self, name, method, *arguments, **options):
        try:
            answer = method(*arguments, **options)
        except Exception as error:
            check(f"call {name}", False, repr(error))
            raise
        check(f"call {name}", True)
        has_its_fields(name, answer)
        return answer

    def post_page(self, url, form):
        import urllib.parse
        import urllib.request

        class Stay(urllib.request.HTTPRedirectHandler):
            def redirect_request(self, *_):
                return None

        opener = urllib.request.build_opener(Stay)
        try:
            opener.open(url, urllib.parse.urlencode(form).encode())
        except urllib.error.HTTPError as answer:
            return answer.code, answer.headers.get("location")
        return 200, None


def accounts(judge):
    core = judge.client.v2.core
    account = judge.call("v2.core.accounts.create", core.accounts.create, {
        "contact_email": "o@example.com", "dashboard": "full", "identity": {"country": "us"},
        "defaults": {"responsibilities": {"fees_collector": "stripe", "losses_collector": "stripe"}},
        "configuration": {"merchant": {"capabilities": {"card_payments": {"requested": True}}}},
        "include": ["defaults", "configuration.merchant", "requirements", "identity"],
    })
    link = judge.call("v2.core.account_links.create", core.account_links.create, {
        "account": account.id, "use_case": {"type": "account_onboarding", "account_onboarding": {
            "refresh_url": "http://x/again", "return_url": "http://x/back"}},
    })
    check("onboarding page", judge.post_page(link.url, {"choice": "complete"}) == (303, "http://x/back"))
    found = judge.call("v2.core.accounts.retrieve", core.accounts.retrieve, account.id, {"include": ["configuration.merchant"]})
    status = found.configuration.merchant.capabilities.card_payments.status
    check("card_payments active", status == "active", status)
    judge.call("v2.core.accounts.update", core.accounts.update, account.id, {"display_name": "A site"})
    judge.call("v2.core.accounts.list", core.accounts.list, {"limit": 2})
    v1 = judge.client.v1
    judge.call("accounts.retrieve", v1.accounts.retrieve, account.id)
    other = judge.call("accounts.create", v1.accounts.create, {"controller": {"fees": {"payer": "account"},
        "losses": {"payments": "stripe"}, "stripe_dashboard": {"type": "full"}}, "country": "US"})
    judge.call("account_links.create", v1.account_links.create, {"account": other.id, "type": "account_onboarding",
        "refresh_url": "http://x/a", "return_url": "http://x/b"})
    judge.call("accounts.list", v1.accounts.list)
    judge.call("accounts.retrieve_current", v1.accounts.retrieve_current)
    for _ in range(3):
        v1.accounts.create({"country": "US"})
    pages = list(core.accounts.list({"limit": 2}).auto_paging_iter())
    check("v2 pages", len(pages) == 5, len(pages))
    return account.id


def catalogue(judge, options):
    v1 = judge.client.v1
    product = judge.call("products.create", v1.products.create, {"id": "plan_gold", "name": "Gold", "metadata": {"plan_id": "gold"}}, options)
    judge.call("products.update", v1.products.update, product.id, {"description": "The best"}, options)
    judge.call("products.retrieve", v1.products.retrieve, product.id, {}, options)
    judge.call("products.list", v1.products.list, {"active": True}, options)
    price = judge.call("prices.create", v1.prices.create, {"product": product.id, "currency": "usd", "unit_amount": 1900,
        "recurring": {"interval": "month"}, "lookup_key": "gold", "tax_behavior": "exclusive"}, options)
    dear = judge.call("prices.create transfer", v1.prices.create, {"product": product.id, "currency": "usd", "unit_amount": 2900,
        "recurring": {"interval": "month"}, "lookup_key": "gold", "transfer_lookup_key": True}, options)
    judge.call("prices.retrieve", v1.prices.retrieve, price.id, {"expand": ["product"]}, options)
    judge.call("prices.update", v1.prices.update, price.id, {"nickname": "old"}, options)
    judge.call("prices.list", v1.prices.list, {"lookup_keys": ["gold"]}, options)
    meter = judge.call("billing.meters.create", v1.billing.meters.create, {"display_name": "Calls", "event_name": "calls",
        "default_aggregation": {"formula": "sum"}}, options)
    judge.call("billing.meters.retrieve", v1.billing.meters.retrieve, meter.id, {}, options)
    judge.call("billing.meters.list", v1.billing.meters.list, {}, options)
    judge.call("billing.meters.update", v1.billing.meters.update, meter.id, {"display_name": "All calls"}, options)
    metered = judge.call("prices.create metered", v1.prices.create, {"product": product.id, "currency": "usd",
        "unit_amount_decimal": "0.5", "recurring": {"interval": "month", "usage_type": "metered", "meter": meter.id}}, options)
    coupon = judge.call("coupons.create", v1.coupons.create, {"percent_off": 50, "duration": "once"}, options)
    judge.call("coupons.retrieve", v1.coupons.retrieve, coupon.id, {}, options)
    judge.call("coupons.list", v1.coupons.list, {}, options)
    code = judge.call("promotion_codes.create", v1.promotion_codes.create, {"promotion": {"type": "coupon", "coupon": coupon.id},
        "code": "SPRING"}, options)
    judge.call("promotion_codes.list", v1.promotion_codes.list, {"code": "SPRING"}, options)
    judge.call("promotion_codes.update", v1.promotion_codes.update, code.id, {"active": True}, options)
    return price.id, dear.id, metered.id, meter.id


def checkout(judge, options, price, metered):
    v1 = judge.client.v1
    session = judge.call("checkout.sessions.create", v1.checkout.sessions.create, {
        "mode": "subscription", "line_items": [{"price": price, "quantity": 1}, {"price": metered}],
        "subscription_data": {"application_fee_percent": 2.5, "metadata": {"plan": "gold"}},
        "client_reference_id": "buyer", "metadata": {"a": "b"}, "allow_promotion_codes": True,
        "automatic_tax": {"enabled": False}, "payment_method_collection": "always", "ui_mode": "hosted_page",
        "success_url": "http://x/ok?s={CHECKOUT_SESSION_ID}", "cancel_url": "http://x/no",
        "customer_email": "b@example.com", "expires_at": int(time.time()) + 3600,
    }, options)
    check("declined on the page", judge.post_page(session.url, {"choice": "declined"})[0] == 402)
    check("paid on the page", judge.post_page(session.url, {"choice": "pay"}) == (303, f"http://x/ok?s={session.id}"))
    session = judge.call("checkout.sessions.retrieve", v1.checkout.sessions.retrieve, session.id,
        {"expand": ["line_items", "subscription.latest_invoice", "customer"]}, options)
    check("session paid", (session.status, session.payment_status) == ("complete", "paid"), session)
    judge.call("checkout.sessions.list", v1.checkout.sessions.list, {}, options)
    judge.call("checkout.sessions.line_items.list", v1.checkout.sessions.line_items.list, session.id, {}, options)
    judge.call("checkout.sessions.update", v1.checkout.sessions.update, session.id, {"metadata": {"c": "d"}}, options)
    other = v1.checkout.sessions.create({"mode": "subscription", "line_items": [{"price": price, "quantity": 1}],
        "subscription_data": {"trial_period_days": 14, "trial_settings": {"end_behavior": {"missing_payment_method": "cancel"}}},
        "success_url": "http://x"}, options)
    judge.call("checkout.sessions.expire", v1.checkout.sessions.expire, other.id, {}, options)
    taxed = judge.call("checkout.sessions.create taxed", v1.checkout.sessions.create, {"mode": "subscription",
        "line_items": [{"price": price, "quantity": 1}], "automatic_tax": {"enabled": True},
        "customer": session.customer.id, "customer_update": {"address": "auto", "name": "auto"}, "success_url": "http://x"}, options)
    judge.post_page(taxed.url, {"choice": "pay"})
    taxed = judge.call("checkout.sessions.retrieve taxed", v1.checkout.sessions.retrieve, taxed.id, {"expand": ["invoice"]}, options)
    check("tax on top", (taxed.amount_total, taxed.total_details.amount_tax, taxed.invoice.total) == (2280, 380, 2280), taxed)
    judge.call("subscriptions.cancel taxed", v1.subscriptions.cancel, taxed.subscription, {}, options)
    refused("payment_method_types are gone", lambda: v1.checkout.sessions.create({"mode": "subscription",
        "line_items": [{"price": price, "quantity": 1}], "success_url": "http://x", "payment_method_types": ["card"]}, options),
        stripe.InvalidRequestError, "parameter_unknown")
    return session.subscription.id, session.customer.id


def subscriptions(judge, options, subscription, customer, dear):
    v1 = judge.client.v1
    found = judge.call("subscriptions.retrieve", v1.subscriptions.retrieve, subscription,
        {"expand": ["latest_invoice.payments", "customer", "latest_invoice.confirmation_secret"]}, options)
    item = [item for item in found["items"].data if item.price.recurring.usage_type == "licensed"][0]
    judge.call("subscriptions.list", v1.subscriptions.list, {"status": "all", "customer": customer}, options)
    judge.call("subscription_items.list", v1.subscription_items.list, {"subscription": subscription}, options)
    preview = judge.call("invoices.create_preview", v1.invoices.create_preview, {"subscription": subscription,
        "subscription_details": {"items": [{"id": item.id, "price": dear}], "proration_behavior": "always_invoice"}}, options)
    changed = judge.call("subscriptions.update", v1.subscriptions.update, subscription, {
        "items": [{"id": item.id, "price": dear}], "proration_behavior": "always_invoice",
        "payment_behavior": "pending_if_incomplete", "billing_cycle_anchor": {"type": "unchanged"}}, options)
    check("changed as previewed", changed["items"].data[0].price.id == dear and preview.total > 0, changed)
    judge.call("subscriptions.update cancel", v1.subscriptions.update, subscription, {"cancel_at_period_end": True}, options)
    judge.call("subscriptions.update resume", v1.subscriptions.update, subscription, {"cancel_at_period_end": False}, options)
    judge.call("subscriptions.update pause", v1.subscriptions.update, subscription,
        {"pause_collection": {"behavior": "void"}}, options)
    judge.call("subscriptions.update unpause", v1.subscriptions.update, subscription, {"pause_collection": ""}, options)
    judge.call("billing_portal.sessions.create", v1.billing_portal.sessions.create, {"customer": customer,
        "return_url": "http://x", "flow_data": {"type": "subscription_cancel", "subscription_cancel": {"subscription": subscription}}}, options)
    return found.latest_invoice


def money(judge, options, invoice, customer):
    v1 = judge.client.v1
    judge.call("invoices.retrieve", v1.invoices.retrieve, invoice.id, {"expand": ["payments"]}, options)
    judge.call("invoices.list", v1.invoices.list, {"customer": customer}, options)
    judge.call("invoices.line_items.list", v1.invoices.line_items.list, invoice.id, {}, options)
    intent = invoice.payments.data[0].payment.payment_intent
    found = judge.call("invoice_payments.list", v1.invoice_payments.list,
        {"payment": {"type": "payment_intent", "payment_intent": intent}}, options)
    check("from intent to invoice", found.data[0].invoice == invoice.id, found)
    judge.call("invoice_payments.retrieve", v1.invoice_payments.retrieve, found.data[0].id, {}, options)
    intent = judge.call("payment_intents.retrieve", v1.payment_intents.retrieve, intent, {"expand": ["latest_charge"]}, options)
    judge.call("payment_intents.list", v1.payment_intents.list, {}, options)
    judge.call("charges.retrieve", v1.charges.retrieve, intent.latest_charge.id, {}, options)
    judge.call("charges.list", v1.charges.list, {}, options)
    refund = judge.call("refunds.create", v1.refunds.create, {"payment_intent": intent.id, "amount": 100,
        "reason": "requested_by_customer", "refund_application_fee": True}, options)
    judge.call("refunds.retrieve", v1.refunds.retrieve, refund.id, {}, options)
    judge.call("refunds.list", v1.refunds.list, {}, options)
    judge.call("disputes.list", v1.disputes.list, {}, options)
    fees = judge.call("application_fees.list", v1.application_fees.list)
    judge.call("application_fees.retrieve", v1.application_fees.retrieve, fees.data[0].id)


def sold_by_card(judge, options, price, method):
    """A subscription that a card of Stripe's test mode has paid for: the charge, and its invoice."""
    v1 = judge.client.v1
    customer = v1.customers.create({"email": "d@example.com", "payment_method": method}, options)
    card = v1.payment_methods.list({"customer": customer.id}, options).data[0]
    v1.customers.update(customer.id, {"invoice_settings": {"default_payment_method": card.id}}, options)
    subscription = v1.subscriptions.create({"customer": customer.id, "items": [{"price": price}],
        "payment_behavior": "error_if_incomplete", "expand": ["latest_invoice.payments"]}, options)
    intent = subscription.latest_invoice.payments.data[0].payment.payment_intent
    return v1.payment_intents.retrieve(intent, {"expand": ["latest_charge"]}, options).latest_charge, subscription.latest_invoice


def invoice_of(judge, options, intent):
    """What a refund or a dispute is about, found as the control plane finds it."""
    payments = judge.call("invoice_payments.list of an intent", judge.client.v1.invoice_payments.list,
        {"payment": {"type": "payment_intent", "payment_intent": intent}}, options)
    return payments.data[0].invoice


def disputes(judge, options, price):
    v1 = judge.client.v1
    for word, evidence, ended in (("won", "winning_evidence", "won"), ("lost", "losing_evidence", "lost"), ("closed", None, "lost")):
        charge, invoice = sold_by_card(judge, options, price, "pm_card_createDispute")
        found = judge.call(f"disputes.list {word}", v1.disputes.list, {"charge": charge.id}, options).data[0]
        check(f"dispute of its charge, {word}", (found.amount, found.status) == (charge.amount, "needs_response"), found)
        dispute = judge.call(f"disputes.retrieve {word}", v1.disputes.retrieve, found.id,
            {"expand": ["charge", "payment_intent"]}, options)
        check(f"dispute to invoice, {word}", invoice_of(judge, options, dispute.payment_intent.id) == invoice.id, dispute)
        refused(f"a disputed charge is not refunded, {word}", lambda: v1.refunds.create({"charge": charge.id}, options),
            stripe.InvalidRequestError, "charge_disputed")
        if evidence is None:
            judge.call("disputes.close", v1.disputes.close, dispute.id, {}, options)
        else:
            judge.call(f"disputes.update {word}", v1.disputes.update, dispute.id,
                {"evidence": {"uncategorized_text": evidence}, "metadata": {"a": "b"}}, options)
        check(f"dispute {word}", v1.disputes.retrieve(dispute.id, {}, options).status == ended)
    charge, _ = sold_by_card(judge, options, price, "pm_card_createDisputeInquiry")
    inquiry = judge.call("disputes.list inquiry", v1.disputes.list, {"payment_intent": charge.payment_intent}, options).data[0]
    check("inquiry", inquiry.status == "warning_needs_response", inquiry)
    told = list(v1.events.list({"types": ["charge.dispute.*"]}, options).auto_paging_iter())
    has_its_fields("events of disputes", told)
    kinds = {event.type.removeprefix("charge.dispute.") for event in told}
    check("events of disputes", kinds == {"created", "funds_withdrawn", "funds_reinstated", "closed"}, kinds)


def refunds(judge, options, price):
    v1 = judge.client.v1
    charge, invoice = sold_by_card(judge, options, price, "pm_card_visa")
    part = judge.call("refunds.create part", v1.refunds.create, {"charge": charge.id, "amount": 100, "metadata": {"a": "b"}}, options)
    judge.call("refunds.update", v1.refunds.update, part.id, {"metadata": {"c": "d"}}, options)
    rest = judge.call("refunds.create rest", v1.refunds.create, {"charge": charge.id}, options)
    refused("no more than was paid", lambda: v1.refunds.create({"charge": charge.id}, options),
        stripe.InvalidRequestError, "charge_already_refunded")
    listed = judge.call("refunds.list of a charge", v1.refunds.list, {"charge": charge.id}, options)
    check("both refunds", {one.id for one in listed.data} == {part.id, rest.id}, listed)
    charge = judge.call("charges.retrieve refunded", v1.charges.retrieve, charge.id, {"expand": ["refunds", "payment_intent"]}, options)
    check("charge refunded", charge.refunded and charge.amount_refunded == charge.amount, charge)
    check("refund to invoice", invoice_of(judge, options, charge.payment_intent.id) == invoice.id)
    told = list(v1.events.list({"types": ["refund.*", "charge.refunded"]}, options).auto_paging_iter())
    has_its_fields("events of refunds", told)
    check("events of refunds", {"refund.created", "charge.refunded"} <= {event.type for event in told}, told)


def usage(judge, options, meter, customer):
    v1 = judge.client.v1
    now = int(time.time())
    event = {"event_name": "calls", "identifier": "sub/period/100", "timestamp": now,
        "payload": {"stripe_customer_id": customer, "value": "100"}}
    judge.call("billing.meter_events.create", v1.billing.meter_events.create, event, options)
    refused("an identifier counts once", lambda: v1.billing.meter_events.create(event, options), stripe.InvalidRequestError)
    start = now - now % 60 - 3600
    found = judge.call("billing.meters.event_summaries.list", v1.billing.meters.event_summaries.list, meter,
        {"customer": customer, "start_time": start, "end_time": start + 7200}, options)
    check("summary", found.data[0].aggregated_value == 100, found)
    judge.call("billing.meter_event_adjustments.create", v1.billing.meter_event_adjustments.create,
        {"event_name": "calls", "type": "cancel", "cancel": {"identifier": "sub/period/100"}}, options)


def clocks(judge, options, price):
    v1 = judge.client.v1
    clocks = v1.test_helpers.test_clocks
    start = 1_769_860_800
    clock = judge.call("test_clocks.create", clocks.create, {"frozen_time": start, "name": "c"}, options)
    customer = judge.call("customers.create", v1.customers.create, {"email": "c@example.com", "test_clock": clock.id,
        "payment_method": "pm_card_visa", "metadata": {"a": "b"}}, options)
    methods = judge.call("payment_methods.list", v1.payment_methods.list, {"customer": customer.id}, options)
    judge.call("customers.update", v1.customers.update, customer.id,
        {"invoice_settings": {"default_payment_method": methods.data[0].id}}, options)
    judge.call("customers.retrieve", v1.customers.retrieve, customer.id, {}, options)
    judge.call("customers.list", v1.customers.list, {"test_clock": clock.id}, options)
    subscription = judge.call("subscriptions.create", v1.subscriptions.create,
        {"customer": customer.id, "items": [{"price": price}], "payment_behavior": "error_if_incomplete"}, options)
    judge.call("test_clocks.advance", clocks.advance, clock.id, {"frozen_time": start + 29 * 86_400}, options)
    judge.call("test_clocks.retrieve", clocks.retrieve, clock.id, {}, options)
    found = v1.subscriptions.retrieve(subscription.id, {}, options)
    check("renewed on its clock", found["items"].data[0].current_period_start == start + 28 * 86_400, found)
    card = judge.call("payment_methods.attach", v1.payment_methods.attach, "pm_card_chargeCustomerFail",
        {"customer": customer.id}, options)
    judge.call("payment_methods.detach", v1.payment_methods.detach, methods.data[0].id, {}, options)
    v1.customers.update(customer.id, {"invoice_settings": {"default_payment_method": card.id}}, options)
    clocks.advance(clock.id, {"frozen_time": start + 60 * 86_400}, options)
    found = v1.subscriptions.retrieve(subscription.id, {"expand": ["latest_invoice"]}, options)
    check("past due", found.status == "past_due", found.status)
    refused("pay with a card that is declined", lambda: v1.invoices.pay(found.latest_invoice.id, {}, options),
        stripe.CardError, "card_declined")
    has_its_fields("invoice that failed", found)
    judge.call("invoices.void_invoice", v1.invoices.void_invoice, found.latest_invoice.id, {}, options)
    judge.call("subscriptions.cancel", v1.subscriptions.cancel, subscription.id, {"invoice_now": True, "prorate": True}, options)
    judge.call("customers.delete", v1.customers.delete, customer.id, {}, options)
    judge.call("test_clocks.delete", clocks.delete, clock.id, {}, options)


def events(judge, options):
    v1 = judge.client.v1
    page = judge.call("events.list", v1.events.list, {"limit": 5, "types": ["invoice.*", "customer.subscription.updated"]}, options)
    judge.call("events.retrieve", v1.events.retrieve, page.data[0].id, {}, options)
    every = list(v1.events.list({"limit": 7}, options).auto_paging_iter())
    check("pages of events", len(every) > 14 and len({event.id for event in every}) == len(every), len(every))
    has_its_fields("events", every)
    endpoint = judge.call("webhook_endpoints.create", v1.webhook_endpoints.create, {"url": "http://127.0.0.1:9/",
        "enabled_events": ["invoice.paid"], "connect": True, "api_version": stripe.api_version})
    judge.call("webhook_endpoints.update", v1.webhook_endpoints.update, endpoint.id, {"disabled": True})
    judge.call("webhook_endpoints.list", v1.webhook_endpoints.list)
    judge.call("webhook_endpoints.delete", v1.webhook_endpoints.delete, endpoint.id)


def webhooks(judge, account):
    bodies = []
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            bodies.append(Hooks.got.get(timeout=0.5))
        except queue.Empty:
            break
    check("webhooks came", len(bodies) > 20, len(bodies))
    verified = 0
    for body, header in bodies:
        try:
            event = stripe.Webhook.construct_event(body, header, SECRET)
            verified += members(event).get("account") in (account, None) or event["type"].startswith("account.")
        except stripe.SignatureVerificationError as error:
            check("signature", False, repr(error))
    check("every signature verified by the client", verified == len(bodies), f"{verified} of {len(bodies)}")
    header = stripe.WebhookSignature.generate_signature_header(
        payload='{"id":"evt_1"}', secret="whsec_test", timestamp=1_700_000_000)
    done = subprocess.run([judge.binary, "--verify", "whsec_test", header, "1700000000"], input='{"id":"evt_1"}', text=True)
    check("the client's signature verified by the sandbox", done.returncode == 0, header)
    done = subprocess.run([judge.binary, "--verify", "whsec_other", header, "1700000000"], input='{"id":"evt_1"}', text=True)
    check("and not with another secret", done.returncode == 1, header)


def oauth(judge, options):
    import urllib.parse

    code, location = judge.post_page(f"{judge.url}/oauth/authorize", {"client_id": "ca_sandbox", "redirect_uri": "http://x/cb",
        "state": "s", "choice": "connect"})
    given = urllib.parse.parse_qs(urllib.parse.urlparse(location or "").query)
    check("oauth page", code == 303 and given.get("state") == ["s"], location)
    token = judge.client.oauth.token({"grant_type": "authorization_code", "code": given["code"][0]})
    check("oauth.token", token.stripe_user_id.startswith("acct_"), token)
    gone = judge.client.oauth.deauthorize({"client_id": "ca_sandbox", "stripe_user_id": token.stripe_user_id})
    check("oauth.deauthorize", gone.stripe_user_id == token.stripe_user_id, gone)
    refused("a lost account", lambda: judge.client.v1.products.list({}, {"stripe_account": token.stripe_user_id}), stripe.PermissionError)


def errors(judge, options):
    v1 = judge.client.v1
    wrong = stripe.StripeClient("sk_test_wrong", base_addresses={"api": judge.url})
    refused("a wrong key", lambda: wrong.v1.products.list(), stripe.AuthenticationError)
    refused("a missing object", lambda: v1.products.retrieve("prod_x"), stripe.InvalidRequestError, "resource_missing")
    key = {"idempotency_key": "judge-1", **options}
    first = v1.products.create({"name": "once"}, key)
    again = v1.products.create({"name": "once"}, key)
    replayed = again.last_response.headers.get("idempotent-replayed")
    check("idempotency replays", first.id == again.id and replayed == "true", again)
    refused("idempotency with other parameters", lambda: v1.products.create({"name": "twice"}, key), stripe.IdempotencyError)


def parameters(judge):
    told = json.loads(subprocess.run([judge.binary, "--parameters"], capture_output=True, text=True, check=True).stdout)
    for route, names in sorted(told.items()):
        if route not in PARAMETERS:
            check(f"parameters {route}", False, "no typed parameters are named for it in routes.py")
            continue
        where = PARAMETERS[route]
        if where is None:
            check(f"parameters {route}", not names, names)
            continue
        known = parameter_names(where)
        # What `next_page_url` of v2 holds is the server's own matter.
        own = {"page"} if "/v2/" in route and route.startswith("GET") else set()
        unknown = [name for name in names if name not in known | own]
        check(f"parameters {route}", not unknown, unknown)
    for route in sorted(set(PARAMETERS) - set(told)):
        check(f"parameters {route}", False, "there is no such route")


def main():
    judge = Judge(sys.argv[1])
    try:
        parameters(judge)
        account = accounts(judge)
        options = {"stripe_account": account}
        price, dear, metered, meter = catalogue(judge, options)
        subscription, customer = checkout(judge, options, price, metered)
        invoice = subscriptions(judge, options, subscription, customer, dear)
        money(judge, options, invoice, customer)
        disputes(judge, options, price)
        refunds(judge, options, price)
        usage(judge, options, meter, customer)
        clocks(judge, options, price)
        events(judge, options)
        errors(judge, options)
        oauth(judge, options)
        webhooks(judge, account)
    except Exception as error:
        check("the way through", False, repr(error))
        raise
    finally:
        judge.process.terminate()
        judge.process.wait()
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
