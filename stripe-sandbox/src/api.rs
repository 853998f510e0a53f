//! The calls, one kind of object a file.
//!
//! In: a [`crate::call::Call`]. Out: the object, or Stripe's refusal.
//! Always holds: each file names its routes and their parameters in a table; what is done to money is in
//! [`crate::engine`].

use crate::routes::Route;

pub mod accounts;
pub mod charges;
pub mod checkout_sessions;
pub mod coupons;
pub mod customers;
pub mod invoices;
pub mod meters;
pub mod payment_methods;
pub mod portal;
pub mod prices;
pub mod products;
pub mod refunds;
pub mod session_create;
pub mod subscription_create;
pub mod subscription_update;
pub mod subscriptions;
pub mod test_clocks;
pub mod webhook_endpoints;

/// The routes of all files.
pub const TABLES: &[&[Route]] = &[
    accounts::ROUTES,
    charges::ROUTES,
    checkout_sessions::ROUTES,
    coupons::ROUTES,
    customers::ROUTES,
    invoices::ROUTES,
    meters::ROUTES,
    payment_methods::ROUTES,
    portal::ROUTES,
    refunds::ROUTES,
    test_clocks::ROUTES,
    prices::ROUTES,
    products::ROUTES,
    subscriptions::ROUTES,
    webhook_endpoints::ROUTES,
    crate::events::ROUTES,
];
