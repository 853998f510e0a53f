use link::control::Alarm;
use link::wire::Why;

use super::*;

#[test]
fn an_alarm_stands_where_an_operator_looks() {
    let mut link = Status::default();
    assert_eq!(status(&link)["alarm"], Value::Null);
    assert!(!ControlFigures::from(&link).is_refused);
    link.alarm = Some(Alarm { why: Why::TokenRevoked, text: "revoked by ann".into() });
    link.connected = Some("https://control.example".into());
    link.fetching = Some((100, 7));
    let told = status(&link);
    assert_eq!(told["alarm"], json!({ "why": "TokenRevoked", "text": "revoked by ann" }));
    assert_eq!(told["fetching"], json!({ "bytes": 100, "here": 7 }));
    assert_eq!(told["last_contact_s"], Value::Null);
    let figures = ControlFigures::from(&link);
    assert!(figures.is_refused && figures.is_connected);
    assert_eq!(figures.last_contact_s, None);
}
