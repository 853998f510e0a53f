//! `GET /v1/usage`.
//!
//! In: whose use, of which time, cut and grouped how. Out: sums; the ledger's periods where a subscription is named.
//! Always holds: nothing is shown that is not of the account's own sites; what is not kept so finely is refused, not cut.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    GroupWord, IntervalWord, PERIOD_SPAN_S, UsageAnswer, UsedPeriodView, periods, span, view_of,
};
use crate::analytics::{Group, Interval, Subject, UsageQuery};
use crate::api::App;
use crate::api::endpoints::decisions::{Asked as Whose, VerdictWord, reasons, subject};
use crate::api::endpoints::fields::instant_ms;
use crate::api::extract::Asked;
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::api::time::shown;
use crate::domain::permission::Area;
use crate::domain::policy_text::Fault;
use crate::storage::{OwnSites, Site, Subscription, Tenant};

const LIMIT_DEFAULT: u64 = 100;
const LIMIT_MAX: u64 = 1_000;
/// Periods that are shown of a subscription.
const PERIODS_MAX: u64 = 1_000;

/// What to sum up.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct UsageGetQuery {
    /// Sums at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: u64,
    /// Of this site alone.
    site_id: Option<String>,
    /// Of this customer alone.
    customer_id: Option<String>,
    /// Of this subscription alone; then its quota periods are shown, too.
    subscription_id: Option<String>,
    /// Of this token alone.
    token_id: Option<String>,
    /// Of this resource alone: its pattern, as decisions have it.
    #[param(example = "/api/*")]
    resource: Option<String>,
    /// Of allowed or denied requests alone.
    #[param(inline)]
    verdict: Option<VerdictWord>,
    /// For this reason alone.
    #[param(example = "quota_exhausted")]
    reason: Option<String>,
    /// Charged to the quota period with this number alone.
    period: Option<i64>,
    /// From this time on: the beginning of a minute, or of a day (UTC) where sums are by the day. By default an hour before `until` by the
    /// minute, 30 days otherwise, and 400 where a period is named.
    #[param(format = DateTime)]
    since: Option<String>,
    /// Before this time, likewise. By default up to now.
    #[param(format = DateTime)]
    until: Option<String>,
    /// How sums are cut by time.
    #[param(inline)]
    interval: IntervalWord,
    /// What sums are made by; all together without it.
    #[param(inline)]
    group_by: Option<GroupWord>,
}

impl Default for UsageGetQuery {
    fn default() -> Self {
        Self {
            limit: LIMIT_DEFAULT,
            site_id: None,
            customer_id: None,
            subscription_id: None,
            token_id: None,
            resource: None,
            verdict: None,
            reason: None,
            period: None,
            since: None,
            until: None,
            interval: IntervalWord::default(),
            group_by: None,
        }
    }
}

impl UsageGetQuery {
    fn whose(&self) -> Whose<'_> {
        Whose {
            site_id: self.site_id.as_deref(),
            customer_id: self.customer_id.as_deref(),
            subscription_id: self.subscription_id.as_deref(),
            token_id: self.token_id.as_deref(),
            resource: self.resource.as_deref(),
        }
    }
}

/// Read usage
#[utoipa::path(get, path = "/usage", tag = "usage", params(UsageGetQuery),
    responses((status = 200, description = "Sums", body = UsageAnswer), Problems))]
pub async fn get_usage(
    State(app): State<App>,
    caller: Caller,
    Asked(asked): Asked<UsageGetQuery>,
) -> Result<Json<UsageAnswer>, Problem> {
    let tenant = app.gate.read(&caller, Area::Usage)?;
    let now_ms = app.world.now_ms();
    let mut faults = Vec::new();
    if !(1..=LIMIT_MAX).contains(&asked.limit) {
        faults.push(Fault::new("limit", format!("expected an integer from 1 to {LIMIT_MAX}")));
    }
    let since_ms = instant_ms("since", asked.since.as_deref(), &mut faults);
    let until_ms = instant_ms("until", asked.until.as_deref(), &mut faults);
    let reasons = reasons(asked.reason.as_deref(), asked.verdict, &mut faults);
    let has_period = asked.period.is_some();
    let span = span((since_ms, until_ms), asked.interval, has_period, now_ms, &mut faults);
    if let Some(kept_ms) = app.gate.minutes_kept_ms()
        && span.is_by_minute
        && span.from_s.saturating_mul(1_000) < now_ms.saturating_sub(kept_ms)
    {
        let days = kept_ms / 86_400_000;
        let message = format!(
            "use by the minute is kept for {days} days; give beginnings of days, and no interval of a minute"
        );
        faults.push(Fault::new("since", message));
    }
    if !faults.is_empty() {
        return Err(Problem::fields(faults));
    }
    let mut answer = UsageAnswer {
        since: shown(span.from_s.saturating_mul(1_000)),
        until: shown(span.until_s.saturating_mul(1_000)),
        data: Vec::new(),
        has_more: false,
        periods: None,
    };
    let Some((sites, subject)) = subject(&tenant, asked.whose(), reasons).await? else {
        return Ok(Json(answer));
    };
    if let Some(id) = &asked.subscription_id {
        answer.periods = Some(used_periods(&app, &caller, (&tenant, &sites), id, now_ms).await?);
    }
    let query = UsageQuery {
        subject,
        period: asked.period,
        from_s: span.from_s,
        until_s: span.until_s,
        is_by_minute: span.is_by_minute,
        interval: asked.interval.interval(),
        group: asked.group_by.map(GroupWord::group),
        limit: asked.limit + 1,
    };
    let mut sums = app.gate.usage(&caller, &sites, &query).await?;
    answer.has_more = sums.len() as u64 > asked.limit;
    if answer.has_more {
        sums.pop();
    }
    answer.data = sums.iter().map(view_of).collect();
    Ok(Json(answer))
}

/// The periods of a subscription, whatever part of its use is asked for.
async fn used_periods(
    app: &App,
    caller: &Caller,
    (tenant, sites): (&Tenant<'_>, &OwnSites),
    subscription_id: &str,
    now_ms: i64,
) -> Result<Vec<UsedPeriodView>, Problem> {
    let row = tenant.get::<Subscription>(subscription_id).await?;
    let row = row.ok_or_else(|| Problem::not_found("subscription"))?;
    let site = tenant.get::<Site>(&row.site_id).await?;
    let site = site.ok_or_else(|| Problem::not_found("site"))?;
    let account = app.gate.ledger_account(&site, &row).await?;
    let tomorrow_s = (now_ms.div_euclid(86_400_000) + 1) * 86_400;
    let query = UsageQuery {
        subject: Subject { subscription: Some(row.reference), ..Subject::default() },
        period: None,
        from_s: tomorrow_s - PERIOD_SPAN_S,
        until_s: tomorrow_s,
        is_by_minute: false,
        interval: Interval::Total,
        group: Some(Group::Period),
        limit: PERIODS_MAX,
    };
    let logged = app.gate.usage(caller, sites, &query).await?;
    Ok(periods(account.as_ref(), &logged))
}
