//! Policy files: no text panics, and what is accepted compiles to a snapshot that loads.

#![no_main]

use libfuzzer_sys::fuzz_target;
use policy::compile::compile;
use policy::model::file::parse;
use policy::snapshot::Snapshot;

fuzz_target!(|data: &[u8]| {
    match parse("policy.toml", data) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(parsed) => {
            let bytes = compile(&parsed.policy, 1).expect("what parses compiles");
            let snapshot = Snapshot::from_bytes(&bytes).expect("what compiles loads");
            assert_eq!(snapshot.sites().len(), parsed.policy.sites.len());
        }
    }
});
