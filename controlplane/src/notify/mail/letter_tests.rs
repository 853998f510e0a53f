//! Letters say what they are told, safely.

use super::*;

#[test]
fn every_letter_is_written_in_text_and_html() {
    let facts = Facts {
        site: "Weather <b>&\r\nBcc: all@example.com".to_owned(),
        link: "https://example.com/?a=1&b=\"2\"".to_owned(),
        date: "1 December 2026".to_owned(),
        amount: "12.00 EUR".to_owned(),
        used: "800".to_owned(),
        limit: "1000".to_owned(),
        reason: "it answered 410 Gone".to_owned(),
        ..Facts::default()
    };
    for name in NAMES {
        let letter = write(name, &facts).unwrap();
        assert!(!letter.subject.contains(['\r', '\n']), "{name}: {}", letter.subject);
        assert!(!letter.html.contains("<b>"), "{name}: {}", letter.html);
        assert!(letter.text.len() > 60 && letter.html.contains("</html>"), "{name}");
        let says = |text: &str| letter.text.contains(text);
        assert!(says(&facts.link) || *name == "trial_ending", "{name}: {}", letter.text);
        assert!(!letter.text.contains("{{") && !letter.html.contains("{%"), "{name}");
    }
    assert!(write("nonsense", &facts).is_err());
}

#[test]
fn what_is_past_the_limit_is_refused_or_charged() {
    let refused = write("quota_100", &Facts::default()).unwrap();
    let charged = write("quota_100", &Facts { is_overage: true, ..Facts::default() }).unwrap();
    assert!(refused.text.contains("refused") && !refused.text.contains("charged"));
    assert!(charged.html.contains("charged") && !charged.html.contains("refused"));
}
