//! The sandbox over real sockets: what it answers, what it tells, what falls due.
//!
//! In: forms as our client sends them. Out: nothing but verdicts.
//! Always holds: time is fixed and moved by hand; waiting is for conditions with a deadline.

mod accounts;
mod checkout;
mod cycle;
mod faults;
mod gate;
mod meters;
mod money_back;
mod updates;
mod walk;
mod webhooks;
mod world;
