use std::collections::VecDeque;

/// Events that are kept in words, for who looks for the cause of a violation.
const TOLD_MAX: usize = 300;

/// A running hash (FNV-1a) over everything that happens: two runs of one seed must agree in it.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    hash: u64,
    events: u64,
    told: Option<VecDeque<String>>,
}

impl Default for Trace {
    fn default() -> Self {
        Self { hash: FNV_OFFSET, events: 0, told: None }
    }
}

impl Trace {
    /// Adds one event: what happened, to whom, when, and the bytes it carried.
    pub(crate) fn record(&mut self, what: &str, numbers: &[u64], bytes: &[u8]) {
        let digits = numbers.iter().flat_map(|n| n.to_le_bytes());
        let all = what.bytes().chain(digits).chain(bytes.iter().copied());
        self.hash = all.fold(self.hash, fnv_step);
        self.events += 1;
        if let Some(told) = &mut self.told {
            told.drain(..(told.len() + 1).saturating_sub(TOLD_MAX));
            told.push_back(format!("{what} {numbers:?} ({} bytes)", bytes.len()));
        }
    }

    /// Keeps the latest events in words too.
    pub(crate) fn tell(&mut self) {
        self.told = Some(VecDeque::new());
    }

    /// The latest events in words, one in a line; nothing if they were not kept.
    pub(crate) fn told(&self) -> String {
        self.told.iter().flatten().fold(String::new(), |text, line| text + line + "\n")
    }

    /// The hash so far.
    #[must_use]
    pub(crate) const fn hash(&self) -> u64 {
        self.hash
    }

    /// Events so far.
    #[must_use]
    pub(crate) const fn events(&self) -> u64 {
        self.events
    }
}

/// A short name for bytes, by which the checkers remember what was really signed.
pub(crate) fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().copied().fold(FNV_OFFSET, fnv_step)
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

const fn fnv_step(hash: u64, byte: u8) -> u64 {
    (hash ^ byte as u64).wrapping_mul(0x0000_0100_0000_01b3)
}

#[cfg(test)]
mod tests {
    use super::Trace;

    #[test]
    fn every_part_of_an_event_counts() {
        let hash = |what, numbers: &[u64], bytes: &[u8]| {
            let mut trace = Trace::default();
            trace.record(what, numbers, bytes);
            trace.hash()
        };
        let base = hash("a", &[1], b"x");
        assert_ne!(base, hash("b", &[1], b"x"));
        assert_ne!(base, hash("a", &[2], b"x"));
        assert_ne!(base, hash("a", &[1], b"y"));
        assert_eq!(base, hash("a", &[1], b"x"));
    }
}
