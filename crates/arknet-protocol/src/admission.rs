//! The one gate every remote request passes.
//!
//! Who asks at all is looked at first ([`Admission::knock`]), before anything of the request is
//! read. [`CheckedRequest::check`] then looks at the request alone and needs no state, so that
//! signatures are verified outside any lock. [`Admission::admit`] holds what must be remembered:
//! rights and what was used of them, nonces, spending, and how much each peer has running.

mod check;
mod session;

use std::collections::BTreeMap;

use arknet_chain::FreeQuota;
use arknet_types::{
    Address, Atoms, FreeUse, InferRequest, Input, ModelName, NetworkId, PublicKey, Refusal,
    RefusalCode, Request, Timestamp, Usage,
    limits::{CLOCK_SKEW_MS_MAX, SESSIONS_MAX, SESSIONS_PER_PEER_MAX},
};

pub use check::CheckedRequest;
use session::Session;

use crate::{
    free_jobs::{FreeJobs, Taken},
    grants::{GRANTS_MAX, Grant, Grants},
    knocks::Knocks,
    meter::{DayUse, GrantMeter},
};

/// Delegations whose wallet signature was verified and need not be again.
const VERIFIED_MAX: usize = 4096;
/// Peers of which is remembered what they used, those whose grant was taken away included.
const METERS_MAX: usize = 2 * GRANTS_MAX;

/// Who may ask.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Who {
    /// Whoever has a grant, and no one else.
    Approved,
    /// Everybody with a valid session: for tests and demonstrations. Who has a grant is held to it.
    Anyone {
        /// Whether everybody may have the files of models, too.
        files: bool,
    },
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

fn tokens(usage: Usage) -> u64 {
    u64::from(usage.prompt_tokens) + u64::from(usage.completion_tokens)
}

fn refuse(code: RefusalCode, words: &str) -> Refusal {
    Refusal::new(code, words)
}

/// A request that may run. Give it back to [`Admission::settle`] when it is over.
#[derive(Debug)]
#[must_use = "what is admitted must be settled, or its reservation stays"]
pub struct Admitted {
    /// Names it as long as it runs: [`Admission::set_grants`] tells by this what is to be cut.
    pub id: u64,
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
    /// Tokens held at the meter of its grant, where it has one.
    held: Option<u64>,
    /// The free job it is, until it has begun.
    taken: Option<Taken>,
}

impl Admitted {
    /// The work has begun. Returns what others are to hear of it, where it is a free job: from now on
    /// that is not given back.
    pub fn begin(&mut self) -> Option<FreeUse> {
        self.taken.take().map(|taken| taken.free_use)
    }
}

/// The model asked for, as it is served here.
#[derive(Clone, Copy, Debug)]
pub struct Offered<'a> {
    /// Its name, whatever it was called in the request.
    pub name: &'a ModelName,
    /// What it costs.
    pub price: Price,
}

/// What a peer has to do with this node now.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PeerUse {
    /// Requests running or waiting.
    pub running: u32,
    /// Requests admitted today, by UTC.
    pub requests_today: u64,
    /// Tokens used today, by UTC.
    pub tokens_today: u64,
}

/// What a running request needs a right to.
#[derive(Debug)]
struct Running {
    from: PublicKey,
    model: ModelName,
    is_file: bool,
}

/// The state of the gate. Every map in it is bounded; what does not fit is refused, never forgotten.
#[derive(Debug)]
pub struct Admission {
    policy: Policy,
    grants: Grants,
    meters: BTreeMap<PublicKey, GrantMeter>,
    knocks: Knocks,
    free_jobs: FreeJobs,
    running: BTreeMap<u64, Running>,
    admitted: u64,
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
    /// A gate that has seen nothing and knows nobody.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            swept_at: policy.started_at,
            free_jobs: FreeJobs::new(policy.started_at),
            forgotten_until: Timestamp(0),
            policy,
            grants: Grants::new(),
            meters: BTreeMap::new(),
            knocks: Knocks::new(),
            running: BTreeMap::new(),
            admitted: 0,
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

    /// Whether this peer may ask at all. Say so before anything of its request is looked at: who has
    /// no right here learns nothing and costs nothing.
    pub fn knock(&mut self, from: PublicKey, now: Timestamp) -> Result<(), Refusal> {
        if self.policy.who != Who::Approved || self.grants.get(&from).is_some() {
            return Ok(());
        }
        self.knocks.refused(from, now);
        Err(refuse(RefusalCode::NotPermitted, "the owner of this node has not approved this peer"))
    }

