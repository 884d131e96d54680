//! Fetches models: from a URL, or from peers that hand theirs over.

mod part;
mod swarm;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    ops::ControlFlow,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use arknet_gateway::Pull;
use arknet_protocol::reputation::Deed;
use arknet_sdk::Client;
use arknet_types::{Capabilities, ModelDigest, ModelName, PublicKey, Refusal, RefusalCode};
use arknet_validator::StoreError;
use futures::{StreamExt, stream::BoxStream};
use tokio::{
    sync::{Mutex, OwnedMutexGuard, mpsc},
    time::interval,
};

use self::{
    part::{Claim, Part},
    swarm::Swarm,
};
use crate::{
    Download, ModelStore, ModelsError, blocks,
    engines::{EngineError, Engines},
    models::ModelEntry,
    serving::Serving,
};

/// Reports of progress that wait for a slow reader.
const REPORTS_MAX: usize = 16;
/// Time between two reports of progress.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);
/// Largest file that is taken from a peer: 1 TiB.
const BYTES_MAX: u64 = 1 << 40;
/// Bytes of disk that stay free.
const DISK_RESERVE_BYTES: u64 = 256 << 20;
/// Tries in a row that may bring nothing.
const FAILURES_MAX: u32 = 3;
/// Things that peers may say of one file, one after the other, that come to nothing.
const CLAIMS_MAX: usize = 8;

/// Fetches models for one node.
#[derive(Clone)]
pub(crate) struct Puller {
    engines: Option<Engines>,
    client: Client,
    /// By whose ledger names are held against digests.
    serving: Serving,
    /// One transfer at a time: two of the same model would write to one file.
    gate: Arc<Mutex<()>>,
}

