//! The rows of tenants as types: one line a column, all through one macro.
//!
//! In: what the database holds. Out: plain structs; the types that queries are built from stay in here.
//! Always holds: every row has the columns that [`TenantRow`] needs, so that no query of one can leave the account out;
//! what is secret or a hash is left out of what [`TenantRow::facts`] shows. What a column means is told in
//! `docs/ARCHITECTURE.md`; times are Unix milliseconds, `settings` is JSON text.
#![expect(missing_docs, reason = "columns, named by the schema")]

use sea_orm::entity::prelude::*;
use sea_orm::{ActiveModelBehavior, IntoActiveModel};
use serde_json::Value as Json;

/// A row that belongs to an account.
pub trait TenantRow:
    ModelTrait<Entity: EntityTrait<Model = Self, ActiveModel: Send>>
    + IntoActiveModel<<Self::Entity as EntityTrait>::ActiveModel>
    + Clone
    + Default
    + Send
    + Sync
    + 'static
{
    /// What stands before `_` in its ids.
    const PREFIX: &'static str;
    /// The word for it in the audit log and the outbox.
    const KIND: &'static str;

    /// The columns that all of them have.
    fn columns() -> Columns<Self>;
    fn key(&self) -> i64;
    fn id(&self) -> &str;
    fn account_id(&self) -> &str;
    fn version(&self) -> i64;
    /// Sets what only a [`super::Change`] may set.
    fn stamp(&mut self, stamp: Stamp<'_>);
    /// The row as an audit entry shows it: everything but secrets and hashes.
    fn facts(&self) -> Json;
}

/// What a row's queries are built from.
pub(super) type Entity<R> = <R as ModelTrait>::Entity;

/// The columns that all rows of tenants have.
#[derive(Clone, Copy, Debug)]
pub struct Columns<R: TenantRow> {
    pub key: <R::Entity as EntityTrait>::Column,
    pub id: <R::Entity as EntityTrait>::Column,
    pub account_id: <R::Entity as EntityTrait>::Column,
    pub version: <R::Entity as EntityTrait>::Column,
}

/// What a change writes into a row.
#[derive(Clone, Copy, Debug)]
pub enum Stamp<'a> {
    /// A new row.
    New { id: &'a str, account_id: &'a str, now_ms: i64 },
    /// A row that goes on from the version before.
    Changed { key: i64, version: i64, now_ms: i64 },
}

/// JSON text becomes JSON, so that an audit entry shows it as such.
pub(super) fn unfold(mut facts: Json) -> Json {
    if let Some(settings) = facts.get_mut("settings")
        && let Some(parsed) = settings.as_str().and_then(|text| serde_json::from_str(text).ok())
    {
        *settings = parsed;
    }
    facts
}

