//! What is bought in other ways than a monthly plan in euros by a card that pays: codes, taxes, years, trials, other currencies,
//! banks that take days, cards that want a word with their holder.
//!
//! In: plans, buyers at Stripe's own page. Out: amounts at Stripe, keys here, what a node lets through.
//! Always holds: every amount is read from Stripe's invoice and charge, not from what was asked for.

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};
use stripe_sandbox::{Card, Config};

use super::front::{Front, second};
use super::money::{DAY, MONTH};
use super::place::Place;

impl Front {
    /// The newest invoice, and what of it was charged.
    fn charged(&self) -> (Json, i64) {
        let invoices = self.objects("invoice");
        let invoice = invoices.last().unwrap().clone();
        let charges = self.objects("charge");
        let paid = charges.iter().filter(|charge| charge["paid"] == true);
        (invoice, paid.map(|charge| charge["amount"].as_i64().unwrap()).sum())
    }

    /// A code that buyers can type.
    async fn code(&self, code: &str, coupon: &str) {
        let coupon = self.shop.dashboard("/v1/coupons", coupon).await;
        let form = format!(
            "promotion[type]=coupon&promotion[coupon]={}&code={code}",
            coupon["id"].as_str().unwrap()
        );
        self.shop.dashboard("/v1/promotion_codes", &form).await;
    }

    /// A plan with this price; its id.
    async fn plan(&self, reference: &str, price: Json) -> String {
        let plan = json!({ "reference": reference, "price": price,
            "quota": { "requests": 100, "per": "month" } });
        let path = format!("/v1/sites/{}/plans", self.shop.site);
        self.owner.post(&path, plan).await.expect(201).id()
    }

    /// What a plan is in the connected account, once it was asked for by the pricing page.
    pub async fn begin_with(&self, plan: &str) -> (String, String) {
        self.submit("/pay/shop/checkout", &format!("plan={plan}")).await.expect(200);
        let newest = self.owner.get("/v1/checkouts?limit=1").await.expect(200);
        let text = |name: &str| newest.json["data"][0][name].as_str().unwrap().to_owned();
        (text("session_id"), text("url"))
    }
}

pub async fn codes_take_off_what_they_say(place: Place) {
    let front = Front::open(&place).await;
    let fee = format!("/v1/accounts/{}/stripe_fee", front.shop.account);
    front.owner.post(&fee, json!({ "mode": "test", "hundredths": 250 })).await.expect(200);
    front.code("SPRING", "percent_off=25&duration=once").await;
    front.code("FIVE", "amount_off=123&currency=usd&duration=forever").await;
    front.code("GIFT", "percent_off=100&duration=once").await;
    // The code, what is paid at once, and with the renewal.
    for (code, at_once, renewed) in [("spring", 375, 500), ("FIVE", 377, 377), ("GIFT", 0, 500)] {
        let (session, url) = front.begin().await;
        assert_eq!(front.session(&session)["allow_promotion_codes"], true);
        let wrong = front.at_stripe(&url, "choice=pay&promotion_code=NONE").await;
        assert_eq!((wrong.0, front.session(&session)["status"].clone()), (400, json!("open")));
        let before = front.charged_before();
        let paid = front.at_stripe(&url, &format!("choice=pay&promotion_code={code}")).await;
        assert_eq!(paid.0, 303, "{code}");
        let key = front.claim(&session).await;
        let (invoice, all) = front.charged();
        assert_eq!(front.session(&session)["amount_total"], at_once, "{code}");
        assert_eq!((&invoice["total"], all - before), (&json!(at_once), at_once), "{code}");
        // The platform takes its part of what was paid, not of the list price.
        let fee = (at_once * 250 + 5_000) / 10_000;
        let charges = front.objects("charge");
        if at_once > 0 {
            assert_eq!(charges.last().unwrap()["application_fee_amount"], fee, "{code}");
        }
        assert_eq!(front.verdict(&key).await, "ok", "{code}");
        let subscription = front.session(&session)["subscription"].clone();
        front.shop.tell_all().await;
        front.shop.sandbox.advance(MONTH);
        front.shop.tell_all().await;
        let invoices = front.objects("invoice");
        let newest = invoices.iter().rev().find(|invoice| {
            invoice["parent"]["subscription_details"]["subscription"] == subscription
        });
        assert_eq!(newest.unwrap()["amount_paid"], renewed, "{code}");
        assert_eq!(front.verdict(&key).await, "ok", "{code}");
        let path = format!("/v1/subscriptions/{}", subscription.as_str().unwrap());
        front.shop.dashboard(&path, "cancel_at_period_end=true").await;
    }
    // Through our API a code is taken where that is asked for alone.
    for (more, expected) in
        [(json!({}), json!(null)), (json!({ "allow_promotion_codes": true }), json!(true))]
    {
        let mut wanted =
            json!({ "site_id": front.shop.site, "plan_id": front.shop.small, "mode": "test" });
        for (name, value) in more.as_object().unwrap() {
            wanted[name] = value.clone();
        }
        let made = front.owner.post("/v1/checkouts", wanted).await.expect(201);
        let session = front.session(made.json["session_id"].as_str().unwrap());
        assert_eq!(session["allow_promotion_codes"], expected, "{more}");
    }
}

