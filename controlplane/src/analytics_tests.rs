use super::*;

#[test]
fn ids_are_read_as_they_are_written_and_in_their_order() {
    let id = |time_us, epoch, shard, seq| DecisionId { time_us, epoch, shard, seq };
    let ids = [
        id(0, 0, 0, 0),
        id(0, 0, 0, u64::MAX),
        id(0, 0, u16::MAX, 0),
        id(0, u64::MAX, 0, 0),
        id(1_795_478_400_000_000, 1, 2, 3),
        id(i64::MAX, u64::MAX, u16::MAX, u64::MAX),
    ];
    for id in ids {
        assert_eq!(DecisionId::parse(&id.to_string()), Some(id), "{id}");
        assert!(crate::ids::is_id(&id.to_string()));
    }
    assert!(ids.is_sorted());
    let texts = ids.map(|id| id.to_string());
    assert!(texts.is_sorted(), "{texts:?}");
}

#[test]
fn what_is_no_id_is_none() {
    let good = DecisionId { time_us: 1, epoch: 2, shard: 3, seq: 4 }.to_string();
    let cases = [
        String::new(),
        "dec_".to_owned(),
        good.replace("dec_", "site_"),
        good[..good.len() - 1].to_owned(),
        format!("{good}0"),
        good.replace('4', "G"),
        good.replace('4', "+"),
        good.replace('4', "ä"),
        good.to_uppercase(),
    ];
    for text in cases {
        assert_eq!(DecisionId::parse(&text), None, "{text}");
    }
}
