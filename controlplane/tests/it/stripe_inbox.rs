//! What Stripe tells: who is believed, what is kept, who settles it.

use std::sync::Arc;

use axum::body::Body;
use http::{Request, StatusCode};
use serde_json::{Value as Json, json};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tower::ServiceExt as _;

use crate::billing::webhooks::{BODY_BYTES_MAX, WebhookSecrets, Webhooks, header_of};
use crate::storage::{Arrived, EventState, JobClaim, StripeAccount, StripeEvent};
use crate::world::{System, World};

use super::client::Client;
use super::place::{Place, actor};

pub const SECRET: &str = "whsec_of_the_test_mode";
const LIVE_SECRET: &str = "whsec_of_the_live_mode";

/// An endpoint with what carries its events on.
pub struct Endpoint {
    pub webhooks: Webhooks,
    world: Arc<dyn World>,
    carrying: JoinHandle<()>,
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.carrying.abort();
    }
}

impl Endpoint {
    pub fn of(place: &Place) -> Self {
        let secrets = WebhookSecrets::default().with_test(&format!("whsec_old\n{SECRET}")).unwrap();
        let secrets = Arc::new(secrets.with_live(LIVE_SECRET).unwrap());
        let arrived = Arc::new(Notify::new());
        let (webhooks, carry) = Webhooks::new(place.store.clone(), secrets, arrived);
        let world = place.store.world().clone();
        Self { webhooks, world, carrying: tokio::spawn(carry) }
    }

    pub async fn send(&self, mode: &str, header: &str, body: Vec<u8>) -> (StatusCode, String) {
        let request = Request::post(format!("/stripe/webhooks/{mode}"))
            .header("stripe-signature", header)
            .body(Body::from(body))
            .unwrap();
        let answer = self.webhooks.router().oneshot(request).await.unwrap();
        let status = answer.status();
        let body = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
        let body: Json = serde_json::from_slice(&body).unwrap();
        (status, body["outcome"].as_str().unwrap().to_owned())
    }

    pub async fn tell(&self, event: &Json) -> (StatusCode, String) {
        let body = event.to_string().into_bytes();
        let header = header_of(SECRET, self.world.now_ms() / 1_000, &body);
        self.send("test", &header, body).await
    }

    fn count(&self, outcome: &str) -> u64 {
        let counted = self.webhooks.counters().all().find(|(word, _)| *word == outcome);
        counted.unwrap_or_else(|| panic!("no counter {outcome}")).1
    }
}

pub fn event(id: &str, kind: &str, object: &str) -> Json {
    json!({
        "id": id, "object": "event", "type": kind, "account": "acct_1", "livemode": false,
        "created": System.now_ms() / 1_000, "data": { "object": { "id": object, "object": "any" } },
    })
}

/// Our account, which has connected `acct_1` in both modes.
pub async fn connect(place: &Place) -> String {
    let account = place.owner().await.get("/v1/account").await.id();
    connect_as(place, &account, "acct_1").await;
    account
}

/// An account of ours, connected in both modes.
pub async fn connect_as(place: &Place, account: &str, stripe_id: &str) {
    let mut change = place.store.change(account, actor()).await.unwrap();
    for mode in ["test", "live"] {
        let row = StripeAccount {
            mode: mode.to_owned(),
            stripe_id: stripe_id.to_owned(),
            status: "ready".to_owned(),
            settings: "{}".to_owned(),
            ..StripeAccount::default()
        };
        change.insert(row).await.unwrap();
    }
    change.commit().await.unwrap();
}

/// An event of a caller's account, which names a Stripe account of its own.
pub async fn told(place: &Place, client: &Client) -> String {
    let account = client.get("/v1/account").await.id();
    let known = place.store.tenant(&account).all::<StripeAccount>(10, |query| query).await.unwrap();
    if known.is_empty() {
        connect_as(place, &account, "acct_told").await;
    }
    let stripe_account = known.first().map_or("acct_told", |row| row.stripe_id.as_str());
    let arrived = Arrived {
        mode: "test",
        stripe_account: stripe_account.to_owned(),
        event_id: "evt_told".to_owned(),
        kind: "invoice.paid".to_owned(),
        livemode: false,
        event_at_s: 0,
        object_id: Some("in_told".to_owned()),
        object_kind: None,
        subject: Some("invoice/in_told".to_owned()),
    };
    place.store.keep_stripe_events(&[arrived]).await.unwrap();
    kept(place, &account).await.remove(0).id
}

