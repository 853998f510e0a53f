//! Billing as Stripe does it: subscriptions, periods, invoices, payments, usage.
//!
//! In: what handlers and pages ask for, and what falls due. Out: objects that changed, and their events.
//! Always holds: an invoice's lines add up to its total; a period begins where the one before ended; money is whole
//! minor units.

pub mod calendar;
pub mod change;
pub mod checkout;
pub mod cycle;
pub mod due;
pub mod invoicing;
pub mod lines;
pub mod money;
pub mod payments;
pub mod settle;
pub mod subscribe;
pub mod tax;
pub mod usage;
