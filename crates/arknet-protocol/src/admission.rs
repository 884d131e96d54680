//! The one gate every remote request passes.
//!
//! It has two halves. [`CheckedRequest::check`] looks at the request alone and needs no state, so
//! that signatures are verified outside any lock. [`Admission::admit`] holds what must be
//! remembered: nonces, spending, and how much each peer has running.

use std::collections::{BTreeMap, BTreeSet};

use arknet_types::{
    Address, Atoms, DelegationError, InferRequest, Input, NetworkId, PublicKey, Refusal,
    RefusalCode, Request, Timestamp, Usage,
    limits::{CLOCK_SKEW_MS_MAX, NONCE_WINDOW, SESSIONS_MAX, SESSIONS_PER_PEER_MAX},
};

const WINDOW_WORDS: usize = (NONCE_WINDOW / 64) as usize;
/// Delegations whose wallet signature was verified and need not be again.
const VERIFIED_MAX: usize = 4096;

/// Who may ask.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Who {
    /// Everybody with a valid session.
    Anyone,
    /// These peers.
    Only(BTreeSet<PublicKey>),
}

/// What this node lets others do.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The network requests must be signed for.
    pub network: NetworkId,
    /// This peer, the audience requests must be signed for.
    pub me: PublicKey,
    /// When this node began: it remembers no nonce from before.
    pub started_at: Timestamp,
    /// Who may ask.
    pub who: Who,
    /// Requests one peer may have running or waiting here.
    pub requests_per_peer_max: u32,
}

/// What a model costs here.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Price {
    /// For a million input tokens.
    pub input: Atoms,
    /// For a million generated tokens.
    pub output: Atoms,
}

impl Price {
    /// What this usage costs, or the most there is where that does not fit.
    #[must_use]
    pub fn of(&self, usage: Usage) -> Atoms {
        let input = self.input.per_million(u64::from(usage.prompt_tokens));
        let output = self.output.per_million(u64::from(usage.completion_tokens));
        input.zip(output).and_then(|(a, b)| a.checked_add(b)).unwrap_or(Atoms(u64::MAX))
    }

    /// Whether nothing is asked.
    #[must_use]
    pub fn is_free(&self) -> bool {
        *self == Self::default()
    }
}

/// The most tokens a request can take at a model with this context. Both sides compute it, so that
/// both know the most it can cost: a token is at least one byte of the input, a chat template adds
/// a few tokens around each message, and nothing exceeds the context.
#[must_use]
pub fn usage_bound(infer: &InferRequest, context_tokens: u32) -> Usage {
    const AROUND_EACH: usize = 64;
    let bytes = infer.input_bytes();
    let is_generation = matches!(infer.input, Input::Chat(_) | Input::Text(_));
    let prompt = match &infer.input {
        Input::Chat(chat) if chat.has_images() => context_tokens as usize,
        Input::Chat(chat) => bytes + (chat.messages.len() + 1) * AROUND_EACH,
        Input::Text(_) => bytes + AROUND_EACH,
        Input::Embed(texts) => bytes + texts.len() * AROUND_EACH,
        Input::Rerank { query, documents } => {
            bytes.saturating_add(documents.len().saturating_mul(query.len() + AROUND_EACH))
        }
        Input::Count(chat) => bytes + (chat.messages.len() + 1) * AROUND_EACH,
        Input::Tokenize { .. } | Input::Detokenize(_) => bytes + AROUND_EACH,
        Input::File { .. } => 0,
    };
    let prompt_tokens = u32::try_from(prompt).unwrap_or(u32::MAX);
    let completion = infer.max_tokens.unwrap_or(context_tokens).min(context_tokens);
    Usage {
        prompt_tokens: if is_generation {
            prompt_tokens.min(context_tokens)
        } else {
            prompt_tokens
        },
        completion_tokens: if is_generation { completion } else { 0 },
        ..Usage::default()
    }
}

/// A request that is what it claims to be; whether it may run is not decided yet.
#[derive(Debug)]
pub struct CheckedRequest {
    from: PublicKey,
    request: Request,
    delegation_digest: [u8; 32],
}

