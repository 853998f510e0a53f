//! Policy as a file says it and policy as a control plane has it: what lies between them, and how to get there.
//!
//! In: a policy file, a control plane's REST. Out: the difference in lines and in steps, steps carried out, the file given back.
//! Always holds: both sides are brought into one form ([`form`]) before they are compared, so that what is compared as the same is the same
//! for a node; finding the difference ([`difference`]) touches neither network nor disk; no line holds a secret.

pub mod bought;
pub mod difference;
pub mod form;
pub mod keep;
pub mod named;
pub mod perform;
pub mod rest;
pub mod state;
pub mod text;
