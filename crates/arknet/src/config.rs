use std::path::Path;

use arknet_node::{Config, Overrides};
use serde_json::{Value, json};

use crate::{
    cli::ConfigCommand,
    out::{Out, table},
};

pub(crate) fn run(path: &Path, command: ConfigCommand, out: &Out) -> anyhow::Result<()> {
    let config = Config::load(path, &Overrides::default())?;
    match command {
        ConfigCommand::Check => {
            let found = if path.exists() { "is valid" } else { "is not there; the defaults count" };
            let report = json!({ "path": path, "exists": path.exists(), "valid": true });
            out.result(&report, &format!("{} {found}", path.display()))
        }
        ConfigCommand::Show => {
            let effective = serde_json::to_value(&config)?;
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let in_file: toml::Table = toml::from_str(&text)?;
            let in_file = serde_json::to_value(in_file)?;
            let mut rows = Vec::new();
            collect(&effective, &in_file, String::new(), &mut rows);
            let values: Vec<Value> = rows
                .iter()
                .map(|(key, value, origin)| json!({ "key": key, "value": value, "origin": origin }))
                .collect();
            let lines: Vec<Vec<String>> = rows
                .iter()
                .map(|(key, value, origin)| vec![key.clone(), value.to_string(), (*origin).into()])
                .collect();
            out.result(&values, &table(&lines))
        }
    }
}

/// Every value with its dotted key, and whether the file says it.
fn collect(
    effective: &Value,
    in_file: &Value,
    key: String,
    rows: &mut Vec<(String, Value, &'static str)>,
) {
    match effective {
        Value::Object(fields) => {
            for (name, value) in fields {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                collect(value, in_file.get(name).unwrap_or(&Value::Null), key, rows);
            }
        }
        value => {
            let origin = if in_file.is_null() { "default" } else { "file" };
            rows.push((key, value.clone(), origin));
        }
    }
}
