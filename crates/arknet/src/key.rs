use std::time::Duration;

use anyhow::{Context, bail};
use arknet_node::{DataDir, KeyRecord, NewKey};
use serde_json::{Value, json};

use crate::{
    cli::KeyCommand,
    out::{Out, table},
};

pub(crate) fn run(data: &DataDir, command: KeyCommand, out: &Out) -> anyhow::Result<()> {
    let keys = data.keys();
    match command {
        KeyCommand::Create { name, models, requests_per_minute, tokens_per_day, expires } => {
            let now = arknet_sdk::now().0 / 1000;
            let (key, record) = keys.create(NewKey {
                name,
                models,
                requests_per_minute,
                tokens_per_day,
                expires_unix_s: expires.map(|after| now.saturating_add(after.as_secs())),
            })?;
            let mut report = json(&record);
            report["key"] = json!(key);
            out.note(
                "This is the only time the key can be seen. Send it as: Authorization: Bearer",
            );
            out.result(&report, &key)
        }
        KeyCommand::List => {
            let records = keys.list()?;
            if records.is_empty() && !out.is_json() {
                return out
                    .result(&records, "no keys; make one with: arknet key create --name NAME");
            }
            let heads = ["NAME", "KEY", "MODELS", "REQUESTS/MIN", "TOKENS/DAY", "EXPIRES"];
            let mut rows = vec![heads.map(String::from).to_vec()];
            rows.extend(records.iter().map(row));
            let reports: Vec<Value> = records.iter().map(json).collect();
            out.result(&reports, &table(&rows))
        }
        KeyCommand::Revoke { name } => {
            let record = keys.revoke(&name)?;
            out.result(&json(&record), &format!("{name} does not open anything any more"))
        }
    }
}

/// What a program is told of a key: all but its hash.
fn json(record: &KeyRecord) -> Value {
    json!({
        "name": record.name,
        "prefix": record.prefix,
        "created_unix_s": record.created_unix_s,
        "models": record.models,
        "requests_per_minute": record.requests_per_minute,
        "tokens_per_day": record.tokens_per_day,
        "expires_unix_s": record.expires_unix_s,
    })
}

fn row(record: &KeyRecord) -> Vec<String> {
    let number = |value: Option<u64>| value.map_or_else(|| "-".into(), |value| value.to_string());
    let models = record.models.as_ref().map_or_else(
        || "all".into(),
        |models| models.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    );
    let now = arknet_sdk::now().0 / 1000;
    let expires = match record.expires_unix_s {
        None => "never".into(),
        Some(end) if end <= now => "expired".into(),
        Some(end) => format!("in {} h", (end - now).div_ceil(3600)),
    };
    vec![
        record.name.clone(),
        format!("{}...", record.prefix),
        models,
        number(record.requests_per_minute.map(u64::from)),
        number(record.tokens_per_day),
        expires,
    ]
}

/// A time as people write it: `90s`, `15m`, `12h`, `30d`, `8w`.
pub(crate) fn parse_time(text: &str) -> anyhow::Result<Duration> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        "w" => 7 * 24 * 3600,
        _ => bail!("write a time as 90s, 15m, 12h, 30d or 8w"),
    };
    let number: u64 = number.parse().context("write a time as 90s, 15m, 12h, 30d or 8w")?;
    let seconds = number.checked_mul(seconds).filter(|seconds| *seconds > 0);
    Ok(Duration::from_secs(seconds.context("the time is out of bounds")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_a_number_and_a_unit() {
        let seconds = |text| parse_time(text).ok().map(|time| time.as_secs());
        assert_eq!(seconds("90s"), Some(90));
        assert_eq!(seconds("2h"), Some(7200));
        assert_eq!(seconds("30d"), Some(2_592_000));
        for bad in ["", "d", "3", "3x", "-1d", "0d", "1.5h", "99999999999999999999w", "3 d"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }
}
