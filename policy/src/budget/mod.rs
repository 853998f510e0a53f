//! Quota periods, rate limits, slots, loans and leases: arithmetic only.
