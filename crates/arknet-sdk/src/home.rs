//! Where keys and settings lie: `~/.arknet`, or what `ARKNET_HOME` says.

use std::path::PathBuf;

/// The directory of keys and settings. `None` where the system knows no home directory and
/// `ARKNET_HOME` is not set.
#[must_use]
pub fn directory() -> Option<PathBuf> {
    match std::env::var_os("ARKNET_HOME") {
        Some(path) if !path.is_empty() => Some(path.into()),
        _ => std::env::home_dir().map(|home| home.join(".arknet")),
    }
}
