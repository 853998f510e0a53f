//! The endpoints, one a file.
//!
//! In: nothing. Out: the routes with their descriptions.
//! Always holds: a route that is not listed here does not exist, and one that is listed is described and walked by the
//! tests of tenancy.

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub mod account;
pub mod accounts;
pub mod adjustments;
pub mod admin_keys;
pub mod audit;
pub mod checkouts;
pub mod customers;
pub mod decisions;
pub mod entitlements;
pub mod fields;
pub mod members;
pub mod nodes;
pub mod plans;
pub mod resources;
pub mod reversals;
pub mod sites;
pub mod stripe;
pub mod stripe_events;
pub mod subscriptions;
pub mod tokens;
pub mod usage;
pub mod webhook_endpoints;

use super::App;

/// All of them, relative to `/v1`.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .merge(account())
        .merge(site())
        .merge(customer())
        .merge(token())
        .merge(node())
        .merge(billing())
        .merge(stripe_events())
        .merge(webhook())
        .merge(analytics())
}

fn analytics() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(decisions::list::list_decisions))
        .routes(routes!(usage::get::get_usage))
}

fn account() -> OpenApiRouter<App> {
    use admin_keys::{create, get, list, revoke};
    OpenApiRouter::new()
        .routes(routes!(create::create_admin_key, list::list_admin_keys))
        .routes(routes!(get::get_admin_key, revoke::revoke_admin_key))
        .routes(routes!(account::get::get_account, account::update::update_account))
        .routes(routes!(accounts::create::create_account, accounts::list::list_accounts))
        .routes(routes!(members::create::create_member, members::list::list_members))
        .routes(routes!(
            members::get::get_member,
            members::update::update_member,
            members::remove::remove_member
        ))
        .routes(routes!(audit::list::list_audit))
}

fn site() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(sites::create::create_site, sites::list::list_sites))
        .routes(routes!(
            sites::get::get_site,
            sites::update::update_site,
            sites::archive::archive_site
        ))
        .routes(routes!(resources::create::create_resource, resources::list::list_resources))
        .routes(routes!(
            resources::get::get_resource,
            resources::update::update_resource,
            resources::archive::archive_resource
        ))
        .routes(routes!(plans::create::create_plan, plans::list::list_plans))
        .routes(routes!(
            plans::get::get_plan,
            plans::update::update_plan,
            plans::archive::archive_plan
        ))
}

fn billing() -> OpenApiRouter<App> {
    use subscriptions::{cancel, move_plan, portal, preview, resume};
    OpenApiRouter::new()
        .routes(routes!(
            stripe::connect::connect_stripe_account,
            stripe::get::get_stripe_account,
            stripe::disconnect::disconnect_stripe_account
        ))
        .routes(routes!(stripe::authorize::authorize_stripe_account))
        .routes(routes!(stripe::fee::set_stripe_fee))
        .routes(routes!(plans::prices::list_plan_prices))
        .routes(routes!(plans::sync::sync_billing))
        .routes(routes!(checkouts::create::create_checkout, checkouts::list::list_checkouts))
        .routes(routes!(checkouts::get::get_checkout))
        .routes(routes!(portal::open_portal))
        .routes(routes!(preview::preview_plan))
        .routes(routes!(move_plan::change_plan))
        .routes(routes!(cancel::cancel_subscription))
        .routes(routes!(resume::resume_subscription))
}

fn customer() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(customers::create::create_customer, customers::list::list_customers))
        .routes(routes!(
            customers::get::get_customer,
            customers::update::update_customer,
            customers::archive::archive_customer
        ))
        .routes(routes!(
            subscriptions::create::create_subscription,
            subscriptions::list::list_subscriptions
        ))
        .routes(routes!(
            subscriptions::get::get_subscription,
            subscriptions::update::update_subscription,
            subscriptions::archive::archive_subscription
        ))
        .routes(routes!(
            adjustments::create::create_adjustment,
            adjustments::list::list_adjustments
        ))
        .routes(routes!(adjustments::get::get_adjustment))
        .routes(routes!(entitlements::get::get_entitlement))
}

fn token() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(tokens::create::create_token, tokens::list::list_tokens))
        .routes(routes!(tokens::import::import_token))
        .routes(routes!(tokens::rotate::rotate_token))
        .routes(routes!(
            tokens::get::get_token,
            tokens::update::update_token,
            tokens::revoke::revoke_token
        ))
}

fn node() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(nodes::create::create_node, nodes::list::list_nodes))
        .routes(routes!(nodes::get::get_node, nodes::archive::archive_node))
        .routes(routes!(nodes::declare_dead::declare_node_dead))
        .routes(routes!(
            nodes::create_token::create_node_token,
            nodes::list_tokens::list_node_tokens
        ))
        .routes(routes!(nodes::get_token::get_node_token, nodes::revoke_token::revoke_node_token))
}

fn stripe_events() -> OpenApiRouter<App> {
    use stripe_events::{ask_sweep, get, list, list_sweeps, replay};
    OpenApiRouter::new()
        .routes(routes!(list::list_stripe_events))
        .routes(routes!(get::get_stripe_event))
        .routes(routes!(replay::replay_stripe_event))
        .routes(routes!(reversals::list::list_reversals))
        .routes(routes!(list_sweeps::list_stripe_sweeps, ask_sweep::ask_stripe_sweep))
}

fn webhook() -> OpenApiRouter<App> {
    use webhook_endpoints::{
        archive, create, deliveries, get, list, replay, replay_all, rotate, update,
    };
    OpenApiRouter::new()
        .routes(routes!(create::create_webhook_endpoint, list::list_webhook_endpoints))
        .routes(routes!(
            get::get_webhook_endpoint,
            update::update_webhook_endpoint,
            archive::archive_webhook_endpoint
        ))
        .routes(routes!(rotate::rotate_webhook_secret))
        .routes(routes!(deliveries::list_webhook_deliveries))
        .routes(routes!(replay::replay_webhook_delivery))
        .routes(routes!(replay_all::replay_webhook_deliveries))
}
