//! When the store is brought to disk.

use arknet_types::Timestamp;

use super::DriverError;
use crate::{Store, limits::CHECKPOINT_HEIGHTS_MAX};

#[derive(Debug)]
pub(super) struct Keeper {
    store: Store,
    due: Timestamp,
    heights: u64,
}

impl Keeper {
    pub(super) fn new(store: Store, now: Timestamp) -> Self {
        let due = now.plus_ms(store.options().checkpoint_ms);
        Self { store, due, heights: 0 }
    }

    /// A height was written that is safe in the log; it and those before go to disk if it is time.
    pub(super) fn wrote(&mut self, now: Timestamp) -> Result<(), DriverError> {
        self.heights = self.heights.saturating_add(1);
        if now >= self.due || self.heights >= CHECKPOINT_HEIGHTS_MAX {
            self.keep_all(now)?;
        }
        Ok(())
    }

    /// When this returns everything written is on disk.
    pub(super) fn keep_all(&mut self, now: Timestamp) -> Result<(), DriverError> {
        self.due = now.plus_ms(self.store.options().checkpoint_ms);
        self.heights = 0;
        Ok(self.store.checkpoint()?)
    }
}
