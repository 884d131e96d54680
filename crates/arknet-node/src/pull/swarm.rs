//! One file from several peers at once.

use std::{
    collections::BTreeMap,
    io,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arknet_protocol::{Fetch, Lane, reputation::Deed};
use arknet_sdk::Client;
use arknet_types::{
    InferRequest, Input, ModelDigest, ModelName, PublicKey, Refusal, RefusalCode, Reply,
};
use futures::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::part::{Bad, Claim, Part, STRETCH_BYTES};

/// Peers asked for one file.
const SOURCES_MAX: usize = 8;
/// Requests to one peer at the same time.
const LANES_PER_SOURCE: u32 = 2;
/// Pieces that wait to be checked, for each lane.
const PIECES_AHEAD: usize = 16;
/// Times in a row that a lane may bring nothing before its peer is left alone.
const FAILURES_MAX: u32 = 3;
/// How long a peer may take to say what it has: the first time it reads all of the file for that.
const CLAIM_MAX: Duration = Duration::from_secs(15 * 60);
/// How long the others may then take.
const FURTHER_CLAIMS_MAX: Duration = Duration::from_secs(30);
/// How long a peer may leave us without a piece, whatever else it says.
const PIECE_MAX: Duration = Duration::from_secs(5 * 60);
/// How long a peer that has no room is waited for.
const BUSY_WAIT_MAX: Duration = Duration::from_secs(10);

/// A file that peers hand over.
pub(super) struct Swarm {
    pub(super) client: Client,
    pub(super) name: ModelName,
    pub(super) digest: ModelDigest,
}

/// What became of a try.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) is_complete: bool,
    /// Who sent what is not the file.
    pub(super) liars: Vec<PublicKey>,
    /// Why the last of the others stopped.
    pub(super) refusal: Option<Refusal>,
}

/// Why a lane brings nothing more.
enum Trouble {
    Lied,
    Refused(Refusal),
    Io(io::Error),
}

/// One try with these peers.
struct Run<'a> {
    swarm: &'a Swarm,
    claim: Claim,
    part: Arc<Part>,
    fetch: Arc<Mutex<Fetch>>,
    /// Something may be there to take again, or all is there.
    changed: Arc<Notify>,
}

impl Swarm {
    /// Asks these peers what they have, and sorts them by what they say.
    pub(super) async fn claims(
        &self,
        sources: Vec<PublicKey>,
    ) -> (BTreeMap<Claim, Vec<PublicKey>>, Option<Refusal>) {
        let asked = sources.into_iter().take(SOURCES_MAX).map(|source| async move {
            let mut failures = 0;
            loop {
                match self.claim(source).await {
                    Ok(claim) => return (source, Ok(claim)),
                    Err(refusal) => {
                        failures += 1;
                        if !is_worth_waiting(&refusal) || failures >= FAILURES_MAX {
                            return (source, Err(refusal));
                        }
                        wait(&refusal).await;
                    }
                }
            }
        });
        let mut claims = BTreeMap::<Claim, Vec<PublicKey>>::new();
        let mut last = None;
        let mut asked: FuturesUnordered<_> = asked.collect();
        let mut deadline = Instant::now() + CLAIM_MAX;
        loop {
            match timeout_at(deadline, asked.next()).await {
                Ok(Some((source, Ok(claim)))) => {
                    claims.entry(claim).or_default().push(source);
                    deadline = deadline.min(Instant::now() + FURTHER_CLAIMS_MAX);
                }
                Ok(Some((_, Err(refusal)))) => last = Some(refusal),
                Ok(None) => break,
                Err(_) => {
                    last.get_or_insert_with(silent);
                    break;
                }
            }
        }
        (claims, last)
    }

    async fn claim(&self, source: PublicKey) -> Result<Claim, Refusal> {
        let mut answer = self.client.request_of(source, self.request(0, 0)).await?;
        let mut claim = None;
        while let Some(reply) = answer.next().await {
            match reply {
                Reply::File { total_bytes, root, .. } => claim = Some(Claim { total_bytes, root }),
                Reply::Refused(refusal) => return Err(refusal),
                _ => {}
            }
        }
        claim
            .ok_or_else(|| Refusal::new(RefusalCode::PeerLost, "the peer says nothing of the file"))
    }

    fn request(&self, offset: u64, length: u64) -> InferRequest {
        let input = Input::File { digest: self.digest, offset, length };
        InferRequest::new(self.name.clone(), input)
    }

    /// Takes what is missing of a file from these peers, who claim the same. Dropping the future
    /// stops it; what was checked stays.
    pub(super) async fn take(
        &self,
        claim: Claim,
        sources: &[PublicKey],
        part: Arc<Part>,
    ) -> io::Result<Outcome> {
        let fetch = Fetch::new(part.stretches(), |stretch| part.was_here(stretch));
        let run = Run {
            swarm: self,
            claim,
            part,
            fetch: Arc::new(Mutex::new(fetch)),
            changed: Arc::new(Notify::new()),
        };
        let mut lanes = FuturesUnordered::new();
        for (at, source) in (0..).zip(sources) {
            let gone = CancellationToken::new();
            for lane in 0..LANES_PER_SOURCE {
                lanes.push(run.lane(at * LANES_PER_SOURCE + lane, *source, gone.clone()));
            }
        }
        let mut outcome = Outcome::default();
        while let Some((source, ended)) = lanes.next().await {
            match ended {
                Ok(()) => {}
                Err(Trouble::Io(error)) => return Err(error),
                Err(Trouble::Refused(refusal)) => outcome.refusal = Some(refusal),
                Err(Trouble::Lied) => {
                    if !outcome.liars.contains(&source) {
                        outcome.liars.push(source);
                    }
                }
            }
            run.changed.notify_waiters();
        }
        outcome.is_complete = run.lock().is_complete();
        if outcome.is_complete {
            let now = arknet_sdk::now();
            for source in sources.iter().filter(|source| !outcome.liars.contains(source)) {
                self.client.with_reputation(|seen| seen.record(*source, Deed::Answered, now));
            }
        }
        Ok(outcome)
    }
}

