//! Threads that may block: admin listener, DNS, policy files, signals.
