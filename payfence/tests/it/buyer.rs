//! Buyers: the pages that they see, and what they get for a key.
//!
//! In: a control plane that sells, a node. Out: pages, answers.
//! Always holds: a page is asked for as a browser does, by the name that buyers know.

use std::cell::Cell;

use super::client::{Answer, ask, get};
use super::gateway::Gateway;
use super::plane::Plane;
use super::wait::wait_for;

/// A buyer with a key.
pub struct Buyer<'a> {
    pub node: &'a Gateway,
    pub key: String,
    served: Cell<u64>,
}

impl<'a> Buyer<'a> {
    pub fn new(node: &'a Gateway, key: String) -> Self {
        Self { node, key, served: Cell::new(0) }
    }

    /// Requests that the origin answered.
    pub fn served(&self) -> u64 {
        self.served.get()
    }

    /// Why a request is answered as it is: `ok` where the origin answered.
    fn ask(&self) -> String {
        let answer =
            self.node.ask(get("/paid/1", &[("Authorization", &format!("Bearer {}", self.key))]));
        if answer.status != 200 {
            return answer.reason();
        }
        self.served.set(self.served.get() + 1);
        "ok".to_owned()
    }

    #[track_caller]
    pub fn expect(&self, times: usize, reason: &str) {
        for time in 0..times {
            assert_eq!(self.ask(), reason, "request {time} of {times}");
        }
    }

    #[track_caller]
    pub fn wait(&self, reason: &str) {
        wait_for(reason, || (self.ask() == reason).then_some(()));
    }
}

/// A page.
pub fn see(plane: &Plane, path: &str) -> Answer {
    ask(
        plane.address,
        format!("GET {path} HTTP/1.1\r\nHost: pay.example\r\nConnection: close\r\n\r\n"),
    )
}

/// A form that is sent.
pub fn submit(plane: &Plane, path: &str, form: &str) -> Answer {
    let length = form.len();
    ask(
        plane.address,
        format!(
            "POST {path} HTTP/1.1\r\nHost: pay.example\r\nConnection: close\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\r\n{form}"
        ),
    )
}

/// What stands in `text` from `start` to the first character that no id has.
pub fn word(text: &str, start: &str) -> String {
    let at = text.find(start).unwrap_or_else(|| panic!("no {start} in {text}"));
    let is_id = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
    text[at..].chars().take_while(is_id).collect()
}

/// Goes from the pricing page to the payment; the session's id.
#[track_caller]
pub fn check_out(plane: &Plane) -> String {
    let prices = see(plane, "/pay/shop");
    assert!(prices.text().contains(&plane.plan_id), "{}", prices.text());
    let page = submit(plane, "/pay/shop/checkout", &format!("plan={}", plane.plan_id));
    assert_eq!(page.status, 200, "{}", page.text());
    word(&page.text(), "cs_test_")
}

/// The subscription that was bought last, once it is known here.
#[track_caller]
pub fn bought(plane: &Plane) -> String {
    wait_for("what was bought", || {
        let checkouts = plane.get("/v1/checkouts?limit=1");
        checkouts["data"][0]["subscription_id"].as_str().map(ToOwned::to_owned)
    })
}