impl CheckedRequest {
    /// Checks all that the request itself shows: network, audience, freshness, delegation, scope,
    /// parameters, signatures. `from` is the peer the transport has authenticated; `is_known` says
    /// of a delegation digest whether its signature was verified before
    /// ([`Admission::knows_delegation`]).
    pub fn check(
        request: Request,
        from: PublicKey,
        policy: &Policy,
        now: Timestamp,
        is_known: impl FnOnce(&[u8; 32]) -> bool,
    ) -> Result<Self, Refusal> {
        let body = &request.body;
        let delegation = &request.delegation;
        if body.network != policy.network || delegation.body.network != policy.network {
            return Err(refuse(RefusalCode::WrongNetwork, "signed for another network"));
        }
        if body.audience != policy.me {
            return Err(refuse(RefusalCode::WrongAudience, "signed for another peer"));
        }
        if now.since_ms(body.sent_at) > CLOCK_SKEW_MS_MAX {
            return Err(refuse(RefusalCode::Expired, "signed over 30 s ago; check the clocks"));
        }
        if body.sent_at < policy.started_at {
            // Nonces from before the start are not remembered, so such a request could be a replay.
            let refusal =
                refuse(RefusalCode::Expired, "signed before this node started; try again");
            return Err(refusal.retry_after_ms(policy.started_at.since_ms(body.sent_at) + 1));
        }
        if body.sent_at.since_ms(now) > CLOCK_SKEW_MS_MAX {
            return Err(refuse(RefusalCode::FutureDated, "signed in the future; check the clocks"));
        }
        delegation.check_times(now).map_err(refuse_delegation)?;
        if delegation.body.peer_scope.is_some_and(|peer| peer != policy.me) {
            return Err(refuse(RefusalCode::NotPermitted, "the session is for another peer"));
        }
        if delegation.body.model_scope.as_ref().is_some_and(|model| *model != request.infer.model) {
            return Err(refuse(RefusalCode::NotPermitted, "the session is for another model"));
        }
        request.infer.check()?;
        if !request.is_signed() {
            return Err(refuse(
                RefusalCode::BadSignature,
                "the session's signature does not match",
            ));
        }
        let delegation_digest = body.delegation_digest;
        if !is_known(&delegation_digest) {
            delegation.check_signature().map_err(refuse_delegation)?;
        }
        Ok(Self { from, request, delegation_digest })
    }

    /// The request itself.
    #[must_use]
    pub const fn request(&self) -> &Request {
        &self.request
    }
}

fn refuse(code: RefusalCode, words: &str) -> Refusal {
    Refusal::new(code, words)
}

fn refuse_delegation(error: DelegationError) -> Refusal {
    let code = match error {
        DelegationError::FutureDated => RefusalCode::FutureDated,
        DelegationError::Signature => RefusalCode::BadSignature,
        _ => RefusalCode::Expired,
    };
    Refusal::new(code, error.to_string())
}

/// A request that may run. Give it back to [`Admission::settle`] when it is over.
#[derive(Debug)]
#[must_use = "what is admitted must be settled, or its reservation stays"]
pub struct Admitted {
    /// The peer that asked.
    pub from: PublicKey,
    /// The wallet that would pay.
    pub wallet: Address,
    /// What is asked.
    pub infer: InferRequest,
    /// The price it was admitted at.
    pub price: Price,
    session: PublicKey,
    reserved: Atoms,
}

/// What is remembered of one session: the newest nonces, and money.
#[derive(Debug)]
struct Session {
    peer: PublicKey,
    newest: u64,
    /// Which of the nonces `newest - NONCE_WINDOW + 1 ..= newest` were seen, as a ring of bits.
    seen: Box<[u64; WINDOW_WORDS]>,
    /// No request signed before this was forgotten: the session may go when none signed up to its
    /// last request could still be fresh.
    last_sent_at: Timestamp,
    expires_at: Timestamp,
    spent: Atoms,
    reserved: Atoms,
    running: u32,
}

/// The state of the gate. Every map in it is bounded; what does not fit is refused, never forgotten.
#[derive(Debug)]
pub struct Admission {
    policy: Policy,
    sessions: BTreeMap<PublicKey, Session>,
    sessions_of: BTreeMap<PublicKey, u32>,
    running_of: BTreeMap<PublicKey, u32>,
    verified: BTreeMap<[u8; 32], Timestamp>,
    swept_at: Timestamp,
    /// The newest request of any session that was forgotten. Nothing signed up to then is taken: a
    /// clock that jumped ahead made us forget, and after it jumps back a replay would look fresh.
    forgotten_until: Timestamp,
}

