//! Many of Stripe's events at once: what is kept together, and what becomes of it where that fails.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use http::{HeaderMap, Request, StatusCode, header};
use serde_json::Value as Json;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use crate::billing::webhooks::{WebhookSecrets, Webhooks, header_of};
use crate::storage::{Store, StripeEvent};
use crate::world::{System, World as _};

use super::place::Place;
use super::stripe_inbox::{SECRET, connect, connect_as, event};

const DEADLINE: Duration = Duration::from_secs(60);
/// What waits at most.
const WAITING_MAX: usize = 4_096;

/// An endpoint whose events are carried on only once that is asked for, so that what comes before is one group.
struct Gathering {
    webhooks: Webhooks,
    carry: Pin<Box<dyn Future<Output = ()> + Send>>,
}

fn gathering(store: &Store) -> Gathering {
    let secrets = Arc::new(WebhookSecrets::default().with_test(SECRET).unwrap());
    let (webhooks, carry) = Webhooks::new(store.clone(), secrets, Arc::new(Notify::new()));
    Gathering { webhooks, carry: Box::pin(carry) }
}

/// What a webhook is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    status: StatusCode,
    outcome: String,
    retry_after: Option<String>,
}

async fn tell(webhooks: &Webhooks, event: &Json) -> Said {
    let body = event.to_string().into_bytes();
    let request = Request::post("/stripe/webhooks/test")
        .header("stripe-signature", header_of(SECRET, System.now_ms() / 1_000, &body))
        .body(Body::from(body))
        .unwrap();
    let answer = webhooks.router().oneshot(request).await.unwrap();
    let status = answer.status();
    let text =
        |headers: &HeaderMap| headers.get(header::RETRY_AFTER)?.to_str().ok().map(str::to_owned);
    let retry_after = text(answer.headers());
    let body = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
    let body: Json = serde_json::from_slice(&body).unwrap();
    let outcome = body["outcome"].as_str().unwrap().to_owned();
    Said { status, outcome, retry_after }
}

/// Tells of all of them at once; by their place what each was answered.
fn tell_all(webhooks: &Webhooks, events: &[Json]) -> JoinSet<(usize, Said)> {
    let mut telling = JoinSet::new();
    for (place, event) in events.iter().cloned().enumerate() {
        let webhooks = webhooks.clone();
        telling.spawn(async move { (place, tell(&webhooks, &event).await) });
    }
    telling
}

async fn answers(telling: JoinSet<(usize, Said)>) -> Vec<Said> {
    let answers = tokio::time::timeout(DEADLINE, telling.join_all()).await;
    let mut answers = answers.unwrap_or_else(|_| panic!("not all were answered"));
    answers.sort_by_key(|(place, _)| *place);
    answers.into_iter().map(|(_, said)| said).collect()
}

/// Tells of all as one group.
async fn tell_together(store: &Store, events: &[Json]) -> Vec<Said> {
    let Gathering { webhooks, carry } = gathering(store);
    let telling = tell_all(&webhooks, events);
    until_waiting(&webhooks, events.len()).await;
    let carrying = tokio::spawn(carry);
    let said = answers(telling).await;
    carrying.abort();
    said
}

