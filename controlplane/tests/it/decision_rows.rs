//! Decisions as nodes ship them, from numbers.

use link::row::{self, Account, Ended, Opened, Protocol, Subscriber, Texts};
use link::ship::{Position as At, Source, SourceBlock, SourceError};
use link::wire::{Decisions, Run};
use policy::budget::{EntitlementId, Period, PeriodId};
use policy::decision::Reason;

use crate::world::{System, World as _};

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    pub site: String,
    pub customer: String,
    pub subscription: String,
    pub token: String,
    pub resource: String,
    pub reason: Reason,
    pub charge: u64,
    pub period: u64,
    pub time_us: i64,
    pub total_us: u64,
    pub is_ended: bool,
}

/// Now, microseconds.
pub fn now_us() -> i64 {
    System.now_ms() * 1_000
}

/// The `number`th of a site: some allowed and some not, of three customers with two tokens each, a millisecond apart, the last of
/// a thousand a second ago.
pub fn sample(site: &str, number: u64) -> Sample {
    const REASONS: [Reason; 4] =
        [Reason::Ok, Reason::Ok, Reason::QuotaExhausted, Reason::OriginTimeout];
    let customer = number % 3;
    let reason = REASONS[(number % 4) as usize];
    Sample {
        site: site.to_owned(),
        customer: format!("cus-{customer}"),
        subscription: format!("sub-{customer}"),
        token: format!("tok-{customer}-{}", number % 2),
        resource: format!("/r{}/*", number % 2),
        reason,
        charge: if reason == Reason::Ok { 2 } else { 0 },
        period: 7,
        time_us: now_us() - 2_000_000 + number.cast_signed() * 1_000,
        total_us: 700 * (number % 10),
        is_ended: true,
    }
}

/// Appends its bytes.
pub fn write(out: &mut Vec<u8>, sample: &Sample) {
    let start = out.len();
    let has_customer = !sample.customer.is_empty();
    let period = Period { id: PeriodId(sample.period), start_s: 0, end_s: 1 };
    row::write_open(
        out,
        &Opened {
            opened_at: 0,
            time_ns: sample.time_us * 1_000,
            request_id: sample.time_us.cast_unsigned().into(),
            account: (sample.period > 0)
                .then_some(Account { entitlement: EntitlementId(1), period }),
            reason: sample.reason,
            charge: sample.charge,
            remaining: Some(5),
            protocol: Protocol::Http11,
            client: None,
            texts: Texts {
                site: &sample.site,
                subscriber: has_customer.then_some(Subscriber {
                    customer: &sample.customer,
                    subscription: &sample.subscription,
                    token_id: &sample.token,
                }),
                plan: Some("pro"),
                resource: Some(&sample.resource),
                method: "GET",
                path: "/r/x",
            },
        },
    );
    if sample.is_ended {
        let ended = Ended {
            reason: sample.reason,
            status: Some(200),
            charge: sample.charge,
            remaining: Some(5),
            request_bytes: 10,
            response_bytes: 1_000,
            origin_us: Some(sample.total_us / 2),
            total_us: sample.total_us,
        };
        assert!(row::write_end(&mut out[start..], &ended));
    }
}

/// A batch of one stream, whose first row has this number.
pub fn batch(epoch: u64, shard: u16, first: u64, samples: &[Sample]) -> Decisions {
    let mut rows = Vec::new();
    samples.iter().for_each(|sample| write(&mut rows, sample));
    let count = u32::try_from(samples.len()).unwrap();
    Decisions { runs: vec![Run { epoch, shard, first, rows: count }], rows }
}

/// Blocks in memory, as a spool has them on disk.
#[derive(Clone, Default)]
pub struct Blocks {
    pub all: Vec<(u64, u16, u64, Vec<Sample>)>,
    at: usize,
}

impl Source for Blocks {
    fn next(&mut self) -> Result<Option<SourceBlock>, SourceError> {
        let Some((epoch, shard, first_seq, samples)) = self.all.get(self.at).cloned() else {
            return Ok(None);
        };
        self.at += 1;
        let rows = batch(epoch, shard, first_seq, &samples).rows;
        let end = At { segment: 1, offset: self.at as u64 };
        Ok(Some(SourceBlock { epoch, shard, first_seq, rows, end }))
    }

    fn seek(&mut self, position: At) -> Result<(), SourceError> {
        self.at = usize::try_from(position.offset).unwrap();
        Ok(())
    }
}