impl Admission {
    /// A gate that has seen nothing.
    #[must_use]
    pub const fn new(policy: Policy) -> Self {
        Self {
            swept_at: policy.started_at,
            forgotten_until: Timestamp(0),
            policy,
            sessions: BTreeMap::new(),
            sessions_of: BTreeMap::new(),
            running_of: BTreeMap::new(),
            verified: BTreeMap::new(),
        }
    }

    /// The policy in force.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Whether this delegation's signature was verified before.
    #[must_use]
    pub fn knows_delegation(&self, digest: &[u8; 32]) -> bool {
        self.verified.contains_key(digest)
    }

    /// Decides. `price` is that of the model asked for, or none when it is not served here;
    /// `usage_max` bounds what the answer can take.
    pub fn admit(
        &mut self,
        checked: CheckedRequest,
        price: Option<Price>,
        usage_max: Usage,
        now: Timestamp,
    ) -> Result<Admitted, Refusal> {
        self.sweep(now);
        let CheckedRequest { from, request, delegation_digest } = checked;
        if let Who::Only(peers) = &self.policy.who
            && !peers.contains(&from)
        {
            return Err(refuse(RefusalCode::NotPermitted, "this node serves only peers it knows"));
        }
        let Some(price) = price else {
            return Err(refuse(RefusalCode::UnknownModel, "this model is not served here"));
        };
        self.check_still_fresh(&request, now)?;
        let running = self.running_of.get(&from).copied().unwrap_or(0);
        if running >= self.policy.requests_per_peer_max {
            let refusal =
                refuse(RefusalCode::RateLimited, "too many requests of this peer at once");
            return Err(refusal.retry_after_ms(1_000));
        }
        let reserved = self.reserve(&request, price, usage_max)?;
        let delegation = &request.delegation.body;
        let session = self.session(&request, from)?;
        let committed = session.spent.checked_add(session.reserved);
        let total = committed.and_then(|c| c.checked_add(reserved));
        if total.is_none_or(|total| total > delegation.spending_cap) {
            return Err(refuse(
                RefusalCode::CapExceeded,
                "the session may not spend that much more",
            ));
        }
        if !session.take_nonce(request.body.nonce) {
            return Err(refuse(RefusalCode::Replayed, "this request was seen before"));
        }
        session.last_sent_at = session.last_sent_at.max(request.body.sent_at);
        // A wallet may sign several delegations for one session: the money counts until the last ends.
        session.expires_at = session.expires_at.max(delegation.expires_at);
        session.reserved = session.reserved.checked_add(reserved).expect("below the cap");
        session.running += 1;
        if self.verified.len() < VERIFIED_MAX {
            self.verified.insert(delegation_digest, delegation.expires_at);
        }
        *self.running_of.entry(from).or_insert(0) += 1;
        Ok(Admitted {
            from,
            wallet: delegation.wallet.address(),
            price,
            session: delegation.session,
            reserved,
            infer: request.infer,
        })
    }

    /// The check was made outside any lock: time may have passed since, and sessions forgotten.
    fn check_still_fresh(&self, request: &Request, now: Timestamp) -> Result<(), Refusal> {
        let (sent_at, ends_at) = (request.body.sent_at, request.delegation.body.expires_at);
        if now.since_ms(sent_at) > CLOCK_SKEW_MS_MAX || now >= ends_at {
            return Err(refuse(RefusalCode::Expired, "it took too long to check; try again"));
        }
        if sent_at <= self.forgotten_until {
            let words = "older than what this node remembers; try again";
            return Err(refuse(RefusalCode::Expired, words));
        }
        Ok(())
    }

    /// The most this request can cost, if its requester agrees to that.
    fn reserve(&self, request: &Request, price: Price, max: Usage) -> Result<Atoms, Refusal> {
        let reserved = price.of(max);
        if reserved > request.body.cost_max {
            let words = "it could cost more than the request allows";
            return Err(refuse(RefusalCode::PriceTooHigh, words));
        }
        if !price.is_free() && request.delegation.body.issued_at < self.policy.started_at {
            // What the session spent here before the start is not known any more.
            return Err(refuse(RefusalCode::Expired, "this node restarted; open a new session"));
        }
        Ok(reserved)
    }