async fn until_waiting(webhooks: &Webhooks, count: usize) {
    let wait = async {
        while webhooks.waiting() < count {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(DEADLINE, wait).await;
    waited.unwrap_or_else(|_| panic!("{} of {count} wait", webhooks.waiting()));
}

fn outcomes(said: &[Said]) -> Vec<(u16, &str)> {
    said.iter().map(|said| (said.status.as_u16(), said.outcome.as_str())).collect()
}

async fn kept(place: &Place, account: &str) -> Vec<String> {
    let rows = place.store.tenant(account).all::<StripeEvent>(20_000, |query| query).await.unwrap();
    let mut ids: Vec<String> = rows.into_iter().map(|row| row.event_id).collect();
    ids.sort();
    ids
}

fn updated(id: &str) -> Json {
    event(id, "customer.subscription.updated", "sub_1")
}

fn numbered(count: usize) -> Vec<Json> {
    (0..count).map(|number| updated(&format!("evt_{number:04}"))).collect()
}

/// One comes twice, one is of another's account, one of nobody's.
pub async fn a_group_is_of_many_accounts(place: Place) {
    let account = connect(&place).await;
    let stranger = place.stranger().await.get("/v1/account").await.expect(200).id();
    connect_as(&place, &stranger, "acct_2").await;
    let of = |id: &str, account: &str| {
        let mut event = updated(id);
        event["account"] = account.into();
        event
    };
    let events = [of("evt_1", "acct_1"), of("evt_2", "acct_2"), of("evt_3", "acct_3")];
    let said = tell_together(&place.store, &events).await;
    assert_eq!(outcomes(&said), [(200, "kept"), (200, "kept"), (200, "foreign")]);
    assert_eq!(kept(&place, &account).await, ["evt_1"]);
    assert_eq!(kept(&place, &stranger).await, ["evt_2"]);

    let twice = [of("evt_2", "acct_2"), of("evt_4", "acct_1"), of("evt_4", "acct_1")];
    let said = tell_together(&place.store, &twice).await;
    assert!(said.iter().all(|said| said.status == StatusCode::OK), "{said:?}");
    assert_eq!(kept(&place, &account).await, ["evt_1", "evt_4"]);
    assert_eq!(kept(&place, &stranger).await, ["evt_2"]);
}

/// The database refuses one: its neighbours are kept.
pub async fn what_the_database_refuses_is_refused_alone(place: Place) {
    let account = connect(&place).await;
    let refuse = match place.url.starts_with("sqlite") {
        true => {
            "CREATE TRIGGER refusing BEFORE INSERT ON stripe_events WHEN NEW.event_id = 'evt_0001' \
             BEGIN SELECT RAISE(ABORT, 'refused'); END"
        }
        false => {
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN IF NEW.event_id = ''evt_0001'' THEN RAISE EXCEPTION ''refused''; END IF; RETURN NEW; END'; \
             CREATE TRIGGER refusing BEFORE INSERT ON stripe_events FOR EACH ROW EXECUTE FUNCTION refuse()"
        }
    };
    place.store.raw(refuse).await;
    let said = tell_together(&place.store, &numbered(3)).await;
    assert_eq!(outcomes(&said), [(200, "kept"), (503, "unavailable"), (200, "kept")]);
    assert_eq!(kept(&place, &account).await, ["evt_0000", "evt_0002"]);
}

/// The database is gone for a whole group, and in the middle of many: what was answered well is there, the rest is told to come again, and
/// when it does all are there once.
pub async fn a_group_that_the_database_loses_comes_again(place: Place) {
    let account = connect(&place).await;
    let (gone, events) = (place.another_store(), numbered(1_500));
    let Gathering { webhooks, carry } = gathering(&gone);
    let carrying = tokio::spawn(carry);
    let good = Arc::new(AtomicUsize::new(0));
    let mut telling = JoinSet::new();
    for (number, event) in events.iter().cloned().enumerate() {
        let (webhooks, good) = (webhooks.clone(), good.clone());
        telling.spawn(async move {
            let said = tell(&webhooks, &event).await;
            good.fetch_add(1, Ordering::Relaxed);
            (number, said)
        });
    }
    // Groups have been kept by now, and one is on its way.
    let begun = async {
        while good.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, begun).await.expect("a group is kept");
    gone.clone().close().await;
    let first = answers(telling).await;
    let there = kept(&place, &account).await;
    let mut refused = 0;
    for (event, said) in events.iter().zip(&first) {
        let is_there = there.iter().any(|id| event["id"] == id.as_str());
        match said.status {
            StatusCode::OK => assert!(is_there, "{event} was answered and is lost"),
            status => {
                assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
                assert!(said.retry_after.is_some(), "{said:?}");
                refused += 1;
            }
        }
    }
    assert!(refused > 0, "all were kept before the database was gone");
    let said = answers(tell_all(&webhooks, &events)).await;
    assert!(said.iter().all(|said| said.status == StatusCode::SERVICE_UNAVAILABLE), "{said:?}");
    carrying.abort();

    let Gathering { webhooks, carry } = gathering(&place.store);
    let carrying = tokio::spawn(carry);
    let again = answers(tell_all(&webhooks, &events)).await;
    for (first, again) in first.iter().zip(&again) {
        assert_eq!(again.status, StatusCode::OK);
        assert!(first.status != StatusCode::OK || again.outcome == "known", "{first:?} {again:?}");
    }
    carrying.abort();
    let mut ids: Vec<String> =
        events.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    assert_eq!(kept(&place, &account).await, ids);
}

/// Nobody carries them on.
pub async fn only_so_many_events_wait(place: Place) {
    let account = connect(&place).await;
    let Gathering { webhooks, carry } = gathering(&place.store);
    let telling = tell_all(&webhooks, &numbered(WAITING_MAX));
    until_waiting(&webhooks, WAITING_MAX).await;
    let one_more = updated("evt_one_more");
    let said = tell(&webhooks, &one_more).await;
    assert_eq!((said.status.as_u16(), said.outcome.as_str()), (503, "unavailable"));
    assert!(said.retry_after.is_some(), "{said:?}");
    let carrying = tokio::spawn(carry);
    let said = answers(telling).await;
    assert!(said.iter().all(|said| said.status == StatusCode::OK), "not all were kept");
    assert_eq!(tell(&webhooks, &one_more).await.outcome, "kept");
    assert_eq!(kept(&place, &account).await.len(), WAITING_MAX + 1);
    carrying.abort();
}
