//! Money: how accounts sell plans through Stripe.

pub mod webhooks;
