use std::{fs, path::PathBuf, sync::Once};

use serde_json::Value;

use crate::documents;

/// The file `name` as it stands; where it is asked for, all files are written first.
pub(crate) fn read(name: &str) -> Value {
    static UPDATE: Once = Once::new();
    UPDATE.call_once(|| {
        if std::env::var_os("UPDATE").is_some() {
            for (name, document) in documents::all() {
                let text = serde_json::to_string_pretty(&document).unwrap() + "\n";
                fs::write(folder().join(name), text).unwrap();
            }
        }
    });
    let text = fs::read_to_string(folder().join(name)).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or(Value::Null)
}

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/vectors"))
}