impl Front {
    fn charged_before(&self) -> i64 {
        if self.objects("invoice").is_empty() { 0 } else { self.charged().1 }
    }
}

/// The sandbox's one rate is 20 %.
pub async fn taxes_come_on_top_or_are_in_it(place: Place) {
    let front = Front::open(&place).await;
    let site = format!("/v1/sites/{}", front.shop.site);
    front.owner.patch(&site, None, json!({ "automatic_tax": true })).await.expect(200);
    // Behaviour, currency; what is paid of 1200, and the tax within that.
    let cases = [
        ("exclusive", "eur", 1440, 240),
        ("inclusive", "eur", 1200, 200),
        // As Stripe's default setting has it: on top of dollars, within euros.
        ("unspecified", "usd", 1440, 240),
        ("unspecified", "eur", 1200, 200),
    ];
    for (number, (behavior, currency, paid, tax)) in cases.into_iter().enumerate() {
        let what = format!("{behavior} {currency}");
        let price = json!({ "amount": 1200, "currency": currency, "interval": "month", "tax_behavior": behavior });
        let plan = front.plan(&format!("taxed-{number}"), price).await;
        let (session, url) = front.begin_with(&plan).await;
        let prices = front.objects("price");
        assert_eq!(prices.last().unwrap()["tax_behavior"], behavior);
        assert_eq!(front.session(&session)["automatic_tax"]["status"], "requires_location_inputs");
        assert_eq!(front.at_stripe(&url, "choice=pay").await.0, 303);
        let key = front.claim(&session).await;
        let done = front.session(&session);
        let (invoice, _) = front.charged();
        for (object, name) in
            [(&done, "amount_total"), (&invoice, "total"), (&invoice, "amount_paid")]
        {
            assert_eq!(object[name], paid, "{what}: {name}");
        }
        assert_eq!(done["total_details"]["amount_tax"], tax, "{what}");
        assert_eq!(invoice["total_excluding_tax"], paid - tax, "{what}");
        let customer = front.object("customer", done["customer"].as_str().unwrap());
        assert_eq!(customer["address"]["country"], "DE", "the address was asked for");
        assert_eq!(front.verdict(&key).await, "ok");
    }
    front.shop.tell_all().await;
    front.shop.sandbox.advance(MONTH);
    let invoices = front.objects("invoice");
    let renewed =
        invoices.iter().filter(|invoice| invoice["billing_reason"] == "subscription_cycle");
    let paid: Vec<&Json> = renewed.map(|invoice| &invoice["amount_paid"]).collect();
    assert_eq!(paid, [1440, 1200, 1440, 1200], "renewals are taxed, too");
    taxes_of_a_known_customer(&front).await;
}

