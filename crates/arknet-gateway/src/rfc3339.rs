use std::time::Duration;

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// A time as the APIs write it.
pub(crate) fn rfc3339(since_epoch: Duration) -> String {
    let nanos = i128::try_from(since_epoch.as_nanos()).unwrap_or(i128::MAX);
    OffsetDateTime::from_unix_timestamp_nanos(nanos)
        .ok()
        .and_then(|moment| moment.format(&Rfc3339).ok())
        .unwrap_or_else(|| "9999-12-31T23:59:59Z".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_people_expect() {
        for (since_epoch, text) in [
            (Duration::ZERO, "1970-01-01T00:00:00Z"),
            (Duration::new(1_700_000_000, 120_000_000), "2023-11-14T22:13:20.12Z"),
            (Duration::new(253_402_300_800, 0), "9999-12-31T23:59:59Z"),
            (Duration::MAX, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(since_epoch), text);
        }
    }
}
