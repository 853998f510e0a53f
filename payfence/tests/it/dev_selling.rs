//! Buying from `payfence dev` in a browser: from the address that it prints to a request that was paid for, without an account anywhere.
//!
//! In: the command in an empty folder, pages and forms as a browser sends them. Out: what is shown, what the gateway answers.

use std::net::SocketAddr;

use serde_json::Value;

use super::client::{Answer, ask};
use super::dev::{Desk, Dev, shell};
use super::wait::wait_for;

const PAID_PATH: &str = "/demo/api/v1/forecast";

/// An address as a browser takes it apart: host, and what is asked for there.
#[track_caller]
fn address(url: &str) -> (SocketAddr, String) {
    let rest = url.strip_prefix("http://").unwrap_or_else(|| panic!("no plain address: {url}"));
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    (host.parse().unwrap_or_else(|_| panic!("no host: {url}")), format!("/{path}"))
}

#[track_caller]
fn browse(url: &str) -> Answer {
    let (host, path) = address(url);
    ask(host, format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"))
}

/// A form of a page, by the text on its button.
struct Form {
    action: String,
    fields: Vec<(String, String)>,
}

/// What an attribute says, with the escapes undone that an address has.
fn attribute(tag: &str, name: &str) -> Option<String> {
    let from = tag.find(&format!(" {name}=\""))? + name.len() + 3;
    let value = tag[from..].split('"').next()?;
    Some(value.replace("&amp;", "&"))
}

impl Form {
    #[track_caller]
    fn with_button(url: &str, page: &str, button: &str) -> Self {
        let forms = page.split("<form").skip(1);
        let mut forms = forms.map(|form| form.split("</form>").next().unwrap_or_default());
        let form = forms.find(|form| form.contains(button));
        let form = form.unwrap_or_else(|| panic!("no button {button}: {page}"));
        let (host, path) = address(url);
        let to = attribute(form.split('>').next().unwrap_or_default(), "action").unwrap_or(path);
        let mut fields = Vec::new();
        for tag in form.split('<').filter(|tag| tag.starts_with("input")) {
            if let Some(name) = attribute(tag, "name") {
                fields.push((name, attribute(tag, "value").unwrap_or_default()));
            }
        }
        // Buttons that say which they are.
        for tag in form.split('<').filter(|tag| tag.starts_with("button") && tag.contains(button)) {
            if let Some(name) = attribute(tag, "name") {
                fields.push((name, attribute(tag, "value").unwrap_or_default()));
            }
        }
        Self { action: format!("http://{host}{to}"), fields }
    }

    fn typed(mut self, name: &str, text: &str) -> Self {
        self.fields.retain(|(known, _)| known != name);
        self.fields.push((name.to_owned(), text.to_owned()));
        self
    }

    #[track_caller]
    fn send(&self) -> Answer {
        let (host, path) = address(&self.action);
        let encode = |text: &str| -> String {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            text.bytes()
                .map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") })
                .collect()
        };
        let pairs = self.fields.iter();
        let body: Vec<String> =
            pairs.map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
        let body = body.join("&");
        let length = body.len();
        ask(
            host,
            format!(
                "POST {path} HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nConnection: close\r\n\
                 Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\r\n{body}"
            ),
        )
    }
}

/// The key that a page shows.
#[track_caller]
fn key_of(page: &str) -> String {
    let found = ["pf_test_", "pf_live_"].iter().find_map(|start| page.find(start));
    let at = found.unwrap_or_else(|| panic!("no key: {page}"));
    let is_of_key = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
    page[at..].chars().take_while(is_of_key).collect()
}

/// Pays for the paid plan as a browser does: prices, the page between, the payment; where the buyer is sent then.
#[track_caller]
fn pay(dev: &Dev, email: &str) -> String {
    let url = dev.said("pricing ").split(' ').next().expect("an address");
    let prices = browse(url);
    assert_eq!(prices.status, 200, "{}", prices.text());
    for part in ["pro", "19.00", "50000 requests per day"] {
        assert!(prices.text().contains(part), "{part}: {}", prices.text());
    }
    let between = Form::with_button(url, &prices.text(), "Buy pro").send();
    let text = between.text();
    assert_eq!(between.status, 200, "{text} {}", dev.log());
    let link = text.split('<').find(|tag| tag.starts_with("a class=\"button\""));
    let payment = link.and_then(|tag| attribute(tag, "href")).unwrap_or_else(|| panic!("{text}"));
    let page = browse(&payment);
    assert_eq!(page.status, 200, "{payment}: {}", page.text());
    let form = Form::with_button(&payment, &page.text(), ">Pay by card");
    let paid = form.typed("email", email).send();
    assert_eq!(paid.status, 303, "{}", paid.text());
    let success = paid.header("Location").expect("somewhere to go").to_owned();
    assert_eq!(address(&success).0, dev.control, "{success}");
    success
}

/// The same, and on: the page after the payment, the key.
#[track_caller]
fn buy(dev: &Dev) -> String {
    let success = pay(dev, "ada@example.com");
    let page = wait_for("the page after the payment", || {
        let page = browse(&success).text();
        page.contains("Show my key").then_some(page)
    });
    let form = Form::with_button(&success, &page, "Show my key");
    let shown = form.send();
    assert_eq!(shown.status, 200, "{}", shown.text());
    let again = form.send();
    assert_eq!(again.status, 404, "a key is shown once: {}", again.text());
    key_of(&shown.text())
}

/// The first request with it, without waiting: 200, and counted.
#[track_caller]
fn first_request(dev: &Dev, key: &str, limit: &str) {
    let answer = dev.get(PAID_PATH, key);
    assert_eq!(answer.status, 200, "{} {}", answer.text(), dev.log());
    let headers = format!("{:?}", answer.headers).to_lowercase();
    assert!(headers.contains("ratelimit") && headers.contains(limit), "{headers}");
}

#[test]
fn a_plan_is_bought_in_the_browser_and_its_key_works_at_once() {
    let Some(desk) = Desk::new() else { return };
    let dev = desk.start();
    let key = buy(&dev);
    first_request(&dev, &key, "50000");
    // What was bought is the account's, by the webhook or by the buyer coming back.
    let rows = desk.rest("GET", "/v1/subscriptions?limit=10", None).json();
    let rows = rows["data"].as_array().expect("rows").clone();
    assert_eq!(rows.iter().filter(|row| row["status"] == "active").count(), 2, "{rows:?}");
    // Webhooks came, signed as the control plane knows them.
    wait_for("settled events", || {
        let events = desk.rest("GET", "/v1/stripe/events?state=done&limit=100", None).json();
        let kinds = events["data"].as_array().expect("rows").clone();
        kinds.iter().any(|event| event["kind"] == "checkout.session.completed").then_some(())
    });
    // Who does not come back to the page is sent a link.
    pay(&dev, "grace@example.com");
    let mails = desk.path("payfence-data/mail");
    wait_for("the mail with the key's link", || {
        let files = std::fs::read_dir(&mails).ok()?;
        let texts = files.flatten().filter_map(|file| std::fs::read_to_string(file.path()).ok());
        texts.into_iter().any(|text| text.contains("grace@example.com")).then_some(())
    });
    // What is printed goes on working as printed.
    for (request, expected) in dev.requests().into_iter().zip(["200", "401", "200"]) {
        let answer = shell(request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected}")), "{request}: {answer}");
    }
    dev.stop("TERM");
}

#[test]
fn a_free_plan_needs_no_payment() {
    let Some(desk) = Desk::new() else { return };
    let dev = desk.start();
    let url = dev.said("pricing ").split(' ').next().expect("an address");
    let prices = browse(url).text();
    assert!(prices.contains("Free") && prices.contains("1000 requests per day"), "{prices}");
    let form = Form::with_button(url, &prices, "Get a key for basic");
    let shown = form.typed("email", "ada@example.com").send();
    assert_eq!(shown.status, 200, "{}", shown.text());
    first_request(&dev, &key_of(&shown.text()), "1000");
    dev.stop("TERM");
}

#[test]
fn the_stand_in_of_an_earlier_start_is_gone_and_all_goes_on() {
    let Some(desk) = Desk::new() else { return };
    let dev = desk.start();
    let first = buy(&dev);
    let site = desk.id("/v1/sites", "slug", "demo");
    let pro = desk.id(&format!("/v1/sites/{site}/plans"), "reference", "pro");
    // A price that the owner changed is the owner's.
    let basic = desk.id(&format!("/v1/sites/{site}/plans"), "reference", "basic");
    let no_price = serde_json::json!({ "price": Value::Null });
    let path = format!("/v1/sites/{site}/plans/{basic}");
    assert_eq!(desk.rest("PATCH", &path, Some(no_price)).status, 200);
    dev.stop("TERM");

    let dev = desk.start();
    first_request(&dev, &first, "50000");
    let prices = browse(dev.said("pricing ").split(' ').next().expect("an address")).text();
    assert!(prices.contains(&pro) && !prices.contains(&basic), "{prices}");
    first_request(&dev, &buy(&dev), "50000");
    let account = desk.rest("GET", "/v1/stripe/account?mode=test", None).json();
    assert_eq!(account["status"], "ready", "{account}");
    dev.stop("TERM");
}