/// One who bought before taxes were computed has no address at Stripe, which asks for it then.
async fn taxes_of_a_known_customer(front: &Front) {
    let site = format!("/v1/sites/{}", front.shop.site);
    front.owner.patch(&site, None, json!({ "automatic_tax": false })).await.expect(200);
    let sold = front.buy("choice=pay").await;
    let bought = front.session(&sold.session);
    assert_eq!(bought["automatic_tax"]["enabled"], false);
    let customers = front.owner.get("/v1/customers?limit=1").await.expect(200);
    let mut wanted = json!({ "site_id": front.shop.site, "plan_id": front.shop.large, "mode": "test",
        "customer_id": customers.json["data"][0]["id"] });
    let made = front.owner.post("/v1/checkouts", wanted.clone()).await.expect(201);
    let session = front.session(made.json["session_id"].as_str().unwrap());
    assert_eq!(
        (&session["customer"], &session["automatic_tax"]["enabled"]),
        (&bought["customer"], &json!(false))
    );
    wanted["automatic_tax"] = true.into();
    let made = front.owner.post("/v1/checkouts", wanted).await.expect(201);
    let session = made.json["session_id"].as_str().unwrap().to_owned();
    assert_eq!(front.session(&session)["customer"], bought["customer"]);
    let url = made.json["url"].as_str().unwrap();
    assert_eq!(front.at_stripe(url, "choice=pay").await.0, 303);
    assert_eq!(front.session(&session)["amount_total"], 2_400);
    let customer = front.object("customer", bought["customer"].as_str().unwrap());
    assert_eq!(customer["address"]["country"], "DE");
}

/// A year is paid from 31 January on; what may be used is counted in months from that day.
pub async fn a_year_is_paid_and_counted_in_months(place: Place) {
    let start = |config: &mut Config| {
        *config = Config::fixed(second("2027-01-31T10:30:00Z"), 7);
    };
    let front = Front::with(&place, start, json!({ "interval": "year" })).await;
    let page = front.see("/pay/shop").await.expect(200);
    assert!(
        page.text.contains("5.00 USD per year") && page.text.contains("100 requests per month")
    );
    let sold = front.buy("choice=pay").await;
    for (at, from, until) in [
        ("2027-01-31T10:30:00Z", "2027-01-31T10:30:00Z", "2027-02-28T10:30:00Z"),
        ("2027-02-28T10:29:59Z", "2027-01-31T10:30:00Z", "2027-02-28T10:30:00Z"),
        ("2027-02-28T10:30:00Z", "2027-02-28T10:30:00Z", "2027-03-31T10:30:00Z"),
        ("2027-03-31T10:29:59Z", "2027-02-28T10:30:00Z", "2027-03-31T10:30:00Z"),
        ("2027-04-30T12:00:00Z", "2027-04-30T10:30:00Z", "2027-05-31T10:30:00Z"),
        ("2027-12-31T23:00:00Z", "2027-12-31T10:30:00Z", "2028-01-31T10:30:00Z"),
        // Into the next paid year, and a February of 29 days.
        ("2028-01-31T10:30:00Z", "2028-01-31T10:30:00Z", "2028-02-29T10:30:00Z"),
        ("2028-02-29T10:30:00Z", "2028-02-29T10:30:00Z", "2028-03-31T10:30:00Z"),
    ] {
        let (limit, span) = front.period_at(&sold.key, second(at)).await;
        assert_eq!((limit, span), (Some(100), (second(from), second(until))), "{at}");
    }
    let known = front.shop.known().await;
    assert_eq!(known.period_start_ms, Some(second("2027-01-31T10:30:00Z") * 1_000));
    assert_eq!(known.period_end_ms, Some(second("2028-01-31T10:30:00Z") * 1_000));
    front.shop.sandbox.advance(DAY * 300);
    front.shop.tell_all().await;
    assert_eq!(front.objects("invoice").len(), 1, "paid once a year");
    assert_eq!(front.verdict(&sold.key).await, "ok");
    front.shop.sandbox.advance(DAY * 66);
    front.shop.tell_all().await;
    assert_eq!((front.objects("invoice").len(), front.charged().1), (2, 1_000));
    let known = front.shop.known().await;
    assert_eq!(known.period_end_ms, Some(second("2029-01-31T10:30:00Z") * 1_000));
    let (_, span) = front.period_at(&sold.key, second("2028-02-10T00:00:00Z")).await;
    assert_eq!(span, (second("2028-01-31T10:30:00Z"), second("2028-02-29T10:30:00Z")));
}

