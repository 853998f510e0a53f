//! Tests of `address.rs`.

use crate::compile::compile;
use crate::model::file;
use crate::snapshot::Snapshot;

const POLICY: &str = r#"
[[sites]]
slug = "weather"
origin = "http://127.0.0.1:9000"
hosts = ["api.weather.example", "192.0.2.7", "[2001:db8::7]", "odd.gw.example"]
[[sites]]
slug = "maps"
origin = "http://127.0.0.1:9001"
"#;

fn snapshot() -> Snapshot {
    let policy = file::parse("policy.toml", POLICY.as_bytes()).unwrap().policy;
    Snapshot::from_bytes(&compile(&policy, 1).unwrap()).unwrap()
}

/// `slug+prefix_len`, or `-`.
fn find(host: Option<&str>, path: &str, gateway_domain: &str) -> String {
    let snapshot = snapshot();
    match snapshot.find_site(host.map(str::as_bytes), path.as_bytes(), gateway_domain) {
        None => "-".to_owned(),
        Some(found) => {
            let site = snapshot.site(found.site).unwrap();
            format!("{}+{}", site.slug(), found.prefix_len)
        }
    }
}

#[test]
fn finds_sites() {
    let long = "a".repeat(300);
    #[rustfmt::skip]
    let cases = [
        (Some("api.weather.example"), "/maps/x", "weather+0"),
        (Some("API.Weather.Example.:8080"), "/", "weather+0"),
        (Some("api.weather.example:"), "/", "weather+0"),
        (Some("api.weather.example:80x"), "/", "-"),
        (Some("api.weather.example.."), "/", "-"),
        (Some("192.0.2.7:8080"), "/", "weather+0"),
        (Some("[2001:DB8:0::7]:8080"), "/", "weather+0"),
        (Some("maps.gw.example"), "/x", "maps+0"),
        (Some("MAPS.GW.example.:1"), "/x", "maps+0"),
        (Some("odd.gw.example"), "/x", "weather+0"),
        (Some("none.gw.example"), "/maps", "-"),
        (Some("x.maps.gw.example"), "/maps", "-"),
        (Some(".gw.example"), "/maps", "-"),
        (Some("mapsgw.example"), "/maps", "-"),
        (Some("gw.example"), "/maps/a/b", "maps+5"),
        (Some("gw.example."), "/maps", "maps+5"),
        (Some("gw.example"), "/MAPS", "-"),
        (Some("gw.example"), "/%6daps/", "-"),
        (Some("gw.example"), "//maps/", "-"),
        (Some("gw.example"), "/mapsx", "-"),
        (Some("gw.example"), "/", "-"),
        (Some("gw.example"), "*", "-"),
        (Some("127.0.0.1:8080"), "/maps/a", "maps+5"),
        (Some("[::1]:8080"), "/maps/a", "maps+5"),
        (Some("[::1"), "/maps/a", "-"),
        (Some("[zz]"), "/maps/a", "-"),
        (Some("LOCALHOST:8080"), "/maps/a", "maps+5"),
        (Some("maps.localhost"), "/", "-"),
        (Some("other.example"), "/maps/a", "-"),
        (Some(""), "/maps/a", "-"),
        (Some(&*long), "/maps/a", "-"),
        (None, "/weather/a", "weather+8"),
        (None, "/none/a", "-"),
    ];
    for (host, path, expected) in cases {
        for domain in ["gw.example", "GW.Example."] {
            assert_eq!(find(host, path, domain), expected, "{host:?} {path}");
        }
    }
    assert_eq!(find(Some("weather.localhost:8080"), "/", "localhost"), "weather+0");
    assert_eq!(find(Some("localhost"), "/weather", "localhost"), "weather+8");
}

#[test]
fn tells_connections_that_were_opened_for_another_site() {
    let snapshot = snapshot();
    let long = "a".repeat(300);
    #[rustfmt::skip]
    let cases = [
        // A site of its own, in any spelling, and by any of its names.
        (Some("api.weather.example"), Some("api.weather.example:8443"), "/", false),
        (Some("API.Weather.example."), Some("api.weather.example"), "/", false),
        (Some("api.weather.example"), Some("weather.gw.example"), "/", false),
        (Some("odd.gw.example"), Some("gw.example"), "/weather/x", false),
        (Some("api.weather.example"), None, "/weather/x", false),
        // Another site, however the request names it.
        (Some("api.weather.example"), Some("maps.gw.example"), "/", true),
        (Some("maps.gw.example"), Some("api.weather.example"), "/", true),
        (Some("MAPS.gw.example"), Some("192.0.2.7"), "/", true),
        (Some("maps.gw.example"), Some("gw.example"), "/weather/x", true),
        (Some("maps.gw.example"), Some("127.0.0.1"), "/weather/x", true),
        (Some("maps.gw.example"), None, "/weather/x", true),
        // What names no site by itself agrees with all.
        (None, Some("maps.gw.example"), "/", false),
        (Some("gw.example"), Some("maps.gw.example"), "/", false),
        (Some("localhost"), Some("localhost"), "/maps/", false),
        (Some("none.gw.example"), Some("maps.gw.example"), "/", false),
        (Some("other.example"), Some("maps.gw.example"), "/", false),
        (Some("127.0.0.1"), Some("maps.gw.example"), "/", false),
        (Some(""), Some("maps.gw.example"), "/", false),
        (Some("/maps"), Some("api.weather.example"), "/", false),
        (Some(&*long), Some("maps.gw.example"), "/", false),
    ];
    for (server_name, host, path, expected) in cases {
        let domain = "gw.example";
        let found =
            snapshot.find_site(host.map(str::as_bytes), path.as_bytes(), domain).expect("a site");
        let is_misdirected = snapshot.is_misdirected(server_name, found.site, domain);
        assert_eq!(is_misdirected, expected, "{server_name:?}, then {host:?} {path}");
    }
}