macro_rules! rows {
    ($($(#[$doc:meta])* $module:ident $name:ident $table:literal $prefix:literal {
        $($(#[$attribute:meta])* $column:ident: $type:ty,)*
    })*) => {$(
        mod $module {
            use sea_orm::entity::prelude::*;

            #[derive(Clone, Debug, Default, PartialEq, Eq, DeriveEntityModel, serde::Serialize)]
            #[sea_orm(table_name = $table)]
            pub struct Model {
                #[sea_orm(primary_key)]
                pub key: i64,
                pub id: String,
                pub account_id: String,
                pub version: i64,
                pub created_at_ms: i64,
                pub updated_at_ms: i64,
                $($(#[$attribute])* pub $column: $type,)*
            }

            #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
            pub enum Relation {}
        }

        impl ActiveModelBehavior for $module::ActiveModel {}

        $(#[$doc])*
        pub type $name = $module::Model;

        impl TenantRow for $name {
            const PREFIX: &'static str = $prefix;
            const KIND: &'static str = stringify!($module);

            fn columns() -> Columns<Self> {
                use $module::Column;
                Columns {
                    key: Column::Key,
                    id: Column::Id,
                    account_id: Column::AccountId,
                    version: Column::Version,
                }
            }

            fn key(&self) -> i64 {
                self.key
            }

            fn id(&self) -> &str {
                &self.id
            }

            fn account_id(&self) -> &str {
                &self.account_id
            }

            fn version(&self) -> i64 {
                self.version
            }

            fn stamp(&mut self, stamp: Stamp<'_>) {
                match stamp {
                    Stamp::New { id, account_id, now_ms } => {
                        self.key = 0;
                        self.id = id.to_owned();
                        self.account_id = account_id.to_owned();
                        self.version = 1;
                        self.created_at_ms = now_ms;
                        self.updated_at_ms = now_ms;
                    }
                    Stamp::Changed { key, version, now_ms } => {
                        self.key = key;
                        self.version = version + 1;
                        self.updated_at_ms = now_ms;
                    }
                }
            }

            fn facts(&self) -> Json {
                unfold(serde_json::to_value(self).expect("a row is a plain map"))
            }
        }
    )*

    /// The columns of each table, for filters.
    pub mod column {
        $(pub use super::$module::Column as $name;)*
    }};
}
pub(super) use rows;

rows! {
    /// An organisation. Its `account_id` is its own id.
    account Account "accounts" "acct" {
        name: String,
        archived_at_ms: Option<i64>,
    }
    /// A user of an account, with a role.
    member Member "members" "mem" {
        email: String,
        name: Option<String>,
        role: String,
        archived_at_ms: Option<i64>,
    }
    /// A key for this API.
    admin_key AdminKey "admin_keys" "key" {
        member_id: Option<String>,
        label: String,
        role: String,
        scopes: Option<String>,
        is_operator: bool,
        #[serde(skip)]
        hash: Vec<u8>,
        prefix: String,
        last_four: String,
        expires_at_ms: Option<i64>,
        revoked_at_ms: Option<i64>,
    }
    /// One API or MCP server.
    site Site "sites" "site" {
        slug: String,
        settings: String,
        #[serde(skip)]
        sealed_headers: Option<Vec<u8>>,
        archived_at_ms: Option<i64>,
    }
    /// A path pattern of a site.
    resource Resource "resources" "res" {
        site_id: String,
        settings: String,
        archived_at_ms: Option<i64>,
    }
    /// A plan of a site.
    plan Plan "plans" "plan" {
        site_id: String,
        reference: String,
        settings: String,
        immediate_from_ms: i64,
        archived_at_ms: Option<i64>,
    }
    /// What a plan said for periods that began before some time.
    plan_revision PlanRevision "plan_revisions" "planrev" {
        plan_id: String,
        settings: String,
        applies_until_ms: i64,
    }
    /// Somebody who pays.
    customer Customer "customers" "cus" {
        reference: String,
        settings: String,
        archived_at_ms: Option<i64>,
    }
    /// A customer on a plan.
    subscription Subscription "subscriptions" "sub" {
        site_id: String,
        plan_id: String,
        customer_id: String,
        reference: String,
        status: String,
        past_due_since_ms: Option<i64>,
        period_anchor_ms: Option<i64>,
        archived_at_ms: Option<i64>,
    }
    /// Units given or taken by hand.
    adjustment Adjustment "adjustments" "adj" {
        subscription_id: String,
        units: i64,
        reason: String,
        period_id: Option<i64>,
        expires_at_ms: Option<i64>,
    }
    /// An API key of a subscription.
    token Token "tokens" "tok" {
        site_id: String,
        subscription_id: String,
        reference: String,
        #[serde(skip)]
        hash: Vec<u8>,
        prefix: String,
        last_four: String,
        label: Option<String>,
        expires_at_ms: Option<i64>,
        revoked_at_ms: Option<i64>,
        allow_from: Option<String>,
        resources: Option<String>,
        rotated_to: Option<String>,
    }
    /// A data plane.
    node Node "nodes" "node" {
        name: String,
        settings: String,
        epoch: Option<String>,
        applied_sequence: i64,
        last_seen_at_ms: Option<i64>,
        declared_dead_at_ms: Option<i64>,
        archived_at_ms: Option<i64>,
        base_sequence: i64,
        program: Option<String>,
        rejected: i64,
        error: Option<String>,
        buried_at_ms: Option<i64>,
    }
    /// What a node shows to the control link.
    node_token NodeToken "node_tokens" "ntok" {
        node_id: String,
        label: Option<String>,
        #[serde(skip)]
        hash: Vec<u8>,
        prefix: String,
        last_four: String,
        expires_at_ms: Option<i64>,
        revoked_at_ms: Option<i64>,
    }
    /// Who changed what.
    audit_entry AuditEntry "audit_log" "aud" {
        actor_kind: String,
        actor_id: String,
        request_id: Option<String>,
        action: String,
        kind: String,
        row_id: String,
        before: Option<String>,
        after: Option<String>,
    }
    /// Something that happened, as owners are told of it.
    event_record EventRecord "events" "evt" {
        kind: String,
        subscription_id: Option<String>,
        data: String,
    }
    /// Where an owner's own program is told of events.
    webhook_endpoint WebhookEndpoint "webhook_endpoints" "whe" {
        url: String,
        description: Option<String>,
        events: Option<String>,
        #[serde(skip)]
        sealed_secrets: Vec<u8>,
        old_secret_until_ms: Option<i64>,
        failing_since_ms: Option<i64>,
        disabled_at_ms: Option<i64>,
        disabled_reason: Option<String>,
        archived_at_ms: Option<i64>,
    }
    /// One event on its way to one endpoint.
    webhook_delivery WebhookDelivery "webhook_deliveries" "whd" {
        endpoint_id: String,
        event_id: String,
        kind: String,
        status: String,
        attempts: i64,
        begun_at_ms: i64,
        next_at_ms: Option<i64>,
        answer_status: Option<i64>,
        error: Option<String>,
        ended_at_ms: Option<i64>,
    }
    /// One increment of a period's overage on its way to Stripe.
    overage_event OverageEvent "overage_events" "ovg" {
        subscription_id: String,
        entitlement: Vec<u8>,
        period_id: i64,
        from_units: i64,
        to_units: i64,
        mode: String,
        meter_id: Option<String>,
        plan_price_id: Option<String>,
        event_name: String,
        stripe_customer_id: String,
        at_s: i64,
        status: String,
        attempts: i64,
        next_at_ms: Option<i64>,
        error: Option<String>,
        sent_at_ms: Option<i64>,
    }
    /// One e-mail on its way to one person.
    mail Mail "mails" "mail" {
        template: String,
        event_id: String,
        subscription_id: Option<String>,
        recipient: Option<String>,
        status: String,
        attempts: i64,
        next_at_ms: Option<i64>,
        error: Option<String>,
        ended_at_ms: Option<i64>,
        #[serde(skip)]
        recipient_hash: Option<Vec<u8>>,
    }
}
