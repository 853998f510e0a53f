//! What the rows mean, without database and without HTTP.
//!
//! In: fields that a caller sent. Out: checked values, or what is allowed instead.
//! Always holds: words and limits of what nodes enforce are those of the policy file, since its own reader checks them.

pub mod object;
pub mod permission;
pub mod plan_terms;
pub mod policy_text;
pub mod price;
pub mod private_address;
pub mod shapes;
pub mod site;
pub mod usage;