    /// Decides. `offered` is the model asked for, or none when it is not served here; `usage_max`
    /// bounds what the answer can take.
    pub fn admit(
        &mut self,
        checked: CheckedRequest,
        offered: Option<Offered<'_>>,
        usage_max: Usage,
        now: Timestamp,
    ) -> Result<Admitted, Refusal> {
        self.sweep(now);
        let CheckedRequest { from, request, delegation_digest } = checked;
        self.knock(from, now)?;
        let is_file = matches!(request.infer.input, Input::File { .. });
        let name = offered.map_or(&request.infer.model, |offered| offered.name).clone();
        self.check_right(&from, &name, is_file)?;
        let Some(Offered { price, .. }) = offered else {
            return Err(refuse(RefusalCode::UnknownModel, "this model is not served here"));
        };
        self.check_still_fresh(&request, now)?;
        let tokens = tokens(usage_max);
        self.check_limits(&from, tokens, now)?;
        let free_use = self.free_use(&from, &request, is_file);
        if let Some(free_use) = &free_use {
            self.free_jobs.check(&free_use.wallet(), now)?;
        }
        let reserved = self.reserve(&request, price, usage_max)?;
        self.session(&request, from)?.begin(&request, reserved)?;
        let delegation = &request.delegation.body;
        if self.verified.len() < VERIFIED_MAX {
            self.verified.insert(delegation_digest, delegation.expires_at);
        }
        *self.running_of.entry(from).or_insert(0) += 1;
        let held = self.grants.get(&from).map(|_| tokens);
        if held.is_some() {
            self.meters.entry(from).or_default().begin(tokens, now);
        }
        self.admitted += 1;
        self.running.insert(self.admitted, Running { from, model: name, is_file });
        Ok(Admitted {
            id: self.admitted,
            from,
            wallet: delegation.wallet.address(),
            price,
            session: delegation.session,
            reserved,
            held,
            taken: free_use.map(|free_use| self.free_jobs.take(free_use, now)),
            infer: request.infer,
        })
    }

    /// What this request takes of its wallet's free quota: one, where the bootstrap period lasts and
    /// the peer asks by no grant. Files are no jobs.
    fn free_use(&self, from: &PublicKey, request: &Request, is_file: bool) -> Option<FreeUse> {
        let is_free = self.free_jobs.is_on() && !is_file && self.grants.get(from).is_none();
        is_free.then(|| FreeUse::of(request))
    }

    /// Says whether the bootstrap period of the ledger lasts, in which each wallet has so many free
    /// jobs in an hour and in a day. Without a ledger it does not.
    pub const fn set_bootstrap(&mut self, lasts: bool) {
        self.free_jobs.set_on(lasts);
    }

    /// Whether what this peer tells of free jobs is to be looked at. Say so before its signatures are.
    pub fn may_hear(&mut self, from: &PublicKey, now: Timestamp) -> bool {
        self.free_jobs.may_hear(from, now)
    }

    /// Counts a free job that another node served, once it was checked ([`FreeUse::check`]). False
    /// where it makes no difference here, and need not be passed on.
    pub fn hear(&mut self, free_use: &FreeUse, now: Timestamp) -> bool {
        self.free_jobs.hear(free_use, now)
    }

    /// What each wallet has taken of its free quota, to be stored.
    pub fn free_quotas(&self, now: Timestamp) -> impl Iterator<Item = (Address, FreeQuota)> {
        self.free_jobs.quotas(now)
    }

    /// Goes on with what a wallet had taken when an earlier life of this node ended.
    pub fn resume_free_quota(&mut self, wallet: Address, quota: FreeQuota) {
        self.free_jobs.resume(wallet, quota);
    }

    /// Whether this peer has a right to this, however much it has used of it.
    fn check_right(
        &self,
        from: &PublicKey,
        model: &ModelName,
        is_file: bool,
    ) -> Result<(), Refusal> {
        let words = match (self.grants.get(from), self.policy.who) {
            (Some(Grant { permissions, .. }), _) => {
                let may = if is_file {
                    permissions.can_pull_models
                } else {
                    permissions.can_request_inference
                };
                // Whether it is served here at all is not told to those it is not shared with.
                match (may, permissions.models_shared.contains(model)) {
                    (true, true) => return Ok(()),
                    (true, false) => "this model is not shared with this peer",
                    (false, _) if is_file => "this peer may not fetch models here",
                    (false, _) => "this peer may not ask models here",
                }
            }
            (None, Who::Anyone { files }) if files || !is_file => return Ok(()),
            (None, Who::Anyone { .. }) => "this node does not hand over models",
            (None, Who::Approved) => "the owner of this node has not approved this peer",
        };
        Err(refuse(RefusalCode::NotPermitted, words))
    }

