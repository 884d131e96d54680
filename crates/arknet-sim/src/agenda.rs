use std::collections::BTreeMap;

/// What will happen, in order of time and, at one time, in the order it was planned.
#[derive(Debug)]
pub(crate) struct Agenda<E> {
    planned: BTreeMap<(u64, u64), E>,
    count: u64,
}

impl<E> Default for Agenda<E> {
    fn default() -> Self {
        Self { planned: BTreeMap::new(), count: 0 }
    }
}

impl<E> Agenda<E> {
    pub(crate) fn plan(&mut self, at_ms: u64, event: E) {
        self.count += 1;
        self.planned.insert((at_ms, self.count), event);
    }

    /// The next event that happens at `until_ms` or before.
    pub(crate) fn next(&mut self, until_ms: u64) -> Option<(u64, E)> {
        let first = self.planned.first_entry()?;
        let at_ms = first.key().0;
        (at_ms <= until_ms).then(|| (at_ms, first.remove()))
    }
    /// Keeps what is still to happen of all that was planned.
    pub(crate) fn retain(&mut self, keep: impl Fn(&E) -> bool) {
        self.planned.retain(|_, event| keep(event));
    }
}
