use arknet_types::Timestamp;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// The last moment that has four digits for its year.
const YEARS_END_MS: u64 = 253_402_300_799_999;

/// What a line says. No variant has room for what a user wrote or was answered.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The first line of all.
    Begin {
        /// The form of the lines: 1.
        version: u32,
        /// The network.
        network: String,
        /// The peer id of the node that writes.
        node: String,
        /// A number of chance in hex, so that no two logs begin alike.
        start: String,
    },
    /// The node has started.
    Start {
        /// Its version.
        program: String,
        /// Requests that the life before began and did not end: it was killed, or lost power.
        unclosed: u64,
        /// Bytes of a line that was being written then, and were taken away.
        torn_bytes: u64,
        /// What the file beside the log said of its end.
        head: HeadSeen,
    },
    /// The work for a request begins. On disk before any of the answer leaves.
    Open {
        /// Names the request: the same in its closing line, and computable by who sent it.
        job: String,
        /// The peer id of who asked.
        peer: String,
        /// What that peer is called here.
        node_id: Option<String>,
        /// What was asked for.
        model: String,
        /// What kind of work: `chat`, `embed`, `file`.
        asks: String,
    },
    /// The work for a request has ended.
    Close {
        /// The request.
        job: String,
        /// The peer id of who asked.
        peer: String,
        /// What that peer is called here.
        node_id: Option<String>,
        /// What was asked for.
        model: String,
        /// `done`, `left` when the requester went away, or the code of the refusal.
        outcome: String,
        /// Tokens generated.
        tokens_generated: u32,
        /// Tokens of the question.
        tokens_read: u32,
        /// From the admission to the end, in milliseconds.
        latency_ms: u64,
        /// From the admission to the first piece of the answer.
        first_token_ms: Option<u64>,
        /// The receipt of the job; none as long as there are no receipts.
        receipt: Option<String>,
    },
    /// A request was refused before any work.
    Refused {
        /// The peer id of who asked; none where the line speaks of several peers.
        peer: Option<String>,
        /// What that peer is called here.
        node_id: Option<String>,
        /// What was asked for, where that was read.
        model: Option<String>,
        /// The code of the refusal, or `several`.
        outcome: String,
        /// Refusals of this peer before this line that have no line of their own.
        uncounted: u64,
    },
    /// The node stops in order.
    Stop {},
}

/// What the file with the head said when a node started.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HeadSeen {
    /// It names the last line, or one shortly before.
    Agrees,
    /// There is no such line in the log: its end was cut off or changed.
    Differs,
    /// There was no such file: whether the end was cut off cannot be told.
    Missing,
}

/// A line without its hash.
#[derive(Serialize)]
pub(super) struct Body<'a> {
    pub(super) sequence: u64,
    pub(super) timestamp: String,
    #[serde(flatten)]
    pub(super) event: &'a Event,
    pub(super) previous: String,
}

/// What the check of a chain reads of a line; lines of later versions pass too.
#[derive(Deserialize)]
pub(super) struct Outline {
    pub(super) sequence: u64,
    pub(super) previous: String,
    pub(super) event: String,
    pub(super) job: Option<String>,
    pub(super) head: Option<HeadSeen>,
}

/// A moment as the log writes it: RFC 3339 in UTC with milliseconds, so that texts have the order of
/// the moments.
#[must_use]
pub fn rfc3339(at: Timestamp) -> String {
    let nanos = i128::from(at.0.min(YEARS_END_MS)) * 1_000_000;
    let at = OffsetDateTime::from_unix_timestamp_nanos(nanos).expect("up to the year 9999");
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second, ms) = at.to_hms_milli();
    let month = u8::from(month);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}
