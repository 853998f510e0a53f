use super::*;

#[test]
fn an_address_is_one_that_keeps_the_token_secret() {
    for (text, expected) in [
        ("https://control.example.com", "https://control.example.com"),
        ("https://control.example.com:8082/", "https://control.example.com:8082"),
        ("https://10.0.0.7", "https://10.0.0.7"),
        ("http://127.0.0.1:8082", "http://127.0.0.1:8082"),
        ("http://localhost:8082", "http://localhost:8082"),
        ("http://[::1]:8082", "http://[::1]:8082"),
        ("http://10.0.0.7:8082", "in the clear"),
        ("http://localhost.example.com", "in the clear"),
        ("http://control", "in the clear"),
        ("ftp://control", "is no control plane's address"),
        ("control:8082", "is no control plane's address"),
        ("https://user@control", "is no control plane's address"),
        ("https://control/path", "is no control plane's address"),
        ("https://control?q", "is no control plane's address"),
        ("https://control#f", "is no control plane's address"),
        ("", "is no control plane's address"),
    ] {
        match text.parse::<ControlUrl>() {
            Ok(url) => assert_eq!(url.to_string(), expected, "{text}"),
            Err(error) => assert!(error.to_string().contains(expected), "{text}: {error}"),
        }
    }
}
