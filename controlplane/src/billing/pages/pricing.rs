//! `GET /pay/{site}`: what a site's plans cost; and what their buttons do.
//!
//! In: a site's slug, a plan's id. Out: prices; a way to Stripe's page; the key of a free plan.
//! Always holds: only plans that have a price are shown; nothing is made at Stripe before a button is pressed.

use axum::body::Bytes;
use axum::extract::{Path, State};
use maud::{Markup, html};
use serde::Deserialize;

use super::view::Refresh;
use super::{Here, Page, claim, form, missing, name_of, shown};
use crate::billing::catalogue::{self, Offer};
use crate::billing::checkout::{CheckoutSettings, Wanted, create};
use crate::billing::free::{self, Taken};
use crate::billing::{BillingError, money};
use crate::domain::site::{PlanDraft, QuotaDraft, RateLimitDraft};

#[derive(Deserialize)]
pub(super) struct Chosen {
    plan: String,
    #[serde(default)]
    email: String,
}

/// What a site sells.
pub(super) async fn show(State(pages): Here, Path(slug): Path<String>) -> Page {
    let site = pages.site(&slug).await?;
    let tenant = pages.billing.store.tenant(&site.account_id);
    let offers = catalogue::offers(&tenant, &site).await?;
    if offers.is_empty() {
        return Err(missing("Nothing is sold here."));
    }
    let name = name_of(&site);
    let body = html! {
        p { "Choose a plan. You get a key for the API as soon as you have it." }
        ul.plans {
            @for offer in &offers {
                li { (one(&slug, offer, pages.billing.settings.has_mail)) }
            }
        }
    };
    shown(&format!("Plans for {name}"), None, &body)
}

fn one(slug: &str, offer: &Offer, has_mail: bool) -> Markup {
    let (price, id) = (&offer.price, &offer.plan.id);
    let heading = format!("plan-{id}");
    let every = price.interval.as_str();
    html! {
        h2 id=(heading) { (offer.name) }
        @if price.is_free() {
            p.price { "Free" }
        } @else {
            p.price { (money::shown(price.amount, &price.currency)) " per " (every) }
        }
        ul { @for line in lines(offer) { li { (line) } } }
        @if price.is_free() {
            form method="post" action=(format!("/pay/{slug}/free")) aria-labelledby=(heading) {
                input type="hidden" name="plan" value=(id);
                label for=(format!("email-{id}")) { "Your e-mail address" }
                @if has_mail {
                    input id=(format!("email-{id}")) type="email" name="email" required autocomplete="email" maxlength="200"
                        aria-describedby=(format!("hint-{id}"));
                    p id=(format!("hint-{id}")) { "We send a link to your key there." }
                } @else {
                    input id=(format!("email-{id}")) type="email" name="email" required autocomplete="email" maxlength="200";
                }
                button type="submit" { "Get a key for " (offer.name) }
            }
        } @else {
            form method="post" action=(format!("/pay/{slug}/checkout")) aria-labelledby=(heading) {
                input type="hidden" name="plan" value=(id);
                button type="submit" { "Buy " (offer.name) }
            }
        }
    }
}

/// What a plan gives, in words.
fn lines(offer: &Offer) -> Vec<String> {
    let draft: Option<PlanDraft> = serde_json::from_str(&offer.plan.settings).ok();
    let Some(draft) = draft else { return Vec::new() };
    let word = |per| serde_json::to_value(per).ok().and_then(|it| it.as_str().map(str::to_owned));
    let mut lines = Vec::new();
    match draft.quota {
        Some(QuotaDraft { requests, per }) => {
            lines.push(format!("{requests} requests per {}", word(per).unwrap_or_default()));
        }
        None => lines.push("Unlimited requests".to_owned()),
    }
    if let Some(RateLimitDraft { requests, per, .. }) = draft.rate_limit {
        lines.push(format!("Up to {requests} per {}", word(per).unwrap_or_default()));
    }
    if let Some(days) = offer.price.trial_days {
        lines.push(format!("{days} days free to try"));
    }
    if let Some(overage) = &offer.price.overage {
        let amount = money::shown_decimal(&overage.unit_amount_decimal, &offer.price.currency);
        let per = match overage.per {
            1 => "request".to_owned(),
            per => format!("{per} requests"),
        };
        lines.push(format!("Beyond that: {} per {per}", amount.unwrap_or_default()));
    }
    lines
}

/// A way to Stripe's page. A page between, since a form may lead to this site alone.
pub(super) async fn buy(State(pages): Here, Path(slug): Path<String>, body: Bytes) -> Page {
    let chosen: Chosen = form(&body)?;
    let site = pages.site(&slug).await?;
    let wanted = Wanted {
        site_id: site.id.clone(),
        plan_id: chosen.plan,
        mode: pages.billing.public_mode(),
        allow_promotion_codes: true,
        ..Wanted::default()
    };
    let (account, actor) = (&site.account_id, free::buyer());
    let checkout = create(&pages.billing, account, actor, None, &wanted).await?;
    let settings = CheckoutSettings::of(&checkout)?;
    let url =
        settings.url.ok_or_else(|| BillingError::Broken("a session without a page".to_owned()))?;
    let body = html! {
        p { "You are taken to Stripe, where the payment is made." }
        p { a.button href=(url) { "Go to the payment" } }
    };
    shown("Payment", Some(&Refresh { seconds: 0, url: url.clone() }), &body)
}

/// The key of a free plan, or a word that a link to it is on its way.
pub(super) async fn take_free(State(pages): Here, Path(slug): Path<String>, body: Bytes) -> Page {
    let chosen: Chosen = form(&body)?;
    let site = pages.site(&slug).await?;
    let email = match free::take(&pages.billing, &site, &chosen.plan, &chosen.email).await? {
        Taken::Key(key) => return claim::show_key(&site, &key),
        Taken::Sent(email) => email,
    };
    let body = html! {
        p role="status" { "We have sent a link to " strong { (email) } ". It shows your key, once, and is good for a day." }
        p { "Nothing there after a few minutes? Look among unwanted mails. Ten minutes after the last one you can ask for another." }
        p { a href=(format!("/pay/{slug}")) { "Back to the plans" } }
    };
    shown("Please look at your mail", None, &body)
}
