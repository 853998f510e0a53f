//! Every case on both databases.
//!
//! In: the cases of the files beside this one. Out: one test for SQLite, one for PostgreSQL, with the names of the
//! cases that failed.
//! Always holds: a case has a database of its own. PostgreSQL is a cluster that the test starts and ends; without
//! `PAYFENCE_TEST_SERVICES=1` that half says that it was left out. `PAYFENCE_TEST_CASE=word` runs cases by name.

mod api;
mod audit;
mod away;
mod behind;
mod bought;
mod caps;
mod catalogue;
mod clickhouse;
mod client;
mod contract;
mod decision_rows;
mod decisions;
mod disputes;
mod drift;
mod drift_told;
mod dropped;
mod ended;
#[path = "../../../link/tests/clickhouse/engine.rs"]
#[allow(dead_code, reason = "the sink's tests need more of it")]
mod engine;
mod entitlements;
mod expiry;
mod fees;
mod flows;
mod free;
mod front;
mod guesses;
mod history;
mod hung;
mod intake;
mod invoiced;
mod killed;
mod limits;
mod lossy;
mod mails;
mod members;
mod metered_moves;
mod money;
mod moves;
mod oauth;
mod openapi;
mod outage;
mod outbox;
mod overage;
mod pages;
mod parts;
mod place;
#[allow(dead_code, reason = "the tests of payfence need more of it")]
mod postgres;
mod previews;
mod quota;
mod reconcile;
mod reversals;
mod revoked;
mod roles;
mod samples;
mod scarce;
mod secrecy;
mod selling;
mod settle;
mod shop;
mod shuffle;
mod statuses;
mod storage;
mod story;
mod strangers;
mod stripe_inbox;
mod sync;
mod sync_node;
mod tenancy;
mod tls;
mod undertakings;
mod upgrades;
mod usage;
mod webhooks;

use std::panic::AssertUnwindSafe;
use std::pin::Pin;

pub use place::Place;
use postgres::Cluster;

