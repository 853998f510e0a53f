//! Header names as data, in every case and with underscores.

use super::*;

#[test]
fn request_names() {
    use RequestName as N;
    for (name, expected) in [
        ("Connection", N::Connection),
        ("Keep-Alive", N::HopByHop),
        ("Proxy-Connection", N::HopByHop),
        ("Proxy-Authorization", N::HopByHop),
        ("Proxy-Authenticate", N::HopByHop),
        ("HTTP2-Settings", N::HopByHop),
        ("Host", N::Host),
        ("Content-Length", N::ContentLength),
        ("Transfer-Encoding", N::TransferEncoding),
        ("TE", N::Te),
        ("Trailer", N::Trailer),
        ("Upgrade", N::Upgrade),
        ("Expect", N::Expect),
        ("Authorization", N::Authorization),
        ("Cookie", N::Cookie),
        ("Origin", N::Origin),
        ("Access-Control-Request-Method", N::AccessControlRequestMethod),
        ("X-Forwarded-For", N::XForwardedFor),
        ("X-Forwarded-Proto", N::XForwardedProto),
        ("X-Forwarded-Host", N::XForwardedHost),
        ("Forwarded", N::Forwarded),
        ("X-Real-IP", N::XRealIp),
        ("X-Original-URL", N::Override),
        ("X-Rewrite-URL", N::Override),
        ("X-HTTP-Method", N::Override),
        ("X-HTTP-Method-Override", N::Override),
        ("X-Method-Override", N::Override),
        ("PayFence-", N::PayFence),
        ("PayFence-Customer", N::PayFence),
        ("PayFence-A-Name-Longer-Than-Any-That-Is-Known", N::PayFence),
        ("PayFence", N::Other),
        ("X-PayFence-Customer", N::Other),
        ("Hosts", N::Other),
        ("Accept", N::Other),
        ("", N::Other),
        ("A-Name-Longer-Than-Any-That-Is-Known-In-Full", N::Other),
    ] {
        let class = |text: &str| classify_request(text.as_bytes());
        let exact = Classified { name: expected, underscored: false };
        assert_eq!(class(name), exact, "{name}");
        assert_eq!(class(&name.to_lowercase()), exact, "{name}");
        assert_eq!(class(&name.to_uppercase()), exact, "{name}");
        let underscored = name.contains('-') && expected != N::Other;
        let folded = Classified { name: expected, underscored };
        assert_eq!(class(&name.replace('-', "_")), folded, "{name}");
        assert_eq!(class(&name.replacen('-', "_", 1)), folded, "{name}");
    }
}

#[test]
fn response_names() {
    use ResponseName as N;
    for (name, expected) in [
        ("Connection", N::Connection),
        ("Keep-Alive", N::HopByHop),
        ("Proxy-Authenticate", N::HopByHop),
        ("Proxy-Authentication-Info", N::HopByHop),
        ("Strict-Transport-Security", N::StrictTransportSecurity),
        ("Content-Length", N::ContentLength),
        ("Transfer-Encoding", N::TransferEncoding),
        ("TE", N::Te),
        ("Trailer", N::Trailer),
        ("Upgrade", N::Upgrade),
        ("Date", N::Date),
        ("Server", N::Server),
        ("Vary", N::Vary),
        ("Retry-After", N::RetryAfter),
        ("WWW-Authenticate", N::WwwAuthenticate),
        ("Access-Control-Allow-Origin", N::AccessControl),
        ("Access-Control-Allow-Private-Network-And-More", N::AccessControl),
        ("RateLimit", N::RateLimit),
        ("RateLimit-Policy", N::RateLimitPolicy),
        ("X-RateLimit-Limit", N::XRateLimit),
        ("X-RateLimit-Remaining", N::XRateLimit),
        ("X-RateLimit-Reset", N::XRateLimit),
        ("X-RateLimit-Other", N::Other),
        ("PayFence-Cost", N::PayFenceCost),
        ("PayFence-Request-Id", N::PayFence),
        ("PayFence-Costs", N::PayFence),
        ("Host", N::Other),
    ] {
        let class = |text: &str| classify_response(text.as_bytes());
        let exact = Classified { name: expected, underscored: false };
        assert_eq!(class(name), exact, "{name}");
        assert_eq!(class(&name.to_uppercase()), exact, "{name}");
        let underscored = name.contains('-') && expected != N::Other;
        assert_eq!(class(&name.replace('-', "_")).underscored, underscored, "{name}");
        assert_eq!(class(&name.replace('-', "_")).name, expected, "{name}");
    }
}

#[test]
fn names_that_a_site_chose() {
    for (left, right, same) in [
        ("X-API-Key", "x_api_key", true),
        ("X-API-Key", "X-Api-Key", true),
        ("X-API-Key", "X-API-Keys", false),
        ("X-API-Key", "X API Key", false),
    ] {
        assert_eq!(same_name_folded(left.as_bytes(), right.as_bytes()), same, "{left} {right}");
    }
}