    /// An admitted request is over and took `usage`. Returns what it cost.
    pub fn settle(&mut self, admitted: &Admitted, usage: Usage) -> Atoms {
        // Never more than was reserved: the requester agreed to no more.
        let cost = admitted.price.of(usage).min(admitted.reserved);
        let session = self.sessions.get_mut(&admitted.session);
        let session = session.expect("a session with a running request is kept");
        session.reserved = session.reserved.checked_sub(admitted.reserved).expect("settled once");
        session.running -= 1;
        session.spent = session.spent.checked_add(cost).expect("below the cap");
        let running = self.running_of.get_mut(&admitted.from).expect("counted when admitted");
        *running -= 1;
        if *running == 0 {
            self.running_of.remove(&admitted.from);
        }
        cost
    }

    /// Sessions remembered now.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Requests admitted and not settled.
    #[must_use]
    pub fn running(&self) -> u32 {
        self.running_of.values().sum()
    }

    fn session(&mut self, request: &Request, from: PublicKey) -> Result<&mut Session, Refusal> {
        let key = request.delegation.body.session;
        if !self.sessions.contains_key(&key) {
            let of_peer = self.sessions_of.get(&from).copied().unwrap_or(0);
            if self.sessions.len() >= SESSIONS_MAX || of_peer as usize >= SESSIONS_PER_PEER_MAX {
                let refusal = refuse(RefusalCode::RateLimited, "too many sessions");
                return Err(refusal.retry_after_ms(CLOCK_SKEW_MS_MAX));
            }
            *self.sessions_of.entry(from).or_insert(0) += 1;
            let session = Session {
                peer: from,
                newest: 0,
                seen: Box::new([0; WINDOW_WORDS]),
                last_sent_at: request.body.sent_at,
                expires_at: request.delegation.body.expires_at,
                spent: Atoms::ZERO,
                reserved: Atoms::ZERO,
                running: 0,
            };
            self.sessions.insert(key, session);
        }
        Ok(self.sessions.get_mut(&key).expect("inserted above"))
    }

    /// Forgets, at most once a second, sessions of which no request could be replayed and no
    /// spending need be remembered.
    fn sweep(&mut self, now: Timestamp) {
        // A clock that jumped back counts as time passed, or nothing would be swept for long.
        if now >= self.swept_at && now.since_ms(self.swept_at) < 1_000 {
            return;
        }
        self.swept_at = now;
        let Self { sessions, sessions_of, forgotten_until, .. } = self;
        sessions.retain(|_, session| {
            let stale = now.since_ms(session.last_sent_at) > CLOCK_SKEW_MS_MAX;
            let moneyless = session.spent == Atoms::ZERO || now >= session.expires_at;
            let keep = !(stale && moneyless && session.running == 0);
            if !keep {
                *forgotten_until = session.last_sent_at.max(*forgotten_until);
                *sessions_of.get_mut(&session.peer).expect("counted when opened") -= 1;
            }
            keep
        });
        sessions_of.retain(|_, count| *count > 0);
        self.verified.retain(|_, expires_at| *expires_at > now);
    }
}

impl Session {
    /// Marks a nonce as seen. False when it was, or lies too far back to tell.
    fn take_nonce(&mut self, nonce: u64) -> bool {
        if nonce > self.newest {
            let steps = nonce - self.newest;
            if steps >= NONCE_WINDOW {
                self.seen.fill(0);
            } else {
                for skipped in self.newest + 1..nonce {
                    self.set(skipped, false);
                }
            }
            self.newest = nonce;
            self.set(nonce, true);
            return true;
        }
        if self.newest - nonce >= NONCE_WINDOW || self.is_set(nonce) {
            return false;
        }
        self.set(nonce, true);
        true
    }

    const fn place(nonce: u64) -> (usize, u64) {
        let at = nonce % NONCE_WINDOW;
        ((at / 64) as usize, 1 << (at % 64))
    }

    fn is_set(&self, nonce: u64) -> bool {
        let (word, bit) = Self::place(nonce);
        self.seen[word] & bit != 0
    }

    fn set(&mut self, nonce: u64, seen: bool) {
        let (word, bit) = Self::place(nonce);
        if seen {
            self.seen[word] |= bit;
        } else {
            self.seen[word] &= !bit;
        }
    }
}

#[cfg(test)]
mod tests;
