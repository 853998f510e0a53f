//! All accounts, for whoever runs the control plane.
//!
//! Always holds: only a key of the operator's, with an owner's role and without scopes, lists accounts or makes them.

pub mod create;
pub mod list;
