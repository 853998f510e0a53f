//! Queries of the handbook.
