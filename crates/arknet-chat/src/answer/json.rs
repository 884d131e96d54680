//! JSON as it comes: only as much as is needed to know where things begin and end.

use crate::limits::CALL_DEPTH_MAX;

/// What was read cannot be what was expected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Malformed;

/// Follows one value to its end.
#[derive(Clone, Debug, Default)]
pub(super) struct Balance {
    /// The brackets that must come, innermost last.
    open: Vec<char>,
    in_text: bool,
    is_escaped: bool,
}

impl Balance {
    /// Takes the next character of a value that began with a bracket or a quote, and says whether
    /// it is the last.
    pub(super) fn step(&mut self, c: char) -> Result<bool, Malformed> {
        if self.in_text {
            match c {
                _ if self.is_escaped => self.is_escaped = false,
                '\\' => self.is_escaped = true,
                '"' => self.in_text = false,
                _ => {}
            }
            return Ok(!self.in_text && self.open.is_empty());
        }
        match c {
            '"' => self.in_text = true,
            '{' | '[' if self.open.len() >= CALL_DEPTH_MAX => return Err(Malformed),
            '{' => self.open.push('}'),
            '[' => self.open.push(']'),
            '}' | ']' if self.open.pop() != Some(c) => return Err(Malformed),
            _ => {}
        }
        Ok(!self.in_text && self.open.is_empty())
    }
}

/// Where in an object the next character stands.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Place {
    #[default]
    Before,
    KeyOrEnd,
    Key,
    KeyBegin,
    Colon,
    ValueBegin,
    Value,
    Scalar,
    CommaOrEnd,
    Done,
}

/// Follows an object, field by field.
#[derive(Clone, Debug, Default)]
pub(super) struct ObjectScan {
    place: Place,
    balance: Balance,
    /// The key that is read or was read last, as it is written, without its quotes.
    pub key: String,
    key_is_escaped: bool,
}

/// What a character was.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Seen {
    /// The first of a value.
    pub begins: bool,
    /// Part of a value.
    pub in_value: bool,
    /// The value has ended, with or before it.
    pub ends: bool,
    /// The object has ended with it.
    pub is_done: bool,
}

/// Bytes of a key.
const KEY_BYTES_MAX: usize = 64;

impl ObjectScan {
    /// Takes the next character.
    pub(super) fn step(&mut self, c: char) -> Result<Seen, Malformed> {
        let mut seen = Seen::default();
        self.place = match (self.place, c) {
            (Place::Key, _) => {
                if self.key.len() >= KEY_BYTES_MAX {
                    return Err(Malformed);
                }
                if c == '"' && !self.key_is_escaped {
                    Place::Colon
                } else {
                    self.key_is_escaped = c == '\\' && !self.key_is_escaped;
                    self.key.push(c);
                    Place::Key
                }
            }
            (Place::Value, _) => {
                seen.in_value = true;
                seen.ends = self.balance.step(c)?;
                if seen.ends { Place::CommaOrEnd } else { Place::Value }
            }
            (Place::Scalar, ',' | '}') | (Place::Scalar, ' ' | '\n' | '\r' | '\t') => {
                seen.ends = true;
                seen.is_done = c == '}';
                match c {
                    ',' => Place::KeyBegin,
                    '}' => Place::Done,
                    _ => Place::CommaOrEnd,
                }
            }
            (Place::Scalar, c) if c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.') => {
                seen.in_value = true;
                Place::Scalar
            }
            (place, ' ' | '\n' | '\r' | '\t') => place,
            (Place::Before, '{') => Place::KeyOrEnd,
            (Place::KeyOrEnd | Place::KeyBegin, '"') => {
                self.key.clear();
                Place::Key
            }
            (Place::KeyOrEnd | Place::CommaOrEnd, '}') => {
                seen.is_done = true;
                Place::Done
            }
            (Place::Colon, ':') => Place::ValueBegin,
            (Place::ValueBegin, '{' | '[' | '"') => {
                seen.begins = true;
                seen.in_value = true;
                self.balance = Balance::default();
                self.balance.step(c)?;
                Place::Value
            }
            (Place::ValueBegin, c) if c.is_ascii_alphanumeric() || c == '-' => {
                seen.begins = true;
                seen.in_value = true;
                Place::Scalar
            }
            (Place::CommaOrEnd, ',') => Place::KeyBegin,
            _ => return Err(Malformed),
        };
        Ok(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of an object with their keys.
    fn fields(text: &str) -> Result<Vec<(String, String)>, Malformed> {
        let mut scan = ObjectScan::default();
        let mut found: Vec<(String, String)> = vec![];
        let mut is_done = false;
        for c in text.chars() {
            assert!(!is_done);
            let seen = scan.step(c)?;
            if seen.begins {
                found.push((scan.key.clone(), String::new()));
            }
            if seen.in_value {
                found.last_mut().unwrap().1.push(c);
            }
            is_done = seen.is_done;
        }
        if is_done { Ok(found) } else { Err(Malformed) }
    }

    #[test]
    fn objects_are_followed_field_by_field() {
        let own = |list: &[(&str, &str)]| {
            Ok(list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect())
        };
        assert_eq!(fields("{}"), own(&[]));
        assert_eq!(
            fields(" {\"a\" : 1,\"b\":\"}\\\"\", \"c\": {\"x\": [1, {}]} , \"d\":null}"),
            own(&[("a", "1"), ("b", "\"}\\\"\""), ("c", "{\"x\": [1, {}]}"), ("d", "null")])
        );
    }

    #[test]
    fn what_is_no_object_is_told_at_once() {
        for text in ["[", "{,", "{\"a\" 1", "{\"a\":]", "{\"a\":1;", "{\"a\":{]", "x", "{\"a\":1,}"]
        {
            assert_eq!(fields(text), Err(Malformed), "{text}");
        }
        let deep = format!("{{\"a\":{}", "[".repeat(CALL_DEPTH_MAX + 1));
        assert_eq!(fields(&deep), Err(Malformed));
    }
}