impl Run<'_> {
    fn lock(&self) -> MutexGuard<'_, Fetch> {
        self.fetch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings one run after the other from one peer, until all is there or the peer is of no use.
    async fn lane(
        &self,
        lane: Lane,
        source: PublicKey,
        gone: CancellationToken,
    ) -> (PublicKey, Result<(), Trouble>) {
        let mut failures = 0;
        loop {
            let changed = self.changed.notified();
            let next = {
                let mut fetch = self.lock();
                if fetch.is_complete() || gone.is_cancelled() {
                    return (source, Ok(()));
                }
                fetch.next(lane)
            };
            let Some(run) = next else {
                tokio::select! {
                    () = changed => {}
                    () = gone.cancelled() => {}
                }
                continue;
            };
            let before = self.part.done_bytes();
            let transferred = tokio::select! {
                transferred = self.transfer(lane, source, run) => transferred,
                () = gone.cancelled() => Ok(()),
            };
            // What it did not bring is there to be taken by others.
            self.lock().failed(lane);
            self.changed.notify_waiters();
            let trouble = match transferred {
                Ok(()) => {
                    failures = 0;
                    continue;
                }
                Err(trouble) => trouble,
            };
            let has_helped = self.part.done_bytes() > before;
            failures = if has_helped { 1 } else { failures + 1 };
            match trouble {
                Trouble::Refused(refusal) if failures < FAILURES_MAX => {
                    if is_worth_waiting(&refusal) {
                        wait(&refusal).await;
                    }
                }
                trouble => {
                    gone.cancel();
                    return (source, Err(trouble));
                }
            }
        }
    }

    async fn transfer(
        &self,
        lane: Lane,
        source: PublicKey,
        run: Range<u32>,
    ) -> Result<(), Trouble> {
        let offset = u64::from(run.start) * STRETCH_BYTES;
        let length = u64::from(run.end - run.start) * STRETCH_BYTES;
        let request = self.swarm.request(offset, length);
        let mut answer =
            self.swarm.client.request_of(source, request).await.map_err(Trouble::Refused)?;
        let (pieces, incoming) = mpsc::channel(PIECES_AHEAD);
        let (part, fetch) = (Arc::clone(&self.part), Arc::clone(&self.fetch));
        let changed = Arc::clone(&self.changed);
        let taking = tokio::task::spawn_blocking(move || {
            part.take(run, incoming, |stretch| {
                let mut fetch = fetch.lock().unwrap_or_else(PoisonError::into_inner);
                let goes_on = fetch.brought(lane, stretch);
                if fetch.is_complete() {
                    changed.notify_waiters();
                }
                goes_on
            })
        });
        let mut refusal = None;
        let mut deadline = Instant::now() + PIECE_MAX;
        loop {
            let reply = match timeout_at(deadline, answer.next()).await {
                Ok(Some(reply)) => reply,
                Ok(None) => break,
                Err(_) => {
                    refusal = Some(silent());
                    break;
                }
            };
            match reply {
                Reply::File { total_bytes, root, bytes } => {
                    deadline = Instant::now() + PIECE_MAX;
                    if (Claim { total_bytes, root }) != self.claim {
                        return Err(Trouble::Lied);
                    }
                    // The other end is gone when it has all it wanted, or something was wrong.
                    if pieces.send(bytes).await.is_err() {
                        break;
                    }
                }
                Reply::Refused(why) => refusal = Some(why),
                _ => {}
            }
        }
        drop((pieces, answer));
        match taking.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Bad::Wrong)) => Err(Trouble::Lied),
            Ok(Err(Bad::Io(error))) => Err(Trouble::Io(error)),
            Ok(Err(Bad::Short)) => {
                let words = "the transfer ended without its end";
                let short = || Refusal::new(RefusalCode::PeerLost, words);
                Err(Trouble::Refused(refusal.unwrap_or_else(short)))
            }
            Err(error) => Err(Trouble::Io(io::Error::other(error))),
        }
    }
}

fn silent() -> Refusal {
    Refusal::new(RefusalCode::PeerLost, "the peer sends nothing of the file")
}

fn is_worth_waiting(refusal: &Refusal) -> bool {
    matches!(refusal.code, RefusalCode::Busy | RefusalCode::RateLimited)
}

async fn wait(refusal: &Refusal) {
    let wait = Duration::from_millis(refusal.retry_after_ms.map_or(500, u64::from));
    sleep(wait.min(BUSY_WAIT_MAX)).await;
}
