use std::{fmt, sync::Arc, time::Duration};

use crate::{Keys, Observer};

/// Answers one request may ask for at once.
pub const CHOICES_MAX: u32 = 16;

/// How the door behaves.
#[derive(Clone, Default)]
pub struct Options {
    /// Host names under which the door may be addressed, beyond `localhost`, `127.0.0.1`, `[::1]`
    /// and the address it listens on; ports do not count. Anything else is refused, which stops DNS
    /// rebinding.
    pub allowed_hosts: Vec<String>,
    /// Origins (`https://chat.example`) whose web pages may use the door, beside its own. None by
    /// default.
    pub allowed_origins: Vec<String>,
    /// Who may use the door; everybody who reaches it where there are no keys.
    pub keys: Option<Arc<dyn Keys>>,
    /// Who is told how requests went.
    pub observer: Option<Arc<dyn Observer>>,
    /// Bounds on what one client may take.
    pub limits: Limits,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("allowed_hosts", &self.allowed_hosts)
            .field("allowed_origins", &self.allowed_origins)
            .field("keys", &self.keys.is_some())
            .field("observer", &self.observer.is_some())
            .field("limits", &self.limits)
            .finish()
    }
}

/// Every bound of the door, in one place.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections held at once; further ones wait in the listener's backlog.
    pub connections_max: usize,
    /// Bytes of request line and headers, and of what is buffered towards a slow reader.
    /// Less than 8192 counts as 8192. A request may have 100 headers.
    pub head_bytes_max: usize,
    /// How long a connection may take to send a request head, which is also how long it may idle.
    pub head_read_ms: u64,
    /// Bytes of a request body.
    pub body_bytes_max: usize,
    /// Bytes of all large request bodies that are held at once; a request beyond is told to come
    /// again. Those of 64 KiB and less do not count.
    pub large_bodies_bytes_max: usize,
    /// How long a client may take to send a request body.
    pub body_read_ms: u64,
    /// How long a client may leave an answer lying without taking a byte of it.
    pub write_stall_ms: u64,
    /// Bytes of an answer that is gathered before it is sent. Streams are not gathered.
    pub answer_bytes_max: usize,
    /// How long an answer may take from its dispatch to its end.
    pub answer_ms_max: u64,
    /// A stream without news for this long, and at most twice as long, carries a comment, so that
    /// nobody in between takes it for dead.
    pub keepalive_ms: u64,
    /// How long running answers may go on after shutdown was asked for.
    pub drain_ms: u64,
    /// Answers of `/v1/responses` kept, so that others can build on them.
    pub stored_responses_max: usize,
    /// Bytes of them together.
    pub stored_bytes_max: usize,
    /// How long each is kept.
    pub stored_ms_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            head_bytes_max: 64 * 1024,
            head_read_ms: 30_000,
            body_bytes_max: 16 * 1024 * 1024,
            large_bodies_bytes_max: 512 * 1024 * 1024,
            body_read_ms: 30_000,
            write_stall_ms: 60_000,
            answer_bytes_max: 16 * 1024 * 1024,
            answer_ms_max: 3_600_000,
            keepalive_ms: 10_000,
            drain_ms: 10_000,
            stored_responses_max: 1024,
            stored_bytes_max: 64 * 1024 * 1024,
            stored_ms_max: 24 * 3_600_000,
        }
    }
}

impl Limits {
    pub(crate) const fn head_read(&self) -> Duration {
        Duration::from_millis(self.head_read_ms)
    }

    pub(crate) const fn body_read(&self) -> Duration {
        Duration::from_millis(self.body_read_ms)
    }

    pub(crate) const fn write_stall(&self) -> Duration {
        Duration::from_millis(self.write_stall_ms)
    }

    pub(crate) const fn answer(&self) -> Duration {
        Duration::from_millis(self.answer_ms_max)
    }

    pub(crate) const fn keepalive(&self) -> Duration {
        Duration::from_millis(self.keepalive_ms)
    }

    pub(crate) const fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms)
    }
}
