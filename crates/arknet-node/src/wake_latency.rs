//! Keeps processors from sleeping deeply while somebody waits for an answer.
//!
//! Most of what a node adds to a short request is the time that processors take to wake up. How long
//! that may be can be told to Linux, for all processors and for as long as a file is open.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// Takes the longest time to wake up, in microseconds.
const DEVICE: &str = "/dev/cpu_dma_latency";
/// How long they are kept awake after the last request: telling Linux costs more than a request, and
/// apps that ask one question after another leave short pauses.
const LINGER: Duration = Duration::from_secs(1);

/// Bounds the time that processors take to wake up, while there are requests.
#[derive(Clone)]
pub(crate) struct WakeLatency {
    shared: Arc<Shared>,
}

struct Shared {
    max_us: i32,
    device: PathBuf,
    state: Mutex<State>,
}

struct State {
    /// Requests that have not ended.
    open: usize,
    /// When the last one ended.
    idle_since: Instant,
    /// Keeps the bound in force.
    held: Option<File>,
}

impl WakeLatency {
    /// None where the system does not let itself be told, of which the log then speaks.
    pub(crate) fn new(max_us: u32) -> Option<Self> {
        match Self::at(Path::new(DEVICE), max_us) {
            Ok(wakes) => Some(wakes),
            Err(error) => {
                tracing::warn!(
                    %error,
                    "gateway.wake_latency_us_max has no effect: {DEVICE} cannot be written. It exists on \
                     Linux, and who may write it is said by its owner and mode"
                );
                None
            }
        }
    }

    fn at(device: &Path, max_us: u32) -> io::Result<Self> {
        let max_us = i32::try_from(max_us).unwrap_or(i32::MAX);
        drop(hold(device, max_us)?);
        let state = State { open: 0, idle_since: Instant::now(), held: None };
        let device = device.to_owned();
        Ok(Self { shared: Arc::new(Shared { max_us, device, state: Mutex::new(state) }) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock panics.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request has begun. Must be called inside of a runtime.
    pub(crate) fn began(&self) {
        let mut state = self.state();
        state.open += 1;
        if state.held.is_none()
            && let Ok(held) = hold(&self.shared.device, self.shared.max_us)
        {
            state.held = Some(held);
            tokio::spawn(self.clone().let_go());
        }
    }

    /// A request has ended.
    pub(crate) fn ended(&self) {
        let mut state = self.state();
        state.open -= 1;
        state.idle_since = Instant::now();
    }

    /// Waits until nobody has asked for a while.
    async fn let_go(self) {
        let mut look_again = Instant::now();
        loop {
            sleep_until(look_again).await;
            let mut state = self.state();
            let now = Instant::now();
            look_again = if state.open > 0 { now } else { state.idle_since } + LINGER;
            if look_again <= now {
                state.held = None;
                return;
            }
        }
    }
}

fn hold(device: &Path, max_us: i32) -> io::Result<File> {
    let mut file = File::options().write(true).open(device)?;
    file.write_all(&max_us.to_ne_bytes())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    /// What was told since it was looked at last.
    fn told(device: &Path) -> Vec<u8> {
        let told = std::fs::read(device).unwrap();
        std::fs::write(device, "").unwrap();
        told
    }

    #[tokio::test(start_paused = true)]
    async fn processors_are_kept_awake_while_there_are_requests_and_a_moment_longer() {
        let device = tempfile::NamedTempFile::new().unwrap();
        let device = device.path();
        let wakes = WakeLatency::at(device, 7).unwrap();
        told(device);
        wakes.began();
        assert_eq!(told(device), 7_i32.to_ne_bytes());
        sleep(LINGER * 10).await;
        wakes.began();
        wakes.ended();
        wakes.ended();
        sleep(LINGER / 2).await;
        wakes.began();
        assert!(told(device).is_empty(), "it was still held");
        wakes.ended();
        assert!(wakes.state().held.is_some());
        sleep(LINGER * 2).await;
        assert!(wakes.state().held.is_none());
        wakes.began();
        assert_eq!(told(device), 7_i32.to_ne_bytes(), "it had been let go");
    }

    #[test]
    fn where_it_cannot_be_told_nothing_is_done() {
        assert!(WakeLatency::at(Path::new("/nowhere/cpu_dma_latency"), 0).is_err());
    }
}