/// Why a model was not fetched.
#[derive(Debug, thiserror::Error)]
enum PullError {
    #[error("the disk has {free} bytes free, the model needs {needed}")]
    DiskFull { needed: u64, free: u64 },
    #[error("{0}")]
    Download(#[from] crate::DownloadError),
    #[error("{0}")]
    Engine(#[from] EngineError),
    #[error("a file of the model cannot be written: {0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Ledger(#[from] StoreError),
    #[error("{0}")]
    Models(#[from] ModelsError),
    #[error("this node runs no models; add the role compute")]
    NoEngine,
    #[error("found {found}, the ledger has accepted {accepted} as {name}")]
    NotAccepted { found: ModelDigest, accepted: ModelDigest, name: ModelName },
    #[error("the model is served, and takes no pictures: {0}; pull it again for its projector")]
    Projector(Box<Self>),
    #[error("{0}")]
    Refused(Refusal),
    #[error("the model has over 1 TiB")]
    TooLarge,
    #[error("nobody hands over a model called {name}; give the URL of a GGUF file instead")]
    Unknown { name: String },
}

/// Where progress goes.
type Reports = mpsc::Sender<Pull>;
/// Held by whatever works on files: that goes on for a while when nobody waits for it any more.
type Turn = Arc<OwnedMutexGuard<()>>;

impl Puller {
    pub(crate) fn new(engines: Option<Engines>, client: Client, serving: Serving) -> Self {
        Self { engines, client, serving, gate: Arc::new(Mutex::new(())) }
    }

    /// Fetches what `model` names, from one peer or from all that have it. Dropping the stream stops
    /// the transfer; what came is kept.
    pub(crate) fn pull(&self, model: String, from: Option<PublicKey>) -> BoxStream<'static, Pull> {
        let (reports, receiver) = mpsc::channel(REPORTS_MAX);
        let puller = self.clone();
        tokio::spawn(async move {
            let gone = reports.clone();
            let last = tokio::select! {
                result = puller.fetch(&model, from, &reports) => match result {
                    Ok(()) => {
                        // Whoever is told asks at once, and then for this machine's.
                        puller.serving.update();
                        Pull::Ready
                    }
                    Err(error) => {
                        tracing::info!(%error, "a model was not fetched");
                        Pull::Failed(refusal(error))
                    }
                },
                () = gone.closed() => return,
            };
            let _ = reports.send(last).await;
        });
        futures::stream::unfold(receiver, async |mut receiver| {
            let report = receiver.recv().await?;
            Some((report, receiver))
        })
        .boxed()
    }

    async fn fetch(
        &self,
        model: &str,
        from: Option<PublicKey>,
        reports: &Reports,
    ) -> Result<(), PullError> {
        let engines = self.engines.as_ref().ok_or(PullError::NoEngine)?;
        let _ = reports.send(Pull::Looking).await;
        let one = Arc::new(Arc::clone(&self.gate).lock_owned().await);
        if model.starts_with("http://") || model.starts_with("https://") {
            return from_url(engines, &self.serving, model, reports, one).await;
        }
        let names = [Some(model), model.strip_suffix(":latest")];
        let names = names.into_iter().flatten().filter_map(|name| ModelName::new(name).ok());
        for name in names {
            if let Some(wanted) = self.wanted(engines, &name, from).await? {
                let taking = Taking { engines, name, from, reports, one };
                return self.take_from_peers(taking, wanted).await;
            }
        }
        Err(PullError::Unknown { name: model.to_owned() })
    }

    /// What is to be taken from peers under this name; none where nobody has it.
    async fn wanted(
        &self,
        engines: &Engines,
        name: &ModelName,
        from: Option<PublicKey>,
    ) -> Result<Option<Wanted>, PullError> {
        let (serving, store, called) =
            (self.serving.clone(), engines.store().clone(), name.clone());
        let look =
            move || serving.accepted(&called).map(|accepted| (accepted, store.get(&called).ok()));
        let (accepted, entry) = joined(tokio::task::spawn_blocking(look).await)?;
        let offered = self.offered(name, from);
        let here = entry.filter(|_| engines.serves(name));
        if here.is_none() && engines.serves(name) {
            return Ok(Some(Wanted::default()));
        }
        let digest = match &here {
            Some(entry) => Some(entry.digest),
            None => choose(name, offered.iter().map(|offered| offered.digest), &accepted)?,
        };
        let Some(digest) = digest else { return Ok(None) };
        let beside = offered.iter().filter(|offered| offered.digest == digest);
        let projector = match here.as_ref().is_some_and(|entry| entry.projector.is_some()) {
            true => None,
            // A model is of use without pictures, and what nobody vouches for is no reason to have none.
            false => choose(name, beside.filter_map(|offered| offered.projector), &accepted)
                .inspect_err(|error| tracing::warn!(%error, "a projector is not taken"))
                .unwrap_or_default(),
        };
        Ok(Some(Wanted { model: here.is_none().then_some(digest), projector }))
    }

    /// The files that peers hand over under this name, as each of them has it.
    fn offered(&self, name: &ModelName, from: Option<PublicKey>) -> Vec<Offered> {
        self.client.mesh().offers().with(|offers| {
            let serving = offers.serving(name, Capabilities::FILE, arknet_sdk::now());
            let mine = serving.filter(|(offer, _)| {
                let peer = offer.body.peer;
                self.client.may_ask(&peer) && from.is_none_or(|from| peer == from)
            });
            let files = mine.filter_map(|(_, model)| {
                model.digest.map(|digest| Offered { digest, projector: model.projector })
            });
            files.collect()
        })
    }

    /// Who hands over this file, those of better conduct first.
    fn sources(&self, digest: ModelDigest, from: Option<PublicKey>) -> Vec<PublicKey> {
        let now = arknet_sdk::now();
        let mut sources: Vec<_> = self.client.mesh().offers().with(|offers| {
            let has_it = |model: &arknet_types::ModelOffer| {
                [model.digest, model.projector].contains(&Some(digest))
                    && Capabilities::FILE.without(model.capabilities) == Capabilities::NONE
            };
            let living = offers.living(now).filter(|offer| offer.body.models.iter().any(has_it));
            living.map(|offer| offer.body.peer).collect()
        });
        sources.retain(|peer| self.client.may_ask(peer) && from.is_none_or(|from| *peer == from));
        self.client.with_reputation(|seen| sources.sort_by_key(|peer| seen.step(peer, now)));
        sources
    }

    /// Takes the files of a model, and serves it. Without its projector it can be used, too.
    async fn take_from_peers(&self, taking: Taking<'_>, wanted: Wanted) -> Result<(), PullError> {
        if let Some(digest) = wanted.model {
            let name = taking.name.clone();
            self.take(&taking, digest, move |store, file| store.adopt(file, name, digest)).await?;
        }
        if let Some(digest) = wanted.projector {
            let name = taking.name.clone();
            let adopt =
                move |store: &ModelStore, file: &Path| store.adopt_projector(file, &name, digest);
            let taken = self.take(&taking, digest, adopt).await;
            taken.map_err(|error| PullError::Projector(Box::new(error)))?;
        }
        Ok(())
    }

    /// Takes one file, makes a model of it or a part of one, and serves that.
    async fn take(
        &self,
        taking: &Taking<'_>,
        digest: ModelDigest,
        adopt: impl FnOnce(&ModelStore, &Path) -> Result<ModelEntry, ModelsError> + Send + 'static,
    ) -> Result<(), PullError> {
        let part = self.transfer(taking, digest).await?;
        let (engines, name) = (taking.engines.clone(), taking.name.clone());
        let (store, one) = (engines.store().clone(), Arc::clone(&taking.one));
        // Goes on when nobody waits for it any more: what is in the store is to be served.
        let taken = tokio::spawn(async move {
            let _one = one;
            let add = move || take_over(&store, &part, digest, adopt);
            joined(tokio::task::spawn_blocking(add).await)?;
            engines.follow_store(name).await?;
            Ok::<_, PullError>(())
        });
        joined(taken.await)
    }

    /// Takes one file, whole and checked.
    async fn transfer(
        &self,
        taking: &Taking<'_>,
        digest: ModelDigest,
    ) -> Result<Arc<Part>, PullError> {
        let Taking { engines, name, from, reports, .. } = taking;
        let swarm = Swarm { client: self.client.clone(), name: name.clone(), digest };
        let mut liars = BTreeSet::new();
        // What came to nothing, and why the last of it did.
        let mut given_up = BTreeSet::new();
        let mut why = None;
        let mut failures = 0;
        loop {
            let mut sources = self.sources(digest, *from);
            sources.retain(|peer| !liars.contains(peer));
            let (claims, refusal) = swarm.claims(sources).await;
            let begun = Part::begun(engines.store(), digest);
            let Some((claim, peers)) = likeliest(claims, begun, &given_up) else {
                let nobody = || Refusal::new(RefusalCode::UnknownModel, "nobody hands it over");
                let refused = || PullError::Refused(refusal.unwrap_or_else(nobody));
                return Err(why.unwrap_or_else(refused));
            };
            let part = match open_part(engines.store(), digest, claim) {
                Ok(part) => Arc::new(part),
                // Somebody may say that the file is larger than it is.
                Err(error @ (PullError::DiskFull { .. } | PullError::TooLarge)) => {
                    give_up(&mut given_up, claim, &mut why, error)?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let before = part.done_bytes();
            let taken =
                report(swarm.take(claim, &peers, Arc::clone(&part)), &part, digest, reports);
            let outcome = taken.await?;
            for liar in outcome.liars {
                self.drop_liar(liar, "it sent what is not the file", reports).await;
                liars.insert(liar);
            }
            if !outcome.is_complete {
                failures = if part.done_bytes() > before { 0 } else { failures + 1 };
                if failures >= FAILURES_MAX {
                    failures = 0;
                    let lost = || Refusal::new(RefusalCode::PeerLost, "all peers were lost");
                    let error = PullError::Refused(outcome.refusal.unwrap_or_else(lost));
                    give_up(&mut given_up, claim, &mut why, error)?;
                }
                continue;
            }
            let _ = reports.send(Pull::Verifying).await;
            let found = check(&part, claim, digest, &taking.one).await?;
            if found == Found::Whole {
                return Ok(part);
            }
            part.discard();
            if found == Found::Other {
                // Each of them said that a file with this root has the digest of its offer.
                for liar in peers {
                    self.drop_liar(liar, "its file is not the one it offers", reports).await;
                    liars.insert(liar);
                }
            }
        }
    }

    /// Names who sent something wrong, and remembers it.
    async fn drop_liar(&self, peer: PublicKey, words: &'static str, reports: &Reports) {
        tracing::warn!(peer = %peer, words, "a source of a model is dropped");
        let now = arknet_sdk::now();
        self.client.with_reputation(|seen| seen.record(peer, Deed::Lied, now));
        let _ = reports.send(Pull::Dropped { peer, words: words.into() }).await;
    }
}

/// What is asked of peers, and on whose behalf.
struct Taking<'a> {
    engines: &'a Engines,
    name: ModelName,
    from: Option<PublicKey>,
    reports: &'a Reports,
    one: Turn,
}

/// The files that are to be taken.
#[derive(Default)]
struct Wanted {
    model: Option<ModelDigest>,
    projector: Option<ModelDigest>,
}

/// A model as a peer hands it over.
struct Offered {
    digest: ModelDigest,
    projector: Option<ModelDigest>,
}

/// The file that most peers offer, of those that the ledger has accepted under this name where it has
/// accepted any.
fn choose(
    name: &ModelName,
    offered: impl Iterator<Item = ModelDigest>,
    accepted: &BTreeSet<ModelDigest>,
) -> Result<Option<ModelDigest>, PullError> {
    let mut votes = BTreeMap::<ModelDigest, u32>::new();
    for digest in offered {
        *votes.entry(digest).or_default() += 1;
    }
    let most = |counts: &dyn Fn(&ModelDigest) -> bool| {
        let counted = votes.iter().filter(|(digest, _)| counts(digest));
        counted.max_by_key(|(_, votes)| **votes).map(|(digest, _)| *digest)
    };
    let chosen = most(&|digest| accepted.is_empty() || accepted.contains(digest));
    match (chosen, most(&|_| true), accepted.first()) {
        (None, Some(found), Some(accepted)) => {
            Err(PullError::NotAccepted { found, accepted: *accepted, name: name.clone() })
        }
        (chosen, ..) => Ok(chosen),
    }
}

/// Reports how far a transfer is while it goes on.
async fn report<T>(
    transfer: impl Future<Output = T>,
    part: &Part,
    digest: ModelDigest,
    reports: &Reports,
) -> T {
    let mut transfer = std::pin::pin!(transfer);
    let mut ticks = interval(REPORT_INTERVAL);
    let progress = || Pull::Progress {
        digest: Some(digest),
        done_bytes: part.done_bytes(),
        total_bytes: Some(part.total_bytes),
    };
    loop {
        tokio::select! {
            result = &mut transfer => {
                let _ = reports.send(progress()).await;
                return result;
            }
            _ = ticks.tick() => {
                let _ = reports.try_send(progress());
            }
        }
    }
}

/// What is tried next, with those who say so: what was begun, else what most of them say.
fn likeliest(
    claims: BTreeMap<Claim, Vec<PublicKey>>,
    begun: Option<Claim>,
    given_up: &BTreeSet<Claim>,
) -> Option<(Claim, Vec<PublicKey>)> {
    let open = claims.into_iter().filter(|(claim, _)| !given_up.contains(claim));
    open.max_by_key(|(claim, peers)| {
        (begun == Some(*claim), peers.len(), Reverse(claim.total_bytes))
    })
}

/// Leaves what came to nothing alone. Who says something else each time ends it all.
fn give_up(
    given_up: &mut BTreeSet<Claim>,
    claim: Claim,
    why: &mut Option<PullError>,
    error: PullError,
) -> Result<(), PullError> {
    given_up.insert(claim);
    if given_up.len() >= CLAIMS_MAX {
        return Err(error);
    }
    *why = Some(error);
    Ok(())
}

fn open_part(store: &ModelStore, digest: ModelDigest, claim: Claim) -> Result<Part, PullError> {
    let Claim { total_bytes, .. } = claim;
    if total_bytes > BYTES_MAX {
        return Err(PullError::TooLarge);
    }
    let directory = store.partial();
    fs::create_dir_all(&directory)?;
    // What will not fit must not take the place of what was begun.
    if Part::begun(store, digest) != Some(claim) {
        check_room(&directory, total_bytes)?;
    }
    let part = Part::open(store, digest, claim)?;
    check_room(&directory, total_bytes - part.done_bytes())?;
    Ok(part)
}

/// What is there when all has come.
#[derive(Eq, PartialEq)]
enum Found {
    /// The file that was offered.
    Whole,
    /// Another one, which has the root that was claimed for this.
    Other,
    /// Not what was checked when it came: it was damaged on this machine.
    Damaged,
}

async fn check(
    part: &Arc<Part>,
    claim: Claim,
    digest: ModelDigest,
    one: &Turn,
) -> Result<Found, PullError> {
    let (part, one) = (Arc::clone(part), Arc::clone(one));
    let check = move || -> io::Result<Found> {
        let _one = one;
        part.sync()?;
        let (found, _) = crate::models::hash(File::open(part.path())?, io::sink(), &mut |_| {})?;
        if found == digest {
            return Ok(Found::Whole);
        }
        Ok(match blocks::root(part.path())?.as_bytes() == &claim.root {
            true => Found::Other,
            false => Found::Damaged,
        })
    };
    joined(tokio::task::spawn_blocking(check).await)
}

/// Makes a model of a file that has come, or a part of one.
fn take_over(
    store: &ModelStore,
    part: &Part,
    digest: ModelDigest,
    adopt: impl FnOnce(&ModelStore, &Path) -> Result<ModelEntry, ModelsError>,
) -> Result<(), PullError> {
    let adopted = adopt(store, part.path());
    if adopted.is_ok() {
        part.keep_tree(store, digest)?;
    }
    // Whether it is what it should be or worthless, it has done its duty; on a full disk it may yet.
    if !matches!(adopted, Err(ModelsError::Io { .. })) {
        part.discard();
    }
    adopted?;
    Ok(())
}

async fn from_url(
    engines: &Engines,
    serving: &Serving,
    url: &str,
    reports: &Reports,
    one: Turn,
) -> Result<(), PullError> {
    let (store, serving) = (engines.store().clone(), serving.clone());
    let (url, reports) = (url.to_owned(), reports.clone());
    let fetch = move || {
        let download = Download::new(&url, &store.partial());
        let mut reported: Option<Instant> = None;
        let path = download.run(|done_bytes, total_bytes| {
            let is_due = reported.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL);
            if is_due || total_bytes == Some(done_bytes) {
                reported = Some(Instant::now());
                let _ = reports.try_send(Pull::Progress { digest: None, done_bytes, total_bytes });
            }
            if reports.is_closed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        let _ = reports.blocking_send(Pull::Verifying);
        let accepted = |name: &ModelName| serving.accepted(name);
        let added = add_fetched(&store, path, crate::models::url_name(&url), accepted);
        let may_fit_later =
            matches!(added, Err(PullError::Ledger(_) | PullError::Models(ModelsError::Io { .. })));
        if !may_fit_later {
            download.discard();
        }
        added
    };
    // The fetching ends when nobody waits for it any more; what is in the store is to be served.
    let engines = engines.clone();
    let fetched = tokio::spawn(async move {
        let _one = one;
        let entry = joined(tokio::task::spawn_blocking(fetch).await)?;
        engines.follow_store(entry.name).await?;
        Ok::<_, PullError>(())
    });
    joined(fetched.await)
}

/// Adds a file that an address gave, unless the ledger has accepted only others under its name.
fn add_fetched(
    store: &ModelStore,
    file: &Path,
    name: Option<ModelName>,
    accepted: impl FnOnce(&ModelName) -> Result<BTreeSet<ModelDigest>, StoreError>,
) -> Result<ModelEntry, PullError> {
    let name = match name {
        Some(name) => name,
        None => ModelStore::default_name(file)?,
    };
    let accepted = accepted(&name)?;
    // Where the ledger says nothing of the name, adding hashes it early enough.
    let digest = match accepted.is_empty() {
        true => None,
        false => choose(&name, std::iter::once(ModelStore::digest(file)?), &accepted)?,
    };
    Ok(store.add(file, Some(name), digest, |_| {})?)
}

fn joined<T, E: Into<PullError>>(
    result: Result<Result<T, E>, tokio::task::JoinError>,
) -> Result<T, PullError> {
    result.map_err(|error| PullError::Io(io::Error::other(error)))?.map_err(Into::into)
}

/// What an app is told.
fn refusal(error: PullError) -> Refusal {
    let words = error.to_string();
    match error {
        PullError::Projector(error) => Refusal::new(refusal(*error).code, words),
        PullError::Refused(refusal) => refusal,
        PullError::NotAccepted { .. } | PullError::Unknown { .. } => {
            Refusal::new(RefusalCode::UnknownModel, words)
        }
        PullError::TooLarge => Refusal::new(RefusalCode::TooLarge, words),
        _ => Refusal::new(RefusalCode::ProviderFailed, words),
    }
}

fn check_room(directory: &Path, bytes: u64) -> Result<(), PullError> {
    let status = rustix::fs::statvfs(directory).map_err(io::Error::from)?;
    let free = status.f_bavail.saturating_mul(status.f_frsize);
    let needed = bytes.saturating_add(DISK_RESERVE_BYTES);
    if free < needed { Err(PullError::DiskFull { needed, free }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_ledger_has_accepted_is_taken_and_no_other_file_under_its_name() {
        let name = ModelName::new("m".repeat(arknet_types::limits::MODEL_NAME_BYTES_MAX)).unwrap();
        let [one, two, three] = [1, 2, 3].map(|n| ModelDigest([n; 32]));
        let chosen = |offered: &[ModelDigest], accepted: &[ModelDigest]| {
            choose(&name, offered.iter().copied(), &accepted.iter().copied().collect())
        };
        assert_eq!(chosen(&[one, two, two], &[]).unwrap(), Some(two), "most peers");
        assert_eq!(chosen(&[one, two, two], &[one, three]).unwrap(), Some(one));
        assert_eq!(chosen(&[], &[one]).unwrap(), None);
        let refusal = refusal(chosen(&[one, two, two], &[three]).unwrap_err());
        assert_eq!(refusal.code, RefusalCode::UnknownModel);
        for digest in [two, three] {
            assert!(refusal.detail.contains(&digest.to_string()), "{refusal}");
        }
    }

    #[test]
    fn what_an_address_gives_is_held_against_the_ledger_too() {
        let directory = tempfile::tempdir().unwrap();
        let store = ModelStore::open(directory.path().join("models")).unwrap();
        let file = directory.path().join("fetched");
        fs::write(&file, arknet_engine::embedded_model().bytes).unwrap();
        let (its, other) = (ModelStore::digest(&file).unwrap(), ModelDigest([7; 32]));
        let add = |name: &str, accepted: &[ModelDigest]| {
            let accepted = accepted.iter().copied().collect();
            add_fetched(&store, &file, Some(ModelName::new(name).unwrap()), |_| Ok(accepted))
        };
        let error = add("m", &[other]).unwrap_err();
        assert!(
            matches!(error, PullError::NotAccepted { found, accepted, .. } if (found, accepted) == (its, other))
        );
        assert_eq!(store.list().unwrap(), [], "nothing is left of it");
        assert_eq!(add("m", &[other, its]).unwrap().digest, its);
        assert_eq!(add("unknown", &[]).unwrap().digest, its);
        let inside = ModelStore::default_name(&file).unwrap();
        let asked = |name: &ModelName| {
            assert_eq!(*name, inside, "the name that the file gives itself is asked for");
            Ok([other].into())
        };
        assert!(add_fetched(&store, &file, None, asked).is_err());
    }

    #[test]
    fn what_came_to_nothing_is_not_tried_again() {
        let peer = |n: u8| arknet_types::KeyPair::from_seed(&[n; 32]).public();
        let of = |total_bytes| Claim { total_bytes, root: [1; 32] };
        let next = |said: &[(u64, u8)], begun: Option<u64>, given_up: &[u64]| {
            let mut claims = BTreeMap::<Claim, Vec<PublicKey>>::new();
            for (total_bytes, by) in said {
                claims.entry(of(*total_bytes)).or_default().push(peer(*by));
            }
            let given_up = given_up.iter().copied().map(of).collect();
            likeliest(claims, begun.map(of), &given_up).map(|(claim, _)| claim.total_bytes)
        };
        assert_eq!(next(&[(5, 1), (9, 2)], None, &[]), Some(5), "a lie may fill the disk");
        assert_eq!(next(&[(5, 1), (9, 2), (9, 3)], None, &[]), Some(9));
        assert_eq!(next(&[(5, 1), (9, 2), (9, 3)], Some(5), &[]), Some(5), "it was begun");
        assert_eq!(next(&[(5, 1), (9, 2), (9, 3)], Some(5), &[5]), Some(9));
        assert_eq!(next(&[(5, 1)], None, &[5]), None);
        let (mut given_up, mut why) = (BTreeSet::new(), None);
        for said in 1..CLAIMS_MAX {
            give_up(&mut given_up, of(said as u64), &mut why, PullError::TooLarge).unwrap();
        }
        assert!(matches!(why, Some(PullError::TooLarge)));
        assert!(give_up(&mut given_up, of(100), &mut why, PullError::NoEngine).is_err());
    }

    #[test]
    fn what_does_not_fit_is_not_begun() {
        let directory = tempfile::tempdir().unwrap();
        assert!(check_room(directory.path(), 1).is_ok());
        let full = check_room(directory.path(), BYTES_MAX);
        assert!(matches!(full, Err(PullError::DiskFull { .. })));
        let store = ModelStore::open(directory.path().join("models")).unwrap();
        let claim = Claim { total_bytes: BYTES_MAX + 1, root: [0; 32] };
        let opened = open_part(&store, ModelDigest([1; 32]), claim);
        assert!(matches!(opened, Err(PullError::TooLarge)));
        let claim = Claim { total_bytes: BYTES_MAX, root: [0; 32] };
        let opened = open_part(&store, ModelDigest([1; 32]), claim);
        assert!(matches!(opened, Err(PullError::DiskFull { .. })));
        assert_eq!(Part::begun(&store, ModelDigest([1; 32])), None);
    }
}