/// A case: its name, and what it does with a place.
pub type Case = (&'static str, fn(Place) -> Pin<Box<dyn Future<Output = ()>>>);

/// Cases by the names of their functions.
macro_rules! cases {
    ($($module:ident: $($case:ident),* $(,)?;)*) => {
        const CASES: &[Case] = &[
            $($((
                concat!(stringify!($module), "::", stringify!($case)),
                |place| Box::pin($module::$case(place)),
            ),)*)*
        ];
    };
}

cases! {
    storage:
        migrations_are_run_once,
        many_bring_an_empty_database_up_at_once,
        a_database_of_a_later_version_is_left_alone,
        a_row_is_changed_from_the_version_that_was_read,
        a_tenant_sees_its_own_rows_alone,
        a_dropped_change_changes_nothing,
        pages_go_through_everything,
        every_change_leaves_an_audit_entry_without_secrets;
    dropped:
        futures_dropped_anywhere_leave_nothing_open;
    outbox:
        numbers_have_no_gaps_under_concurrent_writers_and_publishers,
        changes_of_one_row_keep_their_order,
        followers_are_woken;
    api:
        keys_are_checked,
        bodies_are_bounded_and_read_strictly,
        sites_are_made_read_changed_and_archived,
        secrets_are_sealed_and_never_shown,
        keys_of_secrets_rotate,
        what_is_taken_is_said_by_field,
        private_origins_are_refused,
        versions_guard_updates,
        one_idempotency_key_makes_one_thing,
        lists_are_paged;
    audit:
        the_audit_log_is_read_by_what_is_looked_for,
        a_dead_node_is_shown_with_its_reason,
        the_audit_log_is_kept_as_long_as_was_said;
    members:
        an_account_is_read_and_renamed,
        the_operator_makes_accounts,
        members_are_made_changed_and_removed,
        an_owner_always_stays,
        a_key_never_may_more_than_its_member;
    entitlements:
        an_entitlement_shows_plan_period_and_adjustments,
        adjustments_have_bounds_and_reasons,
        terms_of_the_running_period_are_shown;
    guesses:
        keys_that_nobody_has_are_bounded,
        node_tokens_that_nobody_has_are_bounded;
    expiry:
        an_admin_key_ends_when_it_was_said,
        a_node_is_cut_off_when_its_token_ends,
        a_rotated_token_ends_no_later_than_it_would_have;
    away:
        a_server_answers_and_drains;
    selling:
        a_plan_is_bought_and_its_key_shown_once,
        two_at_once_get_one_key,
        a_claim_is_over_after_its_hour,
        a_key_whose_answer_was_lost_is_replaced,
        a_lost_key_is_replaced_for_nobody_else,
        a_link_is_good_once_and_by_post_alone,
        a_key_waits_for_the_connected_nodes,
        free_plans_need_no_stripe,
        an_address_has_a_free_plan_once,
        stripe_may_fail_at_each_step;
    free:
        a_link_shows_whose_an_address_is,
        a_link_is_one_key,
        no_answer_tells_of_an_address,
        a_link_gives_what_there_is_to_be_had,
        a_link_is_over_with_its_time_and_the_next_one,
        so_many_are_written_to_in_an_hour;
    catalogue:
        plans_follow_to_stripe,
        subscriptions_move_and_end,
        plans_are_brought_without_a_hand,
        what_is_not_set_up_is_said;
    oauth:
        an_account_is_connected_in_the_browser_that_began,
        an_attempt_ends_with_its_time_its_key_or_a_no,
        one_attempt_connects_one_account,
        what_was_granted_for_nothing_is_given_back,
        stripe_may_be_away_while_an_account_is_connected,
        an_account_is_given_back_at_stripe_first,
        access_that_was_taken_away_is_noticed;
    bought:
        it_stays_while_stripe_charges_for_it,
        stripe_alone_says_what_it_is,
        what_is_archived_and_charged_is_found,
        a_site_stays_while_somebody_may_pay,
        what_was_open_when_its_plan_was_archived_is_served,
        what_was_moved_while_its_plan_was_archived_is_served;
    moves:
        a_downgrade_that_is_taken_back_costs_nothing,
        a_move_up_credits_what_was_paid,
        another_way_down_costs_nothing,
        a_downgrade_at_stripe_was_credited,
        a_price_that_is_gone_is_waited_for,
        a_move_up_is_done_again,
        a_move_up_that_is_refused_is_put_back_wherever_it_breaks_off,
        a_move_that_finds_another_under_way_says_when_to_come;
    upgrades:
        one_that_is_not_paid_at_once_waits,
        one_that_is_never_paid_is_given_up,
        the_newest_wish_counts,
        one_that_waits_ends_with_the_subscription,
        one_that_is_refused_ends_no_downgrade,
        what_stripe_has_is_shown;
    previews:
        each_is_what_the_invoice_asks_for;
    fees:
        a_sites_own_comes_before_the_accounts,
        what_is_no_share_is_refused;
    reversals:
        refunds_and_disputes_are_listed;
    drift:
        what_was_changed_at_stripe_is_found_and_mended;
    drift_told:
        what_owners_change_is_marked_until_they_change_it_back,
        what_cannot_be_changed_back_is_marked_until_it_is_mended,
        many_changes_of_a_plan_are_one_look,
        what_nobody_told_of_is_found_within_a_day;
    caps:
        no_invoice_has_more_overage_than_the_cap,
        what_ends_at_once_is_told_first,
        what_is_moved_is_told_first,
        what_ends_at_once_says_that_a_meter_is_off,
        what_comes_late_shares_the_cap,
        a_plan_that_is_moved_to_has_what_is_left,
        each_plans_meter_is_told_what_was_used_under_it,
        an_old_price_keeps_its_own_units,
        what_the_meter_counted_is_compared_by_period,
        two_subscriptions_of_one_buyer_are_billed_apart,
        a_meter_that_was_left_is_not_shared;
    metered_moves:
        overage_outlives_a_move_that_is_not_paid,
        a_move_that_is_paid_bills_overage_once,
        a_move_down_bills_what_was_used_before,
        a_move_up_from_a_smaller_plan_that_waits_bills_its_use,
        a_move_down_that_breaks_off_is_ended,
        what_is_used_before_a_move_down_is_ended_is_told_first;
    tls:
        a_certificate_is_served_and_replaced;
    parts:
        resources_never_contradict_each_other,
        plans_change_now_or_with_the_next_period,
        what_is_in_use_stays,
        subscriptions_keep_what_use_is_counted_under,
        a_token_is_shown_once,
        tokens_are_imported_rotated_restricted_and_revoked,
        admin_keys_give_no_more_than_they_have;
    sync:
        a_new_node_fetches_a_base_and_follows_changes,
        a_node_that_was_away_catches_up,
        a_pattern_that_comes_back_is_the_tokens_again,
        a_node_that_was_away_too_long_takes_a_base,
        a_node_is_cut_off,
        starts_take_over_from_each_other,
        a_restored_database_begins_a_new_history,
        leases_never_exceed_the_limit,
        replies_reach_nodes_of_other_control_planes,
        dead_nodes_are_settled;
    behind:
        a_node_follows_from_a_base_that_changes_have_left_behind,
        a_node_whose_changes_are_forgotten_takes_a_newer_base,
        a_due_base_reaches_a_connected_node,
        a_base_for_one_node_puts_off_no_other,
        a_node_joins_while_changes_outrun_every_base,
        a_node_that_waits_for_its_page_hears_heartbeats,
        a_page_is_made_once_for_many_nodes;
    lossy:
        every_unit_is_used_once_over_a_bad_way;
    stripe_inbox:
        only_what_stripe_signed_for_us_is_kept,
        many_events_are_kept_once,
        a_subject_is_one_job_of_one_worker,
        checkouts_come_first_and_a_crowd_is_left_its_renewals_alone,
        a_job_is_tried_again_and_given_up,
        old_events_are_forgotten,
        events_are_listed_and_replayed_and_sweeps_asked_for;
    intake:
        a_group_is_of_many_accounts,
        what_the_database_refuses_is_refused_alone,
        a_group_that_the_database_loses_comes_again,
        only_so_many_events_wait;
    settle:
        a_paid_checkout_gives_one_subscription_and_one_claim,
        a_worker_that_dies_anywhere_leaves_nothing_half,
        every_status_is_followed,
        trials_and_payments_that_come_later,
        money_that_comes_later_or_never,
        plans_move_up_at_once_and_down_with_the_period,
        full_refunds_end,
        an_invoice_that_is_made_has_overage_told,
        many_that_renew_at_once_are_fetched_as_lists,
        a_checkout_overtakes_all_others,
        what_was_never_told_is_found,
        a_lost_account_serves_until_the_period_ends,
        stripe_away_is_waited_for_and_nonsense_is_given_up,
        the_right_key_is_waited_for,
        checkouts_that_nobody_paid_are_forgotten;
    disputes:
        what_is_won_goes_on,
        who_pays_again_is_served,
        what_came_before_a_dispute_is_not_after_it,
        an_inquiry_holds_nothing;
    revoked:
        an_account_whose_end_nobody_told_of_is_found_by_the_sweep,
        a_call_that_is_refused_has_the_account_looked_at,
        the_key_of_another_platform_loses_no_account,
        another_account_is_not_asked_for_what_a_lost_one_sold;
    flows:
        codes_take_off_what_they_say,
        taxes_come_on_top_or_are_in_it,
        a_year_is_paid_and_counted_in_months,
        a_trial_is_announced_before_it_is_paid,
        amounts_are_those_of_their_currency,
        cards_that_do_not_pay_at_once,
        an_attempt_to_be_paid_is_one_mail,
        a_bank_that_takes_days,
        the_portal_is_the_customers_own;
    strangers:
        one_who_sells_reaches_nothing_of_another,
        a_session_made_by_hand_gives_nothing_here,
        another_connected_account_takes_the_place_of_a_lost_one,
        one_key_is_one_checkout;
    limits:
        control_planes_share_what_stripe_takes;
    pages:
        each_is_plain_and_tells_nobody_else,
        who_asks_too_often_is_told_when_to_come,
        guesses_do_not_count_against_who_has_a_claim;
    statuses:
        each_is_what_stripe_says_and_the_gateway_decides_by_it,
        each_failure_has_a_grace_of_its_own;
    shuffle:
        the_end_is_the_same_in_any_order;
    outage:
        stripe_may_go_away_at_each_call,
        a_process_may_be_killed_after_each_answer,
        a_database_may_be_lost_after_each_answer;
    webhooks:
        changes_are_told_signed_and_once,
        a_secret_is_replaced_with_an_overlap,
        what_fails_is_tried_again_and_given_up,
        what_was_given_up_is_replayed_at_once,
        an_endpoint_that_is_gone_is_left_alone,
        webhooks_never_reach_the_operators_network,
        an_account_has_a_bounded_number_of_endpoints;
    mails:
        a_mail_is_sent_once_and_tried_again,
        what_cannot_be_sent_is_left,
        a_customer_without_an_address_is_sent_nothing,
        nobody_is_sent_too_many_mails,
        a_key_link_is_made_when_it_is_sent,
        a_buyer_is_written_of_a_quota_once_a_period;
    overage:
        increments_are_told_once_whatever_happens,
        what_stripe_does_not_sell_is_left,
        late_use_is_measured_by_the_limit_of_its_period,
        late_use_of_a_period_that_nobody_saw_is_charged,
        the_sandbox_counts_what_was_used,
        the_subscriptions_own_customer_is_told,
        another_account_is_told_nothing_of_what_a_lost_one_sold,
        what_an_account_that_is_gone_was_to_be_told_is_lost_in_the_end,
        what_another_took_is_left_to_it;
    invoiced:
        what_a_dead_process_held_is_invoiced_in_time,
        what_misses_its_invoice_is_on_the_next,
        what_waits_for_months_is_charged,
        what_misses_its_invoice_shares_the_cap_of_the_next,
        late_use_is_on_the_draft_of_its_period_or_the_next,
        late_use_is_charged_for_as_long_as_stripe_takes_it,
        what_is_used_until_the_end_is_on_the_last_invoice,
        a_meter_that_is_turned_off_is_waited_for;
    reconcile:
        log_ledger_and_entitlement_are_compared,
        what_nodes_ship_is_compared,
        stripe_is_compared_with_what_subscribers_are_given,
        what_a_dispute_holds_is_no_difference,
        a_day_is_reconciled_once,
        a_day_that_failed_is_tried_again;
    quota:
        each_part_of_a_quota_is_told_once,
        a_quota_used_up_at_once_is_told_as_that_alone,
        who_has_a_slug_again_is_told;
    ended:
        accounts_of_what_ended_long_ago_are_forgotten;
    history:
        changes_of_before_a_new_history_lead_nowhere;
    decisions:
        a_batch_counts_once,
        two_control_planes_take_at_once,
        leases_do_not_wait_for_many_rows,
        lost_answers_lose_and_double_nothing,
        a_node_speaks_for_itself,
        rows_go_to_the_site_that_had_the_slug,
        decisions_are_kept_by_number_and_age,
        use_without_room_is_counted_together;
    usage:
        decisions_are_listed_by_what_is_looked_for,
        what_cannot_be_asked_is_refused,
        use_is_summed_up_by_time_and_group;
    contract:
        every_post_is_done_once_for_its_key,
        every_update_and_removal_is_guarded_by_a_version,
        every_change_is_in_the_audit_log,
        every_list_is_paged,
        every_body_is_read_strictly,
        every_text_has_the_length_that_is_described;
    roles:
        every_operation_asks_for_its_right;
    secrecy:
        no_secret_stands_anywhere;
    tenancy:
        no_route_reaches_another_account,
        a_slug_stays_with_the_account_that_had_it,
        a_slug_that_many_want_is_one_accounts;
}

fn run(name: &str, places: impl Fn() -> Place) {
    let only = std::env::var("PAYFENCE_TEST_CASE").unwrap_or_default();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    let mut failed = Vec::new();
    for (case, body) in CASES.iter().filter(|(case, _)| case.contains(&only)) {
        let place = {
            let _within = runtime.enter();
            places()
        };
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| {
            runtime.block_on(async {
                place.prepare().await;
                body(place).await;
            });
        }));
        if outcome.is_err() {
            failed.push(*case);
        }
    }
    assert!(failed.is_empty(), "{} cases failed on {name}: {}", failed.len(), failed.join(", "));
}

