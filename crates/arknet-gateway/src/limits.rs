use std::time::Duration;

/// How the door behaves.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Host names under which the door may be addressed, beyond `localhost`, `127.0.0.1`, `[::1]`
    /// and the address it listens on; ports do not count. Anything else is refused, which stops DNS
    /// rebinding.
    pub allowed_hosts: Vec<String>,
    /// Bounds on what one client may take.
    pub limits: Limits,
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
    /// How long a client may take to send a request body.
    pub body_read_ms: u64,
    /// Bytes of an answer that is gathered before it is sent. Streams are not gathered.
    pub answer_bytes_max: usize,
    /// A stream without news for this long, and at most twice as long, carries a comment, so that
    /// nobody in between takes it for dead.
    pub keepalive_ms: u64,
    /// How long running answers may go on after shutdown was asked for.
    pub drain_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            head_bytes_max: 64 * 1024,
            head_read_ms: 30_000,
            body_bytes_max: 8 * 1024 * 1024,
            body_read_ms: 30_000,
            answer_bytes_max: 16 * 1024 * 1024,
            keepalive_ms: 10_000,
            drain_ms: 10_000,
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

    pub(crate) const fn keepalive(&self) -> Duration {
        Duration::from_millis(self.keepalive_ms)
    }

    pub(crate) const fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms)
    }
}
