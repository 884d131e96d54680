//! A disk in memory that can be cut off at any moment, and then has of what was not synced whatever
//! it likes.

use std::sync::{Arc, Mutex, MutexGuard};

use redb::StorageBackend;

/// What a disk writes at once or not at all.
const SECTOR_BYTES: usize = 512;

type Result<T> = std::result::Result<T, std::io::Error>;

#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// What is there for sure.
    synced: Vec<u8>,
    /// What reads see.
    now: Vec<u8>,
    /// What was changed since the last sync.
    pending: Vec<Change>,
    /// Operations until the disk is cut off; none for never.
    left: Option<u64>,
    done: u64,
    failure: Option<std::io::ErrorKind>,
}

#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.now.len())
    }
}

impl Disk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Operations up to now.
    pub(crate) fn operations(&self) -> u64 {
        self.state().done
    }

    /// Fails everything that changes something after so many more operations.
    pub(crate) fn fail_after(&self, operations: u64, kind: std::io::ErrorKind) {
        let mut state = self.state();
        (state.left, state.failure) = (Some(operations), Some(kind));
    }

    /// Works again.
    pub(crate) fn repair(&self) {
        self.state().left = None;
    }

    /// The disk as it is after the power went: of what was not synced, each sector is there or not
    /// as `keeps` says.
    pub(crate) fn after_crash(&self, mut keeps: impl FnMut() -> bool) -> Self {
        let state = self.state();
        let mut bytes = state.synced.clone();
        for change in &state.pending {
            match change {
                Change::Length(length) => {
                    if keeps() {
                        bytes.resize(*length, 0);
                    }
                }
                Change::Write(at, written) => {
                    for (n, sector) in written.chunks(SECTOR_BYTES).enumerate() {
                        let at = at + n * SECTOR_BYTES;
                        if keeps() {
                            let end = at + sector.len();
                            let length = bytes.len().max(end);
                            bytes.resize(length, 0);
                            bytes[at..end].copy_from_slice(sector);
                        }
                    }
                }
            }
        }
        let state = State { synced: bytes.clone(), now: bytes, ..State::default() };
        Self(Arc::new(Mutex::new(state)))
    }

    fn change(&self, change: impl FnOnce(&mut State)) -> Result<()> {
        let mut state = self.state();
        if state.left == Some(0) {
            return Err(state.failure.unwrap_or(std::io::ErrorKind::Other).into());
        }
        state.left = state.left.map(|left| left - 1);
        state.done += 1;
        change(&mut state);
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64> {
        Ok(self.state().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let at = usize::try_from(offset).unwrap();
        let state = self.state();
        let bytes = state.now.get(at..at + out.len());
        out.copy_from_slice(bytes.ok_or(std::io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<()> {
        let length = usize::try_from(len).unwrap();
        self.change(|state| {
            state.now.resize(length, 0);
            state.pending.push(Change::Length(length));
        })
    }

    fn sync_data(&self) -> Result<()> {
        self.change(|state| {
            state.synced.clone_from(&state.now);
            state.pending.clear();
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        let at = usize::try_from(offset).unwrap();
        self.change(|state| {
            state.now[at..at + data.len()].copy_from_slice(data);
            state.pending.push(Change::Write(at, data.to_vec()));
        })
    }
}