async fn kept(place: &Place, account: &str) -> Vec<StripeEvent> {
    place.store.tenant(account).all::<StripeEvent>(20_000, |query| query).await.unwrap()
}

pub async fn only_what_stripe_signed_for_us_is_kept(place: Place) {
    let account = connect(&place).await;
    let endpoint = Endpoint::of(&place);
    let now_s = System.now_ms() / 1_000;
    let good = event("evt_1", "customer.subscription.updated", "sub_1");
    let body = good.to_string().into_bytes();
    let with = |name: &str, value: Json| {
        let mut changed = good.clone();
        changed[name] = value;
        changed.to_string().into_bytes()
    };
    let large = vec![b' '; BODY_BYTES_MAX + 1];
    let (live, foreign) = (with("livemode", true.into()), with("account", "acct_2".into()));
    let unowned = with("account", Json::Null);
    let signed = |body: &[u8]| header_of(SECRET, now_s, body);
    let cases: Vec<(&str, String, Vec<u8>, u16, &str)> = vec![
        ("test", String::new(), body.clone(), 400, "unsigned"),
        ("test", header_of("whsec_guessed", now_s, &body), body.clone(), 400, "forged"),
        ("test", header_of(LIVE_SECRET, now_s, &body), body.clone(), 400, "forged"),
        ("test", header_of(SECRET, now_s - 400, &body), body.clone(), 400, "old"),
        ("test", header_of(SECRET, now_s + 400, &body), body.clone(), 400, "old"),
        ("test", signed(b"{}"), b"{}".to_vec(), 400, "malformed"),
        ("test", signed(&large), large, 413, "unreadable"),
        ("live", header_of(LIVE_SECRET, now_s, &body), body.clone(), 200, "other_mode"),
        ("test", signed(&live), live, 200, "other_mode"),
        ("test", signed(&foreign), foreign, 200, "foreign"),
        ("test", signed(&unowned), unowned, 200, "foreign"),
        ("prod", signed(&body), body.clone(), 404, "no_such_mode"),
    ];
    for (mode, header, body, status, outcome) in cases {
        let said = endpoint.send(mode, &header, body).await;
        assert_eq!((said.0.as_u16(), said.1.as_str()), (status, outcome));
        if outcome != "no_such_mode" {
            assert!(endpoint.count(outcome) >= 1, "{outcome} is not counted");
        }
    }
    assert_eq!(kept(&place, &account).await, [], "something refused was kept");

    let old_secret = header_of("whsec_old", now_s, &body);
    assert_eq!(endpoint.send("test", &old_secret, body).await.1, "kept");
    assert_eq!(endpoint.tell(&good).await, (StatusCode::OK, "known".to_owned()));
    assert_eq!(endpoint.tell(&event("evt_2", "something.new", "x")).await.1, "kept");
    let rows = kept(&place, &account).await;
    let shown: Vec<_> =
        rows.iter().map(|row| (row.event_id.as_str(), row.state.as_str())).collect();
    assert_eq!(shown, [("evt_1", "waiting"), ("evt_2", "ignored")]);
    assert_eq!(rows[0].subject.as_deref(), Some("test/acct_1/subscription/sub_1"));
}

pub async fn many_events_are_kept_once(place: Place) {
    let account = connect(&place).await;
    let endpoint = Arc::new(Endpoint::of(&place));
    let mut sending = tokio::task::JoinSet::new();
    for number in 0..600 {
        let endpoint = endpoint.clone();
        // Each comes twice at about the same time.
        let id = format!("evt_{}", number / 2);
        let object = format!("sub_{}", number % 7);
        sending.spawn(async move {
            endpoint.tell(&event(&id, "customer.subscription.updated", &object)).await
        });
    }
    while let Some(said) = sending.join_next().await {
        assert_eq!(said.unwrap().0, StatusCode::OK);
    }
    assert_eq!(kept(&place, &account).await.len(), 300);
    assert_eq!(endpoint.count("kept") + endpoint.count("known"), 600);
}

