//! What the items of lists look like, for the description of the API alone: fields themselves say so by attributes.
//!
//! Out: schemas. Always holds: a pattern takes whatever the policy file's reader takes, which has the last word.

use utoipa::openapi::schema::{Schema, Type};
use utoipa::openapi::{ObjectBuilder, RefOr};
use utoipa::{PartialSchema, ToSchema};

/// The kinds of [`crate::notify::EventKind`] that are sent.
const EVENT_PATTERN: &str = "^(subscription\\.(created|updated|ended)|quota\\.(80|100)_percent|token\\.(issued|revoked)|payment\\.(failed|action_required)|trial\\.ending|webhook_endpoint\\.disabled)$";

macro_rules! shapes {
    ($($(#[$doc:meta])* $name:ident $text:literal $pattern:expr, $length_max:literal, $example:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let text = ObjectBuilder::new()
                    .schema_type(Type::String)
                    .description(Some($text))
                    .pattern(Some($pattern))
                    .max_length(Some($length_max))
                    .examples([$example]);
                RefOr::T(Schema::Object(text.build()))
            }
        }

        impl ToSchema for $name {}
    )*};
}

shapes! {
    /// A scope of an admin key.
    Scope "`AREA:read`, or `AREA:write`, which includes it."
        "^(account|members|admin_keys|sites|plans|customers|subscriptions|tokens|nodes|usage|audit|webhooks):(read|write)$",
        32, "sites:read";
    /// A kind of event.
    EventName "A kind of event." EVENT_PATTERN, 64, "subscription.created";
    /// A pin of an origin's key.
    OriginPin "SHA-256 of a key (SubjectPublicKeyInfo) that the origin shows." "^sha256/[A-Za-z0-9+/]{43}=$", 51,
        "sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    /// A host of a site.
    HostName "A host name, an IPv4 address, or an IPv6 address in brackets; no port." "^(\\[[0-9A-Fa-f:.]+\\]|[A-Za-z0-9._-]+)$",
        253, "api.weather.example";
    /// A web origin.
    WebOrigin "`*`, or an origin in lower case as browsers send it." "^(\\*|[a-z][a-z0-9+.-]*://[^/A-Z]+)$", 2000,
        "https://app.example.com";
    /// A method.
    MethodName "The name of a method." "^[A-Za-z0-9_-]+$", 32, "GET";
    /// A network.
    Network "A network or a single address." "^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$", 64, "203.0.113.0/24";
    /// A pattern of a site.
    PatternName "A pattern exactly as one of the site's resources has it." "^/", 1024, "/api/*";
}
