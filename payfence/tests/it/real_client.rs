//! A client library that people use, against the gateway: what it makes of keep-alive, chunks and refusals.

use super::gateway::Gateway;
use super::origin::{Origin, Step};
use super::policy::{site, token};

#[test]
fn many_concurrent_posts_of_a_library_come_back_whole() {
    let origin = Origin::start(|request| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len());
        vec![Step::Send([head.as_bytes(), &request.body].concat())]
    });
    let Some(gateway) = Gateway::start(&site(origin.address, "", "")) else { return };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    // The library as the control link builds it brings no cryptography of its own; a second caller is told that there is one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    runtime.block_on(async {
        let client = reqwest::Client::new();
        let url = format!("http://{}/shop/paid/x", gateway.address);
        let mut running = tokio::task::JoinSet::new();
        for number in 0..50u8 {
            let (client, url) = (client.clone(), url.clone());
            running.spawn(async move {
                let body = vec![number; 200_000];
                let asked = client.post(url).header("X-API-Key", token("plenty"));
                let answer = asked.body(body.clone()).send().await.expect("an answer");
                assert_eq!(answer.status(), 200);
                assert!(answer.headers().contains_key("ratelimit"));
                assert!(answer.bytes().await.expect("a whole body") == body, "{number}");
            });
        }
        while let Some(done) = running.join_next().await {
            done.expect("no panic");
        }
        let refused = client.get(&url).send().await.expect("an answer");
        assert_eq!(refused.status(), 401);
        let problem: serde_json::Value =
            serde_json::from_str(&refused.text().await.expect("a body")).expect("JSON");
        assert_eq!(problem["reason"], "token_missing");
    });
    assert_eq!(gateway.used("plenty"), 50);
}
