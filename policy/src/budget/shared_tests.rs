//! A node and a ledger that others lease from too: what it forgets, and what it could not count.

use super::*;

const ID: EntitlementId = EntitlementId(7);
const START_S: i64 = 1_800_000_000;

fn terms(rate: Option<RateTerms>) -> Terms {
    Terms {
        version: 1,
        limit: Some(1_000),
        overage: Overage::Deny,
        calendar: Calendar { unit: Unit::Second, anchor_s: None },
        rate,
        concurrency: None,
    }
}

/// A node of one shard and the ledger it shares with others, with nothing between them.
struct Node {
    budgets: ShardBudgets,
    account: Option<Account>,
    mono_us: u64,
    is_cut: bool,
}

impl Node {
    fn new() -> Self {
        let config = Config { shared: true, ..Config::default() };
        let budgets = ShardBudgets::new(ShardId(0), 1, config);
        Self { budgets, account: None, mono_us: 1_000_000, is_cut: false }
    }

    fn now(&self) -> Now {
        Now { mono_us: self.mono_us, unix_s: START_S + (self.mono_us / 1_000_000) as i64 }
    }

    fn pump(&mut self) {
        let (now, here) = (self.now(), Destination::Shard(ShardId(0)));
        let from = Borrower { node: 1, start: 1, shard: ShardId(0) };
        loop {
            let mail: Vec<(Destination, Message)> = self.budgets.drain_outbox().collect();
            if mail.is_empty() {
                return;
            }
            for (to, message) in mail {
                match (to, message) {
                    (Destination::Shard(_), message) => self.budgets.on_message(now, here, message),
                    (Destination::Ledger, _) if self.is_cut => {}
                    (Destination::Ledger, Message::LeaseRequest(request)) => {
                        let at = LedgerNow {
                            unix_ms: START_S * 1_000 + (self.mono_us / 1_000) as i64,
                            authority: Authority::Ledger,
                        };
                        let account =
                            self.account.get_or_insert_with(|| Account::open(&request, at));
                        for posted in account.take(from, &request, at) {
                            let reply = Message::LeaseReply(Box::new(posted.reply));
                            self.budgets.on_message(now, Destination::Ledger, reply);
                        }
                    }
                    (Destination::Ledger, other) => panic!("{other:?}"),
                }
            }
        }
    }

    fn pass_s(&mut self, seconds: u64) {
        for _ in 0..seconds * 10 {
            self.mono_us += 100_000;
            self.budgets.tick(self.now());
            self.pump();
        }
    }

    /// How many requests are admitted until one is refused.
    fn admits(&mut self, terms: &Terms) -> u64 {
        for admitted in 0.. {
            let decided = match self.budgets.admit(self.now(), ID, terms, 1) {
                Admission::Decided(decided) => decided,
                Admission::Pending(_) => {
                    self.pump();
                    match self.budgets.poll_resolved() {
                        Some((_, Outcome::Decided(decided))) => decided,
                        other => panic!("{other:?}"),
                    }
                }
            };
            match decided {
                Decided::Admitted(here) => {
                    self.budgets.settle(self.now(), here.ticket, Settle::Keep);
                }
                Decided::Refused(_) => return admitted,
                Decided::Unknown { .. } => panic!("{decided:?} after {admitted}"),
            }
        }
        0
    }
}

#[test]
fn an_owner_that_forgot_the_entitlement_has_no_second_burst() {
    let mut node = Node::new();
    let terms = terms(Some(RateTerms { requests: 60, unit: Unit::Hour, burst: 20 }));
    assert_eq!(node.admits(&terms), 20);
    node.pass_s(180);
    assert!(node.budgets.owned(ID).is_none(), "it is not forgotten yet");
    assert!((2..=3).contains(&node.admits(&terms)), "one a minute");
    // And what was in the bucket when it was forgotten is not lost.
    node.pass_s(3_600);
    assert!(node.budgets.owned(ID).is_none(), "it is not forgotten yet");
    assert_eq!(node.admits(&terms), 20);
}

#[test]
fn what_went_on_unmetered_is_counted_without_another_request() {
    let mut node = Node::new();
    let terms = Terms { calendar: Calendar { unit: Unit::Month, anchor_s: None }, ..terms(None) };
    node.is_cut = true;
    for _ in 0..3 {
        let Admission::Pending(_) = node.budgets.admit(node.now(), ID, &terms, 2) else { panic!() };
        node.pass_s(2);
        let resolved = node.budgets.poll_resolved();
        assert!(matches!(resolved, Some((_, Outcome::Decided(Decided::Unknown { .. })))));
        assert!(node.budgets.admit_unmetered(node.now(), ID, &terms, 2).is_none());
    }
    node.pass_s(30);
    node.is_cut = false;
    node.pass_s(15);
    let account = node.account.expect("the ledger has heard of it");
    assert_eq!(account.books.iter().map(|books| books.used()).sum::<u64>(), 6);
}
