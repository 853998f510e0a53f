//! What a node is told about its decision journal.
//!
//! In: the flags about the journal, completed by environment and file. Out: a [`JournalConfig`], none where it is off.
//! Always holds: rows name a node, whatever this machine is called.

use dataplane::config::JournalConfig;

use crate::cli::JournalArgs;

/// Bytes that rows on disk may take where nobody says: some four million decisions.
const MIB_DEFAULT: u64 = 1024;
/// The name of a node on a machine without one.
const NODE_DEFAULT: &str = "payfence";

/// What the data plane is told.
pub fn config(args: &JournalArgs) -> Option<JournalConfig> {
    if args.journal.unwrap_or_default() == crate::cli::Switch::Off {
        return None;
    }
    let system = rustix::system::uname();
    let name = system.nodename().to_string_lossy();
    let name = if name.is_empty() { NODE_DEFAULT } else { &name };
    Some(JournalConfig {
        node: args.node_name.clone().unwrap_or_else(|| name.to_owned()),
        spool_bytes: args.journal_max_mib.unwrap_or(MIB_DEFAULT) << 20,
    })
}