pub async fn a_subject_is_one_job_of_one_worker(place: Place) {
    let account = connect(&place).await;
    let endpoint = Endpoint::of(&place);
    for number in 0..30 {
        let event = event(&format!("evt_{number}"), "invoice.paid", &format!("in_{}", number % 3));
        endpoint.tell(&event).await;
    }
    let (first, second) = (place.store.clone(), place.another_store());
    let (mine, theirs) =
        tokio::join!(first.claim_stripe_jobs(100, 60_000), second.claim_stripe_jobs(100, 60_000));
    let mut jobs = mine.unwrap();
    jobs.extend(theirs.unwrap());
    jobs.extend(first.claim_stripe_jobs(100, 60_000).await.unwrap());
    jobs.sort_by(|a, b| a.subject.cmp(&b.subject));
    let shown: Vec<_> = jobs.iter().map(|job| (job.subject.as_str(), job.events.len())).collect();
    assert_eq!(shown, [("invoice/in_0", 10), ("invoice/in_1", 10), ("invoice/in_2", 10)]);

    // What comes while a subject is being settled is another job, after it.
    endpoint.tell(&event("evt_late", "invoice.paid", "in_0")).await;
    assert_eq!(first.claim_stripe_jobs(100, 60_000).await.unwrap(), []);
    let change = place.store.change(&account, actor()).await.unwrap();
    change.end_stripe_job(&jobs[0]).await.unwrap();
    drop(change);
    assert_eq!(
        first.claim_stripe_jobs(100, 60_000).await.unwrap(),
        [],
        "a dropped change ended it"
    );
    let change = place.store.change(&account, actor()).await.unwrap();
    change.end_stripe_job(&jobs[0]).await.unwrap();
    change.commit().await.unwrap();
    let late = first.claim_stripe_jobs(100, 60_000).await.unwrap();
    assert_eq!(late.len(), 1);
    assert_eq!(late[0].events.len(), 1);
}

pub async fn checkouts_come_first_and_a_crowd_is_left_its_renewals_alone(place: Place) {
    connect(&place).await;
    let endpoint = Endpoint::of(&place);
    for number in 0..40 {
        let renewal = event(
            &format!("evt_{number}"),
            "customer.subscription.updated",
            &format!("sub_{number}"),
        );
        endpoint.tell(&renewal).await;
    }
    for (id, kind, object) in [
        ("evt_a", "charge.refunded", "ch_1"),
        ("evt_b", "customer.subscription.deleted", "sub_3"),
        ("evt_c", "customer.subscription.created", "sub_new"),
        ("evt_d", "checkout.session.expired", "cs_old"),
        ("evt_e", "checkout.session.completed", "cs_1"),
        ("evt_f", "checkout.session.async_payment_succeeded", "cs_2"),
    ] {
        endpoint.tell(&event(id, kind, object)).await;
    }
    let store = &place.store;
    let prefix = "test/acct_1/subscription/";
    for (jobs_max, all_max, beside, expected) in [
        (0, 1, None, vec!["session/cs_1"]),
        (0, 9, None, vec!["session/cs_1", "session/cs_2"]),
        (9, 2, None, vec!["session/cs_1", "session/cs_2"]),
        (
            2,
            4,
            None,
            vec!["session/cs_1", "session/cs_2", "subscription/sub_0", "subscription/sub_1"],
        ),
        (
            20,
            24,
            Some(prefix),
            vec![
                "charge/ch_1",
                "session/cs_1",
                "session/cs_2",
                "session/cs_old",
                "subscription/sub_3",
                "subscription/sub_new",
            ],
        ),
    ] {
        let claim = JobClaim { jobs_max, all_max, lease_ms: 60_000, beside };
        let jobs = store.claim_stripe_jobs_of(claim).await.unwrap();
        let mut found: Vec<_> = jobs.iter().map(|job| job.subject.as_str()).collect();
        found.sort_unstable();
        assert_eq!(found, expected, "{claim:?}");
        if jobs_max == 20 {
            let again = JobClaim { jobs_max: 0, ..claim };
            assert_eq!(store.claim_stripe_jobs_of(again).await.unwrap(), [], "somebody has them");
            let deleted = jobs.iter().find(|job| job.subject == "subscription/sub_3").unwrap();
            assert_eq!(deleted.events.len(), 2, "all that waits for it");
        }
        for job in &jobs {
            store.release(&job.lease).await.unwrap();
        }
    }
}

