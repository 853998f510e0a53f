//! What a snapshot's archive holds, row by row.
//!
//! In: rows built by the compiler. Out: their archived forms, read in place.
//! Always holds: rows refer to each other by position; all positions are into the arrays of [`Body`], never into a site's
//! own. A change here raises `FORMAT_VERSION`.

use ipnet::IpNet;
use rkyv::{Archive, Deserialize, Serialize};

use crate::model::{ADJUSTMENTS_MAX, Adjustment, UNITS_MAX};

/// Marks an empty slot of the token table.
pub(crate) const NO_INDEX: u32 = u32::MAX;

/// The whole archive.
#[derive(Archive, Serialize)]
pub(crate) struct Body {
    pub(crate) sites: Vec<SiteRow>,
    /// By site, in the order of the policy; a site that is paid by default has `*` last.
    pub(crate) resources: Vec<ResourceRow>,
    /// By site.
    pub(crate) plans: Vec<PlanRow>,
    pub(crate) subscriptions: Vec<SubscriptionRow>,
    /// By subscription.
    pub(crate) tokens: Vec<TokenRow>,
    /// The ids of all tokens, one after the other.
    pub(crate) token_ids: String,
    /// The networks of all tokens that name some.
    pub(crate) networks: Vec<NetworkRow>,
    /// The narrower resources of all tokens that name some, as positions in `patterns`.
    pub(crate) narrower: Vec<u32>,
    /// Patterns that tokens are narrowed to, each once, whether or not a resource has them: sites may change below the tokens.
    pub(crate) patterns: Vec<String>,
    /// The token table; see `token_table`.
    pub(crate) slots: Vec<TokenSlot>,
    /// Positions of the table that are some hash's home.
    pub(crate) slot_homes: u64,
}

/// Positions `start..end` of an array.
#[derive(Archive, Serialize, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl ArchivedSpan {
    pub(crate) fn range(&self) -> std::ops::Range<usize> {
        self.start.to_native() as usize..self.end.to_native() as usize
    }

    pub(crate) fn contains(&self, index: u32) -> bool {
        (self.start.to_native()..self.end.to_native()).contains(&index)
    }
}

/// A site.
#[derive(Archive, Serialize)]
pub(crate) struct SiteRow {
    pub(crate) slug: String,
    pub(crate) name: String,
    pub(crate) origin: OriginRow,
    /// As `Hsts::field_value` writes it.
    pub(crate) hsts: Option<String>,
    /// As `HostName` displays them.
    pub(crate) hosts: Vec<String>,
    pub(crate) upgrade_url: Option<String>,
    pub(crate) default_paid: bool,
    pub(crate) case_sensitive: bool,
    pub(crate) forward_token: bool,
    pub(crate) foreign_tokens: bool,
    pub(crate) preserve_host: bool,
    pub(crate) allow_override_headers: bool,
    pub(crate) is_open_on_ledger_loss: bool,
    pub(crate) token_header: String,
    pub(crate) token_query: Option<String>,
    pub(crate) origin_headers: Vec<HeaderRow>,
    pub(crate) cors_origins: Vec<String>,
    pub(crate) connect_timeout_ms: u32,
    pub(crate) response_timeout_ms: u32,
    pub(crate) resources: Span,
    pub(crate) plans: Span,
}

/// Where a site's requests go.
#[derive(Archive, Serialize)]
pub(crate) struct OriginRow {
    pub(crate) is_https: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) path_prefix: String,
    pub(crate) authority: String,
    /// Empty without https.
    pub(crate) tls: OriginTlsRow,
}

/// How an origin is known, and what it is shown; files by their names as written.
#[derive(Archive, Serialize)]
pub(crate) struct OriginTlsRow {
    pub(crate) ca: Option<String>,
    pub(crate) pins: Vec<[u8; 32]>,
    pub(crate) client: Option<ClientFilesRow>,
}

/// A certificate and its key.
#[derive(Archive, Serialize)]
pub(crate) struct ClientFilesRow {
    pub(crate) cert: String,
    pub(crate) key: String,
}

/// A header that a site adds.
#[derive(Archive, Serialize)]
pub(crate) struct HeaderRow {
    pub(crate) name: String,
    pub(crate) value: String,
}

/// A resource.
#[derive(Archive, Serialize)]
pub(crate) struct ResourceRow {
    /// As written; `*` for what no pattern names.
    pub(crate) pattern: String,
    /// Upper-case; none for every method.
    pub(crate) methods: Vec<String>,
    /// See [`access_of`].
    pub(crate) access: u8,
    pub(crate) cost: u64,
}

