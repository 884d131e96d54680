//! Moments as people write them: RFC 3339, in UTC.

use arknet_types::Timestamp;
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

/// A moment as it is written, to the second where it is whole.
pub(crate) fn write(at: Timestamp) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0) * 1_000_000)
        .ok()
        .and_then(|moment| moment.format(&Rfc3339).ok())
        .unwrap_or_else(|| "9999-12-31T23:59:59Z".into())
}

/// Reads a moment, whatever zone it is written in; before 1970 there was none.
pub(crate) fn read(text: &str) -> Option<Timestamp> {
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?.to_offset(UtcOffset::UTC);
    u64::try_from(moment.unix_timestamp_nanos() / 1_000_000).ok().map(Timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read_and_zones_are_understood() {
        for (text, ms, written) in [
            ("2026-03-15T10:30:00Z", 1_773_570_600_000, "2026-03-15T10:30:00Z"),
            ("2026-03-15T11:30:00.25+01:00", 1_773_570_600_250, "2026-03-15T10:30:00.25Z"),
            ("1970-01-01T00:00:00Z", 0, "1970-01-01T00:00:00Z"),
        ] {
            assert_eq!(read(text), Some(Timestamp(ms)), "{text}");
            assert_eq!(write(Timestamp(ms)), written);
        }
        for bad in ["", "yesterday", "2026-03-15", "1969-12-31T23:59:59Z", "2026-13-01T00:00:00Z"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(write(Timestamp(u64::MAX)), "9999-12-31T23:59:59Z");
    }
}
