//! Money: how accounts sell plans through Stripe.
//!
//! In: plans with prices, buyers, what Stripe says. Out: products, prices and sessions in the owner's Stripe account; checkouts
//! and claims here.
//! Always holds: a call that makes something carries an idempotency key that was stored before it ([`calls`]); test and live
//! never mix ([`stripe::Mode`] is part of every row and every call); amounts are whole numbers of the currency's smallest
//! unit ([`money`]).

pub mod calls;
pub mod money;
pub mod settle;
pub mod stripe;
pub mod sweep;
pub mod webhooks;
pub mod worker;
