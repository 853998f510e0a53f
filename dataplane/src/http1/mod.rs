//! A sans-IO HTTP/1 codec.