    /// Whether this peer may do more now.
    fn check_limits(
        &mut self,
        from: &PublicKey,
        tokens: u64,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let permissions = self.grants.get(from).map(|grant| &grant.permissions);
        let at_once = permissions.map_or(u32::MAX, |p| p.max_concurrent_requests);
        let running = self.running_of.get(from).copied().unwrap_or(0);
        if running >= self.policy.requests_per_peer_max.min(at_once) {
            let refusal =
                refuse(RefusalCode::RateLimited, "too many requests of this peer at once");
            return Err(refusal.retry_after_ms(1_000));
        }
        let Some(permissions) = permissions else { return Ok(()) };
        match self.meters.get_mut(from) {
            Some(meter) => meter.check(permissions, tokens, now),
            None => GrantMeter::default().check(permissions, tokens, now),
        }
    }

    /// Replaces who is approved, and what they may do. Returns what runs or waits by a right that is
    /// gone and is to be cut.
    pub fn set_grants(&mut self, grants: Grants, now: Timestamp) -> Vec<u64> {
        self.grants = grants;
        let Self { grants, meters, knocks, .. } = self;
        knocks.forget(|peer| grants.get(peer).is_some());
        // A grant that comes back within the day has used what it had used. Without one, and with
        // nothing to remember, there is no meter; beyond the bound only those with a grant count.
        meters.retain(|peer, meter| grants.get(peer).is_some() || meter.is_of_use(now));
        if meters.len() > METERS_MAX {
            meters.retain(|peer, meter| grants.get(peer).is_some() || meter.is_reserved());
        }
        let lost = self.running.iter().filter(|(_, running)| {
            self.check_right(&running.from, &running.model, running.is_file).is_err()
        });
        lost.map(|(id, _)| *id).collect()
    }

    /// Who is approved.
    #[must_use]
    pub const fn grants(&self) -> &Grants {
        &self.grants
    }

    /// Who has asked without being approved.
    #[must_use]
    pub const fn knocks(&self) -> &Knocks {
        &self.knocks
    }

    /// What this peer has to do with this node now.
    #[must_use]
    pub fn peer_use(&self, peer: &PublicKey, now: Timestamp) -> PeerUse {
        let today = self.meters.get(peer).map(|meter| meter.today(now)).unwrap_or_default();
        PeerUse {
            running: self.running_of.get(peer).copied().unwrap_or(0),
            requests_today: today.requests,
            tokens_today: today.tokens,
        }
    }

    /// What each peer has used today, to be stored.
    pub fn day_uses(&self, now: Timestamp) -> impl Iterator<Item = (PublicKey, DayUse)> {
        self.meters.iter().map(move |(peer, meter)| (*peer, meter.today(now)))
    }

    /// Goes on where an earlier life of this node ended.
    pub fn resume(&mut self, peer: PublicKey, used: DayUse) {
        if self.meters.len() < METERS_MAX {
            self.meters.insert(peer, GrantMeter::resume(used));
        }
    }

    /// The check was made outside any lock: time may have passed since, or been set back, and sessions
    /// forgotten.
    fn check_still_fresh(&self, request: &Request, now: Timestamp) -> Result<(), Refusal> {
        let (sent_at, delegation) = (request.body.sent_at, &request.delegation.body);
        if now.since_ms(sent_at) > CLOCK_SKEW_MS_MAX || now >= delegation.expires_at {
            return Err(refuse(RefusalCode::Expired, "it took too long to check; try again"));
        }
        if sent_at.max(delegation.issued_at).since_ms(now) > CLOCK_SKEW_MS_MAX {
            return Err(refuse(RefusalCode::FutureDated, "the clock here was set back; try again"));
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
    pub fn settle(&mut self, admitted: &Admitted, usage: Usage, now: Timestamp) -> Atoms {
        self.running.remove(&admitted.id);
        if let (Some(held), Some(meter)) = (admitted.held, self.meters.get_mut(&admitted.from)) {
            meter.end(held, tokens(usage), now);
        }
        if let Some(taken) = &admitted.taken {
            self.free_jobs.give_back(taken);
        }
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
            let expires_at = request.delegation.body.expires_at;
            let session = Session::new(from, request.body.sent_at, expires_at);
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

#[cfg(test)]
mod free_tests;
#[cfg(test)]
mod grant_tests;
#[cfg(test)]
mod tests;