/// What a trial is told of, and what it costs when it is over.
pub async fn a_trial_is_announced_before_it_is_paid(place: Place) {
    let front = Front::with(&place, |_| {}, json!({ "trial_days": 14 })).await;
    assert!(front.see("/pay/shop").await.expect(200).text.contains("14 days free to try"));
    let sold = front.buy("choice=pay").await;
    assert_eq!(
        (front.session(&sold.session)["amount_total"].clone(), front.charged().1),
        (json!(0), 0)
    );
    let subscription = front.object("subscription", &sold.subscription);
    let end_s = subscription["trial_end"].as_i64().unwrap();
    assert_eq!(end_s - front.shop.sandbox.now(), 14 * 86_400);
    front.shop.tell_all().await;
    front.shop.sandbox.advance(DAY * 10);
    front.shop.tell_all().await;
    assert_eq!(front.shop.told("trial.ending").await, 0, "not yet");
    front.shop.sandbox.advance(DAY);
    for _ in 0..2 {
        front.shop.tell_all().await;
        assert_eq!(front.shop.told("trial.ending").await, 1, "three days before, once");
    }
    let mails = "SELECT COUNT(*) AS n FROM mails WHERE template = 'trial_ending'";
    assert_eq!(place.store.raw_number(mails).await, 1);
    assert_eq!((front.verdict(&sold.key).await, front.charged().1), ("ok", 0));
    front.shop.sandbox.advance(DAY * 3 + std::time::Duration::from_secs(7_200));
    front.shop.tell_all().await;
    assert_eq!((front.verdict(&sold.key).await, front.charged().1), ("ok", 500));
    assert_eq!(front.shop.subscription().await.status, "active");
}

/// Amounts of currencies without a hundredth, or with a thousandth.
pub async fn amounts_are_those_of_their_currency(place: Place) {
    let front = Front::open(&place).await;
    for (currency, amount, shown, wrong) in [
        ("jpy", 1_900, "1900 JPY", None),
        ("krw", 9_901, "9901 KRW", None),
        ("kwd", 12_340, "12.340 KWD", Some(12_341)),
        ("tnd", 500, "0.500 TND", Some(505)),
        ("isk", 190_000, "1900.00 ISK", Some(190_050)),
        ("eur", 1_901, "19.01 EUR", None),
    ] {
        let price =
            |amount: i64| json!({ "amount": amount, "currency": currency, "interval": "month" });
        if let Some(wrong) = wrong {
            let plan = json!({ "reference": "wrong", "price": price(wrong),
                "quota": { "requests": 100, "per": "month" } });
            let path = format!("/v1/sites/{}/plans", front.shop.site);
            let refused = front.owner.post(&path, plan).await.expect(422);
            assert_eq!(refused.fields(), ["price.amount"], "{currency}");
        }
        let plan = front.plan(currency, price(amount)).await;
        let page = front.see("/pay/shop").await.expect(200);
        assert!(page.text.contains(&format!(">{shown} per month<")), "{shown}: {}", page.text);
        let before = front.charged_before();
        let (session, url) = front.begin_with(&plan).await;
        assert_eq!(front.at_stripe(&url, "choice=pay").await.0, 303);
        let key = front.claim(&session).await;
        let (invoice, all) = front.charged();
        assert_eq!((&invoice["amount_paid"], all - before), (&json!(amount), amount));
        assert_eq!(invoice["currency"], currency);
        assert_eq!(front.verdict(&key).await, "ok");
    }
}

