//! What templates in the wild expect of the language they are written in.

use minijinja::{Environment, Error, ErrorKind, State, Value, value::Kwargs};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};

use crate::limits::TEMPLATE_DEPTH_MAX;

/// Where the time is found while rendering.
pub(super) const NOW: &str = "arknet_now_unix_s";
/// Spaces one step of an indented JSON text may have.
const INDENT_MAX: usize = 16;

/// The settings under which templates are written and tested by those who train models.
pub(super) fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_recursion_limit(TEMPLATE_DEPTH_MAX);
    environment.set_unknown_method_callback(unknown_method_callback);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_filter("tojson", tojson);
    environment
}

fn raise_exception(words: String) -> Result<String, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, words))
}

/// JSON as Python writes it, which is what models have read: a space after each comma and colon.
fn tojson(value: &Value, indent: Option<Value>, options: Kwargs) -> Result<Value, Error> {
    let indent = match indent {
        Some(indent) => Some(indent),
        None => options.get::<Option<Value>>("indent")?,
    };
    // The other options of Python's function (escapes, separators, order) are seldom used, and
    // never so that a model could tell.
    let spaces = indent.as_ref().and_then(Value::as_usize).map(|n| n.min(INDENT_MAX));
    let json = match spaces {
        None => write_json(value, PythonFormatter),
        Some(n) => write_json(value, PrettyFormatter::with_indent(" ".repeat(n).as_bytes())),
    };
    json.map(Value::from_safe_string)
}

fn write_json<F: Formatter>(value: &impl Serialize, formatter: F) -> Result<String, Error> {
    let failed = || Error::new(ErrorKind::BadSerialization, "not representable as JSON");
    let mut bytes = Vec::new();
    value
        .serialize(&mut Serializer::with_formatter(&mut bytes, formatter))
        .map_err(|_| failed())?;
    String::from_utf8(bytes).map_err(|_| failed())
}

/// The value as Python's `json.dumps` writes it.
pub(super) fn python_json(value: &serde_json::Value) -> String {
    write_json(value, PythonFormatter).unwrap_or_default()
}

struct PythonFormatter;

impl Formatter for PythonFormatter {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
    ) -> std::io::Result<()> {
        CompactFormatter.begin_object_value(writer)?;
        writer.write_all(b" ")
    }
}

/// Today, in the few forms templates ask for, in UTC.
fn strftime_now(state: &State<'_, '_>, format: &str) -> String {
    let seconds = state.lookup(NOW).and_then(|now| u64::try_from(now).ok()).unwrap_or(0);
    strftime(seconds, format)
}

fn strftime(seconds: u64, format: &str) -> String {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    const DAYS: [&str; 7] =
        ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
    let (year, month, day) = date(seconds / 86_400);
    let month_name = MONTHS[month - 1];
    let day_name = DAYS[usize::try_from(seconds / 86_400 % 7).unwrap_or(0)];
    let mut text = String::new();
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        text.push_str(&match rest.next() {
            Some('A') => day_name.to_owned(),
            Some('a') => day_name[..3].to_owned(),
            Some('B') => month_name.to_owned(),
            Some('b') => month_name[..3].to_owned(),
            Some('d') => format!("{day:02}"),
            Some('H') => format!("{:02}", seconds / 3600 % 24),
            Some('M') => format!("{:02}", seconds / 60 % 60),
            Some('m') => format!("{month:02}"),
            Some('S') => format!("{:02}", seconds % 60),
            Some('Y') => year.to_string(),
            Some('y') => format!("{:02}", year % 100),
            Some('%') => "%".to_owned(),
            Some(other) => format!("%{other}"),
            None => "%".to_owned(),
        });
    }
    text
}

/// Year, month and day of a number of days after the first of January 1970. Howard Hinnant's
/// `civil_from_days`: no loop, whatever the number.
fn date(days: u64) -> (u64, usize, u64) {
    // Counted from the first of March of the year 0; beyond a million years it is no date.
    let days = days.min(366_000_000) + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, usize::try_from(month).unwrap_or(1), day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(strftime(0, "%d %b %Y %A"), "01 Jan 1970 Thursday");
        assert_eq!(strftime(951_782_399, "%Y-%m-%d %H:%M:%S"), "2000-02-28 23:59:59");
        assert_eq!(strftime(951_782_400, "%a %d %B %y %%"), "Tue 29 February 00 %");
        assert_eq!(strftime(1_798_675_200, "%Y-%m-%d"), "2026-12-31");
        assert_eq!(strftime(1_798_761_600, "%Y-%m-%d%"), "2027-01-01%");
        assert!(!strftime(u64::MAX, "%Y").is_empty());
    }

    #[test]
    fn json_is_written_as_python_writes_it() {
        let value = serde_json::json!({"b": [1, 2.5, {}], "a": "<\u{e9}\n\""});
        assert_eq!(python_json(&value), "{\"b\": [1, 2.5, {}], \"a\": \"<\u{e9}\\n\\\"\"}");
    }
}