/// Cases that make databases of their own, by what they are asked for with.
const OWN: &[&str] = &["killed", "scarce", "hung", "away"];

fn is_asked_for(case: &str) -> bool {
    case.contains(&std::env::var("PAYFENCE_TEST_CASE").unwrap_or_default())
}

/// A misspelt name would run nothing, and pass.
#[test]
fn what_is_asked_for_is_there() {
    let mut names = CASES.iter().map(|(case, _)| *case).chain(OWN.iter().copied());
    assert!(names.any(is_asked_for), "no case is called as PAYFENCE_TEST_CASE says");
}

#[test]
fn clickhouse_of_today() {
    clickhouse::answers_are_those_of_the_database(engine::Kind::Today);
}

#[test]
fn clickhouse_of_2018() {
    clickhouse::answers_are_those_of_the_database(engine::Kind::Old);
}

#[test]
fn reconciled_with_clickhouse_of_today() {
    clickhouse::what_nodes_export_is_reconciled(engine::Kind::Today);
}

#[test]
fn reconciled_with_clickhouse_of_2018() {
    clickhouse::what_nodes_export_is_reconciled(engine::Kind::Old);
}

#[test]
fn sqlite() {
    run("SQLite", Place::sqlite);
    if is_asked_for("killed") {
        killed::no_change_is_lost_or_made_twice(Place::sqlite);
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "what is left out is said aloud")]
fn postgres() {
    if std::env::var_os("PAYFENCE_TEST_SERVICES").is_none() {
        eprintln!(
            "LEFT OUT: PostgreSQL; set PAYFENCE_TEST_SERVICES=1, as ./test controlplane does"
        );
        return;
    }
    let mut cluster = Cluster::start();
    run("PostgreSQL", || Place::at(cluster.database(), None));
    if is_asked_for("killed") {
        killed::no_change_is_lost_or_made_twice(|| Place::at(cluster.database(), None));
    }
    if is_asked_for("scarce") {
        scarce::a_database_that_does_not_answer_is_waited_for(&cluster);
        scarce::connections_that_lead_nowhere_are_given_up(&cluster);
        scarce::a_database_without_connections_is_waited_for();
    }
    if is_asked_for("hung") {
        hung::whatever_asks_gives_up(&cluster);
    }
    if is_asked_for("away") {
        away::a_database_that_goes_away_is_waited_for(&mut cluster);
    }
}