/// Declined, tried again, confirmed, paid: at each step the buyer has what they paid for and no more.
pub async fn cards_that_do_not_pay_at_once(place: Place) {
    let front = Front::open(&place).await;
    let (session, url) = front.begin().await;
    let nothing = async |after: &str| {
        let page = front.success(&session).await.expect(200);
        assert!(page.text.contains("being confirmed"), "{after}: {}", page.text);
        front.submit("/claim", &format!("session_id={session}")).await.expect(404);
        front.shop.tell_all().await;
        assert_eq!(front.shop.subscriptions().await, [], "{after}");
    };
    for (form, status) in [
        ("choice=declined", 402),
        ("choice=authenticate", 200),
        ("choice=fails", 402),
        ("choice=authenticate", 200),
    ] {
        assert_eq!(front.at_stripe(&url, form).await.0, status, "{form}");
        nothing(form).await;
    }
    assert_eq!(front.at_stripe(&url, "choice=succeeds").await.0, 303);
    let key = front.claim(&session).await;
    assert_eq!((front.verdict(&key).await, front.charged().1), ("ok", 500));
    assert_eq!(front.objects("subscription").len(), 1);

    // At the renewal the holder is asked for, and told where to go.
    let customer = front.session(&session)["customer"].as_str().unwrap().to_owned();
    let account = &front.shop.stripe_account;
    front.shop.sandbox.set_card(account, &customer, Card::NeedsAction).unwrap();
    front.shop.sandbox.advance(MONTH);
    front.shop.tell_all().await;
    assert_eq!(front.verdict(&key).await, "grace");
    assert_eq!(front.shop.told("payment.action_required").await, 1);
    assert_eq!(front.shop.told("payment.failed").await, 1);
    let mails = "SELECT COUNT(*) AS n FROM mails WHERE template LIKE 'payment_%'";
    assert_eq!(place.store.raw_number(mails).await, 1, "one mail, though there are two events");
    let asks = format!("{mails} AND template = 'payment_action_required'");
    assert_eq!(place.store.raw_number(&asks).await, 1, "it says what to do");
    let (invoice, _) = front.charged();
    let page = invoice["hosted_invoice_url"].as_str().unwrap();
    let told = format!(
        "SELECT COUNT(*) AS n FROM events WHERE kind = 'payment.action_required' AND data LIKE '%{page}%'"
    );
    assert_eq!(place.store.raw_number(&told).await, 1, "it says where to confirm");
    assert_eq!(front.at_stripe(page, "choice=pay").await.0, 200);
    front.shop.tell_all().await;
    assert_eq!((front.verdict(&key).await, front.charged().1), ("ok", 1_000));
}

