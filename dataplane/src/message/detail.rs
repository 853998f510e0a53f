//! What the gateway's own answers say to the person who reads them.
//!
//! In: a reason. Out: what happened and what to do about it.
//! Always holds: the text depends on the reason alone, so it tells nothing about tokens, plans or
//! origins that the reason does not.

use policy::decision::Reason;

/// The `detail` of a problem document.
pub(super) const fn detail_of(reason: Reason) -> &'static str {
    match reason {
        Reason::RequestMalformed => {
            "The request is not well-formed HTTP, or its path leaves the API's root or holds a \
             control character. Correct the request and send it again."
        }
        Reason::RequestTimeout => {
            "The request did not arrive completely in the time allowed. Send it again."
        }
        Reason::SiteUnknown => {
            "No API is served at this host name and path. Check the address for a mistake."
        }
        Reason::ResourceBlocked => {
            "The provider of this API does not let requests for this resource through. Use another \
             resource, or ask the provider."
        }
        Reason::NotFound => {
            "The gateway serves nothing at this address. What it serves itself is \
             /.payfence/usage, to GET."
        }
        Reason::TokenMissing
        | Reason::TokenUnknown
        | Reason::TokenRevoked
        | Reason::TokenExpired
        | Reason::AddressForbidden
        | Reason::SubscriptionInactive
        | Reason::PlanExcludesResource => of_access(reason),
        Reason::RateLimited | Reason::ConcurrencyLimited | Reason::QuotaExhausted => {
            of_limits(reason)
        }
        _ => of_service(reason),
    }
}

/// Rows 5 to 10: who asks, and what their plan includes.
const fn of_access(reason: Reason) -> &'static str {
    match reason {
        Reason::TokenMissing => {
            "This resource needs an API key and the request has none. Send it as \
             `Authorization: Bearer KEY`."
        }
        Reason::TokenRevoked => {
            "The API key in the request was revoked and no longer works. Use another key, or ask \
             for a new one."
        }
        Reason::TokenExpired => {
            "The API key in the request is past its expiry. Use another key, or ask for a new one."
        }
        Reason::AddressForbidden => {
            "The API key may be used from certain networks only, and this request came from \
             elsewhere. Send it from an allowed network, or have the key's networks changed."
        }
        Reason::SubscriptionInactive => {
            "The subscription of this API key is not active. Settle what is due or renew the \
             subscription, then try again."
        }
        Reason::PlanExcludesResource => {
            "The plan or the API key does not include this resource. Move to a plan that does, or \
             use a key without that restriction."
        }
        _ => {
            "The API key in the request is not one of this API. Check that it was copied \
             completely and belongs to this API."
        }
    }
}

/// Rows 11 to 13.
const fn of_limits(reason: Reason) -> &'static str {
    match reason {
        Reason::RateLimited => {
            "More requests came in a short time than the plan allows. Wait for the seconds that \
             Retry-After says, then send requests more slowly."
        }
        Reason::ConcurrencyLimited => {
            "As many requests as the plan allows at the same time are still running. Wait for one \
             of them to finish, then try again."
        }
        _ => {
            "The units left of the plan's quota do not cover this request. Wait until the quota \
             resets, or move to a larger plan."
        }
    }
}

/// What is wrong with the gateway or the origin, not with the request.
const fn of_service(reason: Reason) -> &'static str {
    match reason {
        Reason::LedgerUnreachable => {
            "The gateway cannot find out at the moment whether units of the quota are left. \
             Nothing was charged. Try again after the seconds that Retry-After says."
        }
        Reason::Draining => {
            "This node of the gateway is shutting down. Nothing was charged. Send the request \
             again."
        }
        Reason::JournalFull => {
            "The gateway cannot record requests at the moment. Nothing was charged. Try again \
             after the seconds that Retry-After says."
        }
        Reason::OriginUnreachable => {
            "The API behind the gateway gave no answer. Try again later; if it goes on, tell the \
             provider of the API."
        }
        Reason::OriginInvalid => {
            "The API behind the gateway answered with something that is not valid HTTP. If it goes \
             on, tell the provider of the API."
        }
        Reason::OriginTimeout => {
            "The API behind the gateway did not answer in the time allowed. Try again later; if \
             it goes on, tell the provider of the API."
        }
        _ => "The request was let through.",
    }
}