/// A plan.
#[derive(Archive, Serialize)]
pub(crate) struct PlanRow {
    pub(crate) id: String,
    pub(crate) quota: Option<AmountRow>,
    pub(crate) rate: Option<AmountRow>,
    /// The bucket's capacity; 0 without rate.
    pub(crate) burst: u64,
    pub(crate) concurrency: Option<u32>,
    pub(crate) allows_overage: bool,
    pub(crate) overage_cap: Option<u64>,
    pub(crate) grace_days: u32,
    /// Ascending positions in `Body::resources`; `None` for all paid ones.
    pub(crate) resources: Option<Vec<u32>>,
    /// These are earlier terms of the plan with this id, which stands before them and is found in their place.
    pub(crate) is_earlier: bool,
    /// Its earlier terms, by the time until which they were in force.
    pub(crate) earlier: Vec<EarlierRow>,
}

/// Where earlier terms of a plan are.
#[derive(Archive, Serialize, Clone, Copy)]
pub(crate) struct EarlierRow {
    /// Unix seconds; ascending.
    pub(crate) until_s: i64,
    /// Position in `Body::plans`, of the same site.
    pub(crate) plan: u32,
}

/// So many per unit of time.
#[derive(Archive, Serialize, Clone, Copy)]
pub(crate) struct AmountRow {
    pub(crate) requests: u64,
    /// See [`unit_of`].
    pub(crate) per: u8,
}

/// A subscription.
#[derive(Archive, Serialize)]
pub(crate) struct SubscriptionRow {
    pub(crate) entitlement: u128,
    pub(crate) id: String,
    pub(crate) customer: String,
    pub(crate) site: u32,
    pub(crate) plan: u32,
    pub(crate) past_due_since_s: Option<i64>,
    pub(crate) period_anchor_s: Option<i64>,
    /// See [`status_of`].
    pub(crate) status: u8,
    pub(crate) adjustments: Vec<AdjustmentRow>,
}

/// Units given or taken by hand.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AdjustmentRow {
    /// Unix seconds; `i64::MAX` for every period.
    pub(crate) until_s: i64,
    pub(crate) units: i64,
}

/// Adjustments as rows.
pub(crate) fn adjustment_rows(adjustments: &[Adjustment]) -> Vec<AdjustmentRow> {
    let row = |from: &Adjustment| AdjustmentRow { until_s: from.until_s, units: from.units };
    adjustments.iter().map(row).collect()
}

/// What is known of a token besides its hash and its subscription; 32 bytes.
#[derive(Archive, Serialize)]
pub(crate) struct TokenRow {
    /// Unix seconds; `i64::MAX` for never.
    pub(crate) expires_at_s: i64,
    /// Where in `Body::token_ids` its id begins.
    pub(crate) id_start: u32,
    pub(crate) networks_start: u32,
    pub(crate) narrower_start: u32,
    pub(crate) networks_len: u16,
    pub(crate) narrower_len: u16,
    pub(crate) id_len: u8,
    pub(crate) is_revoked: bool,
    /// Whether the token has resources of its own, however many.
    pub(crate) is_narrowed: bool,
}

/// A network: 16 bytes of address (IPv4 as IPv4-mapped IPv6) and a prefix length of up to 128 bits.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NetworkRow {
    pub(crate) address: [u8; 16],
    pub(crate) prefix_bits: u8,
}

/// A network as a row.
pub(crate) fn network_row(network: &IpNet) -> NetworkRow {
    const MAPPED_PREFIX_BITS: u8 = 96;
    let mapped = super::to_v6(network.network());
    let prefix_bits = match network {
        IpNet::V4(network) => MAPPED_PREFIX_BITS + network.prefix_len(),
        IpNet::V6(network) => network.prefix_len(),
    };
    NetworkRow { address: mapped.octets(), prefix_bits }
}

/// A slot of the token table; 40 bytes.
#[derive(Archive, Serialize, Clone, Copy)]
pub(crate) struct TokenSlot {
    pub(crate) hash: [u8; 32],
    /// [`NO_INDEX`] in an empty slot.
    pub(crate) subscription: u32,
    pub(crate) token: u32,
}

/// A word as its position in a list of words.
macro_rules! coded {
    ($of:ident, $code:ident, $type:ty, $list:expr) => {
        /// The value of a code; `None` for a code that means nothing.
        pub(crate) fn $of(code: u8) -> Option<$type> {
            $list.get(usize::from(code)).map(|(_, value)| *value)
        }

        /// The code of a value.
        pub(crate) fn $code(value: $type) -> u8 {
            let position = $list.iter().position(|(_, listed)| *listed == value);
            position.and_then(|position| u8::try_from(position).ok()).unwrap_or(u8::MAX)
        }
    };
}

coded!(unit_of, unit_code, crate::model::Unit, crate::model::UNIT_WORDS);
coded!(status_of, status_code, crate::model::Status, crate::model::Status::WORDS);
coded!(access_of, access_code, crate::matcher::Access, crate::model::ACCESS_WORDS);

/// Whether units given or taken are within their bounds, and not too many.
pub(crate) fn are_adjustments(units: impl ExactSizeIterator<Item = i64>) -> bool {
    units.len() <= ADJUSTMENTS_MAX
        && units.into_iter().all(|units| units.unsigned_abs() <= UNITS_MAX)
}