pub async fn a_job_is_tried_again_and_given_up(place: Place) {
    let account = connect(&place).await;
    let endpoint = Endpoint::of(&place);
    endpoint.tell(&event("evt_1", "invoice.paid", "in_1")).await;
    let store = &place.store;
    let job = store.claim_stripe_jobs(1, 60_000).await.unwrap().remove(0);
    assert_eq!(job.attempts, 1);
    store.postpone_stripe_job(&job, System.now_ms() + 60_000, "away", true).await.unwrap();
    assert_eq!(store.claim_stripe_jobs(1, 60_000).await.unwrap(), []);
    store.raw("UPDATE stripe_events SET due_at_ms = 0").await;

    // One whose lease ran out while it worked may neither end nor postpone what another does since.
    let slow = store.claim_stripe_jobs(1, -1).await.unwrap().remove(0);
    let job = store.claim_stripe_jobs(1, 60_000).await.unwrap().remove(0);
    assert_eq!(job.attempts, 3);
    let change = store.change(&account, actor()).await.unwrap();
    assert!(matches!(change.end_stripe_job(&slow).await, Err(crate::storage::StorageError::Stale)));
    drop(change);
    store.bury_stripe_job(&slow, "late").await.unwrap();
    assert_eq!(kept(&place, &account).await[0].state, EventState::Waiting.as_str());

    store.bury_stripe_job(&job, "no such invoice").await.unwrap();
    let row = kept(&place, &account).await.remove(0);
    assert_eq!((row.state.as_str(), row.error.as_deref()), ("dead", Some("no such invoice")));
    assert_eq!(store.inbox_state().await.unwrap().dead, 1);
    assert_eq!(store.claim_stripe_jobs(1, 60_000).await.unwrap(), []);
}

pub async fn old_events_are_forgotten(place: Place) {
    let account = connect(&place).await;
    let endpoint = Endpoint::of(&place);
    for (id, kind) in [("evt_1", "something.new"), ("evt_2", "invoice.paid"), ("evt_3", "other")] {
        endpoint.tell(&event(id, kind, "in_1")).await;
    }
    let now_s = System.now_ms().div_euclid(1_000);
    let late = format!(
        "UPDATE stripe_events SET event_at_s = CASE event_id WHEN 'evt_1' THEN {} ELSE {now_s} END",
        now_s - 600
    );
    place.store.raw(&late).await;
    for (mode, rows_max, expected) in
        [("test", 20, (3, 2)), ("test", 2, (2, 2)), ("live", 20, (0, 0))]
    {
        let found = place.store.stripe_events_on_time(mode, rows_max, 60_000).await.unwrap();
        assert_eq!(found, expected, "{mode}, {rows_max}");
    }
    let old_ms = System.now_ms() - 61 * 86_400_000;
    let sql =
        format!("UPDATE stripe_events SET created_at_ms = {old_ms} WHERE event_id <> 'evt_3'");
    place.store.raw(&sql).await;
    place.store.prune(0).await.unwrap();
    let ids: Vec<String> =
        kept(&place, &account).await.into_iter().map(|row| row.event_id).collect();
    assert_eq!(ids, ["evt_2", "evt_3"], "what waits stays, and what is young");
}

pub async fn events_are_listed_and_replayed_and_sweeps_asked_for(place: Place) {
    let owner = place.owner().await;
    let id = told(&place, &owner).await;
    let job = place.store.claim_stripe_jobs(1, 60_000).await.unwrap().remove(0);
    place.store.bury_stripe_job(&job, "no such invoice").await.unwrap();

    let dead = owner.get("/v1/stripe/events?state=dead").await.expect(200);
    assert_eq!(dead.json["data"][0]["id"], id.as_str());
    assert_eq!(dead.json["data"][0]["note"], "no such invoice");
    let empty = owner.get("/v1/stripe/events?state=waiting").await.expect(200);
    assert_eq!(empty.json["data"], json!([]));
    let replayed = owner.post(&format!("/v1/stripe/events/{id}/replay"), json!({})).await;
    assert_eq!(replayed.expect(200).json["state"], "waiting");
    let again = place.store.claim_stripe_jobs(1, 60_000).await.unwrap();
    assert_eq!((again.len(), again[0].attempts), (1, 1));

    for _ in 0..2 {
        let asked = owner.post("/v1/stripe/sweeps", json!({})).await.expect(200);
        assert_eq!(asked.json["data"].as_array().unwrap().len(), 6, "three kinds of two modes");
    }
    let listed = owner.get("/v1/stripe/sweeps").await.expect(200);
    assert_eq!(listed.json["data"].as_array().unwrap().len(), 6);
    assert!(listed.json["data"][0]["asked_at"].is_string());
}
