//! Sends a request to the peer the router picks, and to the next one when that fails before its
//! first token. The gateway of a node and an application go this same way.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arknet_mesh::{Mesh, RequestStream};
use arknet_protocol::{
    AnswerCheck, Choice, Price, Router,
    reputation::{Deed, Reputation},
    usage_bound,
};
use arknet_types::{
    Atoms, Capabilities, InferRequest, Input, PublicKey, Refusal, RefusalCode, Reply, Request,
    Salt, Timestamp, Usage,
    limits::{REPLY_FRAME_BYTES_MAX, SILENCE_MS_MAX},
};
use futures::Stream;
use tokio::time::timeout;

use crate::{clock, session::SessionKey};

/// Peers asked for one request before it is given up.
const PEERS_TRIED_MAX: usize = 4;
/// How long sending a request may take, however slow the way there.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a request waits for peers that have just restarted.
const RESTART_WAIT_MS_MAX: u64 = 3_000;
/// Longer inputs take their time to read: how long says nothing of the peer.
const SHORT_INPUT_BYTES: usize = 8 * 1024;
const SILENCE_MAX: Duration = Duration::from_millis(SILENCE_MS_MAX);

/// Uses models on other people's machines. Cheap to clone; requests run side by side.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    mesh: Mesh,
    session: Mutex<Arc<OpenSession>>,
    circle: Circle,
    router: Mutex<Router>,
    nonces: Nonces,
}

/// The peers that may be asked: what is sent to others is theirs to read.
pub type Circle = Arc<dyn Fn(&PublicKey) -> bool + Send + Sync>;

/// Gives each request its nonce: one more than the last, beginning at the microseconds since the
/// epoch. So nonces rise across restarts of a program that keeps its session, and stay dense: a
/// server tells only so many nonces behind the newest apart.
#[derive(Default)]
struct Nonces(AtomicU64);