/// However Stripe's two events of an attempt come: together, in either order, twice. Another attempt is another mail.
pub async fn an_attempt_to_be_paid_is_one_mail(place: Place) {
    let front = Front::open(&place).await;
    front.buy("choice=pay").await;
    front.shop.tell_all().await;
    let customer = front.objects("subscription")[0]["customer"].as_str().unwrap().to_owned();
    let account = front.shop.stripe_account.clone();
    front.shop.sandbox.set_card(&account, &customer, Card::NeedsAction).unwrap();
    let mails = async |template: &str| {
        let sql = format!("SELECT COUNT(*) AS n FROM mails WHERE template = '{template}'");
        place.store.raw_number(&sql).await
    };
    let kinds = ["invoice.payment_failed", "invoice.payment_action_required"];
    let id = |event: &Json| event["id"].as_str().unwrap().to_owned();
    let mut seen: BTreeSet<String> = front.shop.events().iter().map(id).collect();
    // The first attempt, and its retries some days later.
    for (step, order, expected) in
        [(MONTH, [0, 1], (1, 0)), (DAY * 2, [1, 0], (1, 1)), (DAY * 2, [0, 0], (2, 1))]
    {
        front.shop.sandbox.advance(step);
        let mut events = front.shop.events();
        events.retain(|event| seen.insert(id(event)));
        let (of_attempt, others): (Vec<_>, Vec<_>) =
            events.iter().partition(|event| kinds.iter().any(|kind| event["type"] == *kind));
        for event in others {
            front.shop.tell(event).await;
        }
        front.shop.settle().await;
        assert_eq!(of_attempt.len(), 2, "{order:?}");
        for index in order {
            let event = of_attempt.iter().find(|event| event["type"] == kinds[index]);
            front.shop.tell(event.unwrap()).await;
            front.shop.settle().await;
        }
        let found = (mails("payment_failed").await, mails("payment_action_required").await);
        assert_eq!(found, expected, "{order:?}");
    }
}

/// A bank takes days; who pays that way gets the key by mail, or learns that nothing was paid.
pub async fn a_bank_that_takes_days(place: Place) {
    let front = Front::open(&place).await;
    for pays in [true, false] {
        let before = front.shop.claims().await;
        let (session, url) = front.begin().await;
        assert_eq!(front.at_stripe(&url, "choice=bank").await.0, 303);
        let page = front.success(&session).await.expect(200);
        assert!(page.text.contains("Some ways of paying take days"), "{}", page.text);
        front.shop.tell_all().await;
        assert_eq!(
            (front.shop.claims().await, front.charged_before()),
            (before, before as i64 * 500)
        );
        let list = front.owner.get("/v1/checkouts?limit=1").await.expect(200);
        assert_eq!(list.json["data"][0]["status"], "waiting");
        front.shop.sandbox.advance(DAY * 4);
        front.shop.sandbox.resolve(&session, pays).unwrap();
        front.shop.tell_all().await;
        if pays {
            assert_eq!(front.shop.told("key.ready").await, 1, "a link is on its way");
            let key = front.claim(&session).await;
            assert_eq!(front.verdict(&key).await, "ok");
        } else {
            let page = front.success(&session).await.expect(200);
            assert!(page.text.contains("The payment was not completed"), "{}", page.text);
            front.submit("/claim", &format!("session_id={session}")).await.expect(404);
            assert_eq!(front.shop.claims().await, before);
        }
    }
}

/// The customer's own page: another card, the end, going on.
pub async fn the_portal_is_the_customers_own(place: Place) {
    let front = Front::open(&place).await;
    let sold = front.buy("choice=once").await;
    let id = front.shop.subscription().await.id;
    let path = format!("/v1/subscriptions/{id}/portal");
    let portal = front.owner.post(&path, json!({ "return_url": "https://shop.example/me" })).await;
    let portal = portal.expect(200).json["url"].as_str().unwrap().to_owned();
    let at_portal = async |form: &str| {
        assert_eq!(front.at_stripe(&portal, form).await.0, 200, "{form}");
        front.shop.tell_all().await;
    };
    at_portal(&format!("choice=cancel&subscription={}", sold.subscription)).await;
    assert!(front.shop.known().await.cancel_at_ms.is_some());
    at_portal(&format!("choice=resume&subscription={}", sold.subscription)).await;
    assert_eq!(front.shop.known().await.cancel_at_ms, None);
    front.shop.sandbox.advance(MONTH);
    front.shop.tell_all().await;
    assert_eq!(front.verdict(&sold.key).await, "grace", "the card paid once");
    at_portal("choice=good_card").await;
    // It is tried again a day after the first time.
    front.shop.sandbox.advance(DAY);
    front.shop.tell_all().await;
    assert_eq!(front.verdict(&sold.key).await, "ok");
}
