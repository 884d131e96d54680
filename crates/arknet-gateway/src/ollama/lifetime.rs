use std::time::Duration;

use super::wire::Lifetime;
use crate::{ApiError, KeepAlive};

/// How long a model stays that was loaded without a word about that.
pub(super) const DEFAULT: KeepAlive = KeepAlive::For(Duration::from_secs(300));

/// Longer is for ever.
const SECONDS_MAX: f64 = 100.0 * 365.0 * 24.0 * 3600.0;

/// Reads `keep_alive`: seconds, or a duration as Go writes it. Below zero is for ever.
pub(super) fn keep_alive(wish: Option<Lifetime>) -> Result<Option<KeepAlive>, ApiError> {
    let seconds = match wish {
        None => return Ok(None),
        Some(Lifetime::Seconds(seconds)) => Some(seconds),
        Some(Lifetime::Text(text)) => seconds(text.trim()),
    };
    let seconds = seconds.filter(|seconds| seconds.is_finite()).ok_or_else(|| {
        let message =
            "keep_alive is a number of seconds or a duration such as \"5m\" or \"1h30m\".";
        ApiError::parameter("keep_alive", message)
    })?;
    Ok(Some(if seconds == 0.0 {
        KeepAlive::None
    } else if (0.0..=SECONDS_MAX).contains(&seconds) {
        KeepAlive::For(Duration::from_secs_f64(seconds))
    } else {
        KeepAlive::Forever
    }))
}

fn seconds(text: &str) -> Option<f64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    // What has no unit is seconds, as for the number.
    if !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()) {
        return rest.parse::<f64>().ok().map(|seconds| sign * seconds);
    }
    let mut total = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let scale = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * scale;
        rest = after;
    }
    Some(sign * total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        let seconds = |n| Some(KeepAlive::For(Duration::from_secs(n)));
        for (text, expected) in [
            ("5m", seconds(300)),
            ("1h30m", seconds(5400)),
            ("1.5h", seconds(5400)),
            ("2500ms", Some(KeepAlive::For(Duration::from_millis(2500)))),
            ("300", seconds(300)),
            ("+5s", seconds(5)),
            ("0", Some(KeepAlive::None)),
            ("0s", Some(KeepAlive::None)),
            ("-1", Some(KeepAlive::Forever)),
            ("-5m", Some(KeepAlive::Forever)),
            ("99999999h", Some(KeepAlive::Forever)),
        ] {
            assert_eq!(keep_alive(Some(Lifetime::Text(text.into()))).unwrap(), expected, "{text}");
        }
        for text in ["", "m", "5", "5x", "1..2s", "5m3", "-", "NaN", "1e3s", "\u{e9}"] {
            let read = keep_alive(Some(Lifetime::Text(text.into())));
            assert_eq!(read.is_ok(), text == "5", "{text}");
        }
        assert_eq!(keep_alive(Some(Lifetime::Seconds(-1.0))).unwrap(), Some(KeepAlive::Forever));
        assert_eq!(keep_alive(Some(Lifetime::Seconds(0.0))).unwrap(), Some(KeepAlive::None));
        assert_eq!(keep_alive(Some(Lifetime::Seconds(300.0))).unwrap(), seconds(300));
        assert_eq!(keep_alive(None).unwrap(), None);
    }
}