impl Nonces {
    fn next(&self, now: Timestamp) -> u64 {
        let micros = now.0.saturating_mul(1000).max(1);
        let _ = self.0.compare_exchange(0, micros, Ordering::Relaxed, Ordering::Relaxed);
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// A session and what this client has spent of it. The serving peers count too and refuse on their
/// own; this count keeps a client from asking for what would be refused.
struct OpenSession {
    key: SessionKey,
    committed: Mutex<Atoms>,
}

impl Client {
    /// A client over a mesh that runs already: the gateway of a node.
    #[must_use]
    pub fn over(mesh: Mesh, session: SessionKey) -> Self {
        Self::within(mesh, session, Arc::new(|_| true))
    }

    /// The same, for one that asks these peers and no others.
    #[must_use]
    pub fn within(mesh: Mesh, session: SessionKey, circle: Circle) -> Self {
        Self {
            shared: Arc::new(Shared {
                mesh,
                session: Mutex::new(Arc::new(OpenSession::new(session))),
                circle,
                router: Mutex::new(Router::new()),
                nonces: Nonces::default(),
            }),
        }
    }

    /// Signs with another session from now on; requests that run keep theirs.
    pub fn set_session(&self, session: SessionKey) {
        *lock(&self.shared.session) = Arc::new(OpenSession::new(session));
    }

    /// Whether this peer may be asked.
    #[must_use]
    pub fn may_ask(&self, peer: &PublicKey) -> bool {
        (self.shared.circle)(peer)
    }

    /// The mesh underneath.
    #[must_use]
    pub fn mesh(&self) -> &Mesh {
        &self.shared.mesh
    }

    /// Looks at, or changes, what the conduct of peers says of them. Who keeps it over a restart puts
    /// it back in this way.
    pub fn with_reputation<T>(&self, look: impl FnOnce(&mut Reputation) -> T) -> T {
        look(lock(&self.shared.router).reputation_mut())
    }

    /// Sends a request as the wire has it. Resolves when a peer begins to answer; until then other
    /// peers are tried, after that a failure is the answer's end.
    ///
    /// Cancel safe: dropping the future or the answer stops the work at the peer.
    pub async fn request(&self, infer: InferRequest) -> Result<Answer, Refusal> {
        infer.check()?;
        match self.try_peers(&infer).await {
            // The only peers there are have just restarted: a moment later they take requests.
            Err(refusal) if is_restart(&refusal) => {
                let wait = refusal.retry_after_ms.map_or(0, u64::from);
                tokio::time::sleep(Duration::from_millis(wait)).await;
                self.try_peers(&infer).await
            }
            result => result,
        }
    }

    /// Asks this peer and no other.
    ///
    /// Cancel safe: dropping the future or the answer stops the work at the peer.
    pub async fn request_of(
        &self,
        peer: PublicKey,
        infer: InferRequest,
    ) -> Result<Answer, Refusal> {
        infer.check()?;
        let choice = self.shared.mesh.offers().with(|offers| {
            let offer = offers.get(&peer)?;
            let model = offer.model(&infer.model);
            Some(Choice {
                peer,
                addresses: offer.body.addresses.clone(),
                price: model.map_or_else(Price::default, |model| Price {
                    input: model.input_price,
                    output: model.output_price,
                }),
                context_tokens: model.map_or(0, |model| model.context_tokens),
            })
        });
        if !self.may_ask(&peer) {
            return Err(Refusal::new(RefusalCode::NotPermitted, "this peer is not to be asked"));
        }
        let nothing = || Refusal::new(RefusalCode::PeerLost, "this peer offers nothing any more");
        self.ask(&choice.ok_or_else(nothing)?, &infer).await
    }

    async fn try_peers(&self, infer: &InferRequest) -> Result<Answer, Refusal> {
        let mut tried = Vec::new();
        let mut worst: Option<Refusal> = None;
        while tried.len() < PEERS_TRIED_MAX {
            let Some(choice) = self.choose(infer, &tried) else { break };
            match self.ask(&choice, infer).await {
                Ok(answer) => return Ok(answer),
                Err(refusal) if refusal.code.is_worth_another_peer() => {
                    tracing::debug!(peer = ?choice.peer, code = refusal.code.as_str(), "refused");
                    // "Busy, come again" helps a person more than whatever another peer said.
                    if worst.as_ref().is_none_or(|worst| worst.code != RefusalCode::Busy) {
                        worst = Some(refusal);
                    }
                    tried.push(choice.peer);
                }
                Err(refusal) => return Err(refusal),
            }
        }
        Err(worst.unwrap_or_else(|| self.nobody(infer)))
    }

    /// Why no peer could be asked at all.
    fn nobody(&self, infer: &InferRequest) -> Refusal {
        let model = &infer.model;
        let serves_it = self.shared.mesh.offers().with(|offers| {
            let mut serving = offers.serving(model, Capabilities::NONE, clock::now());
            serving.any(|(offer, _)| self.may_ask(&offer.body.peer))
        });
        if serves_it {
            let needs: Vec<_> = infer.needs().names().collect();
            let words = format!("no peer with {model} can do all of: {}", needs.join(", "));
            Refusal::new(RefusalCode::Unsupported, words)
        } else {
            Refusal::new(RefusalCode::UnknownModel, format!("no peer serves {model}"))
        }
    }

    fn choose(&self, infer: &InferRequest, tried: &[PublicKey]) -> Option<Choice> {
        let now = clock::now();
        let salt = self.shared.nonces.0.load(Ordering::Relaxed);
        let wanted = (&infer.model, infer.needs());
        let mut router = lock(&self.shared.router);
        self.shared.mesh.offers().with(|offers| {
            let serving = offers.serving(wanted.0, wanted.1, now).map(|(offer, _)| offer.body.peer);
            let outside = serving.filter(|peer| !self.may_ask(peer));
            let out: Vec<_> = tried.iter().copied().chain(outside).collect();
            router.choose(offers, wanted, &out, now, salt)
        })
    }

    /// Asks one peer, up to its first token.
    async fn ask(&self, choice: &Choice, infer: &InferRequest) -> Result<Answer, Refusal> {
        let began = Instant::now();
        let salt = fresh_salt()?;
        let in_flight = InFlight::begin(self, choice, infer)?;
        let result = self.first_reply(choice, infer, salt, &in_flight).await;
        let mut router = lock(&self.shared.router);
        match result {
            Ok((stream, first)) => {
                let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                let now = clock::now();
                let is_part = matches!(infer.input, Input::File { .. });
                if is_part {
                    // Whoever hands over a file may have to hash it first: that is not how it answers.
                    router.on_begun(&choice.peer);
                } else {
                    router.on_first_token(&choice.peer, ms, now);
                    if infer.input_bytes() <= SHORT_INPUT_BYTES {
                        router.reputation_mut().first_token(choice.peer, &infer.model, ms, now);
                    }
                }
                drop(router);
                Ok(Answer {
                    peer: choice.peer,
                    first: Some(first),
                    stream: Some(stream),
                    in_flight,
                    check: AnswerCheck::new(infer, choice.context_tokens),
                    is_part,
                })
            }
            Err(refusal) => {
                let now = clock::now();
                router.on_refused(&choice.peer, refusal.code, refusal.retry_after_ms, now);
                drop(router);
                // What a busy neighbourhood says all day is no news.
                if refusal.code != RefusalCode::Busy {
                    let (peer, code) = (choice.peer, refusal.code.as_str());
                    tracing::info!(%peer, code, "a peer refused a request of this node");
                }
                Err(refusal)
            }
        }
    }

    async fn first_reply(
        &self,
        choice: &Choice,
        infer: &InferRequest,
        salt: Salt,
        in_flight: &InFlight,
    ) -> Result<(RequestStream, Reply), Refusal> {
        let lost = |words: String| {
            self.shared.mesh.offers().with(|offers| offers.mark_unreachable(&choice.peer));
            Refusal::new(RefusalCode::PeerLost, words)
        };
        let mut stream = self
            .shared
            .mesh
            .open(choice.peer, &[])
            .await
            .map_err(|error| lost(format!("the peer cannot be reached: {error}")))?;
        let request = self.sign(choice, infer, salt, in_flight);
        let sent = timeout(SEND_TIMEOUT, stream.write_frame(&request))
            .await
            .map_err(|_| lost("the peer does not take the request".into()))?;
        if let Err(error) = sent {
            // It may have refused before it took in all of it.
            let said = stream.read_frame(REPLY_FRAME_BYTES_MAX);
            return Err(match timeout(SILENCE_MAX, said).await {
                Ok(Ok(Reply::Refused(refusal))) => refusal,
                _ => lost(format!("the peer was lost: {error}")),
            });
        }
        // What was handed to the system may still be under way on a slow line: 100 KB a second.
        let mut patience = SILENCE_MAX + Duration::from_millis(infer.input_bytes() as u64 / 100);
        loop {
            match timeout(patience, stream.read_frame::<Reply>(REPLY_FRAME_BYTES_MAX)).await {
                Ok(Ok(Reply::Alive)) => patience = SILENCE_MAX,
                Ok(Ok(Reply::Refused(refusal))) => return Err(refusal),
                Ok(Ok(reply)) => return Ok((stream, reply)),
                Ok(Err(error)) => return Err(lost(format!("the peer was lost: {error}"))),
                Err(_) => return Err(lost("the peer has gone silent".into())),
            }
        }
    }

    fn sign(
        &self,
        choice: &Choice,
        infer: &InferRequest,
        salt: Salt,
        in_flight: &InFlight,
    ) -> Request {
        let now = clock::now();
        let key = &in_flight.session.key;
        Request::sign(
            key.key(),
            key.delegation(),
            choice.peer,
            self.shared.nonces.next(now),
            now,
            in_flight.reserved,
            salt,
            infer.clone(),
        )
    }
}

fn fresh_salt() -> Result<Salt, Refusal> {
    let mut salt = [0; 32];
    getrandom::fill(&mut salt).map_err(|error| {
        Refusal::new(RefusalCode::ProviderFailed, format!("no random bytes here: {error}"))
    })?;
    Ok(Salt(salt))
}

impl OpenSession {
    const fn new(key: SessionKey) -> Self {
        Self { key, committed: Mutex::new(Atoms::ZERO) }
    }
}

/// One request under way: counted at the router and held against the session's cap until dropped.
struct InFlight {
    client: Client,
    session: Arc<OpenSession>,
    choice: Choice,
    reserved: Atoms,
    cost: Atoms,
}

impl InFlight {
    fn begin(client: &Client, choice: &Choice, infer: &InferRequest) -> Result<Self, Refusal> {
        let session = Arc::clone(&lock(&client.shared.session));
        let reserved = choice.price.of(usage_bound(infer, choice.context_tokens));
        {
            let mut committed = lock(&session.committed);
            let cap = session.key.delegation().body.spending_cap;
            match committed.checked_add(reserved) {
                Some(total) if total <= cap => *committed = total,
                _ => {
                    let words = format!("this could cost {reserved}, more than the session may");
                    return Err(Refusal::new(RefusalCode::CapExceeded, words));
                }
            }
        }
        lock(&client.shared.router).on_sent(choice.peer, clock::now());
        Ok(Self {
            client: client.clone(),
            session,
            choice: choice.clone(),
            reserved,
            // Until the usage is known, all that was allowed may have been spent.
            cost: reserved,
        })
    }

    fn used(&mut self, usage: Usage) {
        self.cost = self.choice.price.of(usage).min(self.reserved);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        lock(&self.client.shared.router).on_ended(&self.choice.peer, clock::now());
        let mut committed = lock(&self.session.committed);
        let unused = self.reserved.checked_sub(self.cost).expect("the cost is below the reserve");
        *committed = committed.checked_sub(unused).expect("what is given back was reserved");
    }
}

/// An answer that has begun. Dropping it stops the work at the peer.
pub struct Answer {
    peer: PublicKey,
    first: Option<Reply>,
    stream: Option<RequestStream>,
    in_flight: InFlight,
    /// Holds what comes against what was asked; a peer that goes on for ever is cut.
    check: AnswerCheck,
    /// It is a part of something larger: whoever put that together says how it went.
    is_part: bool,
}

impl Answer {
    /// Who answers.
    #[must_use]
    pub const fn peer(&self) -> PublicKey {
        self.peer
    }

    /// The next piece: any number of others, then `Done` or `Refused`, then nothing.
    ///
    /// Not cancel safe: finish the future, or drop the answer with it.
    pub async fn next(&mut self) -> Option<Reply> {
        let reply = match self.first.take() {
            Some(first) => first,
            None => self.read().await?,
        };
        if let Err(refusal) = self.check.take(&reply) {
            self.stream = None;
            self.did(Deed::Lied);
            return Some(Reply::Refused(refusal));
        }
        match &reply {
            Reply::Done { usage, .. } => {
                self.in_flight.used(*usage);
                if !self.is_part {
                    self.did(Deed::Answered);
                }
            }
            // That it was lost is known already.
            Reply::Refused(Refusal { code: RefusalCode::PeerLost, .. }) => {}
            Reply::Refused(refusal) => {
                if let Some(deed) = Deed::of_refusal(refusal.code) {
                    self.did(deed);
                }
            }
            _ => {}
        }
        if matches!(reply, Reply::Done { .. } | Reply::Refused(_)) {
            self.stream = None;
        }
        Some(reply)
    }

    /// The pieces as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Reply> + Send {
        futures::stream::unfold(self, async |mut answer| {
            let reply = answer.next().await?;
            Some((reply, answer))
        })
    }

    /// Notes what the peer did.
    fn did(&self, deed: Deed) {
        let client = &self.in_flight.client;
        client.with_reputation(|reputation| reputation.record(self.peer, deed, clock::now()));
    }

    async fn read(&mut self) -> Option<Reply> {
        let stream = self.stream.as_mut()?;
        let lost = |words: String| Reply::Refused(Refusal::new(RefusalCode::PeerLost, words));
        let reply = loop {
            match timeout(SILENCE_MAX, stream.read_frame(REPLY_FRAME_BYTES_MAX)).await {
                Ok(Ok(Reply::Alive)) => {}
                Ok(Ok(reply)) => return Some(reply),
                Ok(Err(error)) => break lost(format!("the peer was lost: {error}")),
                Err(_) => break lost("the peer has gone silent".into()),
            }
        };
        self.in_flight.client.mesh().offers().with(|o| o.mark_unreachable(&self.peer));
        let mut router = lock(&self.in_flight.client.shared.router);
        router.on_refused(&self.peer, RefusalCode::PeerLost, None, clock::now());
        Some(reply)
    }
}

/// Whether a peer refuses only what was signed before it began, which passes by itself.
fn is_restart(refusal: &Refusal) -> bool {
    let soon = refusal.retry_after_ms.is_some_and(|ms| u64::from(ms) <= RESTART_WAIT_MS_MAX);
    refusal.code == RefusalCode::Expired && soon
}

/// A poisoned lock still guards data that every writer leaves whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonces_are_dense_whatever_the_clock_does() {
        let nonces = Nonces::default();
        let given: Vec<u64> = [5, 9_000, 2, 9_001].map(|ms| nonces.next(Timestamp(ms))).to_vec();
        assert_eq!(given, [5_000, 5_001, 5_002, 5_003]);
    }

    #[test]
    fn a_question_asked_again_does_not_look_the_same() {
        let infer = InferRequest::new("m".parse().unwrap(), Input::Text("hi".into()));
        let digest = || infer.digest(&fresh_salt().unwrap());
        assert_ne!(digest(), digest());
    }
}
