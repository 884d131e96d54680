//! The gate of a node: admission, and the means to cut what runs by a right that is gone.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arknet_chain::FreeQuota;
use arknet_protocol::{
    Admission, Admitted, CheckedRequest, DayUse, Grants, Knock, Offered, PeerUse, Policy,
};
use arknet_types::{Address, Atoms, FreeUse, PublicKey, Refusal, RefusalCode, Timestamp, Usage};
use tokio_util::sync::CancellationToken;

/// The gate of a node. Cheap to clone.
#[derive(Clone)]
pub struct Gate {
    /// What does not change, so that signatures are verified outside the lock.
    policy: Arc<Policy>,
    state: Arc<Mutex<State>>,
}

struct State {
    admission: Admission,
    /// What was admitted and not settled, and how to end it.
    cuts: BTreeMap<u64, CancellationToken>,
}

impl Gate {
    pub(crate) fn new(policy: Policy) -> Self {
        let admission = Admission::new(policy.clone());
        let state = State { admission, cuts: BTreeMap::new() };
        Self { policy: Arc::new(policy), state: Arc::new(Mutex::new(state)) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Whether this peer may ask at all.
    pub(crate) fn knock(&self, from: PublicKey) -> Result<(), Refusal> {
        let mut state = self.lock();
        let refused = state.admission.knock(from, arknet_sdk::now());
        let count = state.admission.knocks().get(&from).map_or(0, |knock| knock.count);
        drop(state);
        // Who goes on knocking does not fill the log.
        if refused.is_err() && count.is_power_of_two() {
            tracing::info!(peer = %from, count, "refused: this peer is not approved");
        }
        refused
    }

    pub(crate) fn knows_delegation(&self, digest: &[u8; 32]) -> bool {
        self.lock().admission.knows_delegation(digest)
    }

    /// Decides, and says how it will be told to end before its time.
    pub(crate) fn admit(
        &self,
        checked: CheckedRequest,
        offered: Option<Offered<'_>>,
        usage_max: Usage,
        now: Timestamp,
    ) -> Result<(Admitted, CancellationToken), Refusal> {
        let mut state = self.lock();
        let admitted = state.admission.admit(checked, offered, usage_max, now)?;
        // Under the same lock: a right that is taken away from now on finds it.
        let cut = CancellationToken::new();
        state.cuts.insert(admitted.id, cut.clone());
        Ok((admitted, cut))
    }

    pub(crate) fn settle(&self, admitted: &Admitted, usage: Usage) -> Atoms {
        let mut state = self.lock();
        state.cuts.remove(&admitted.id);
        state.admission.settle(admitted, usage, arknet_sdk::now())
    }

    /// Replaces who is approved, and cuts what runs or waits by a right that is gone. Returns how
    /// much that was.
    pub(crate) fn set_grants(&self, grants: Grants) -> usize {
        let mut state = self.lock();
        let lost = state.admission.set_grants(grants, arknet_sdk::now());
        let cuts = lost.iter().filter_map(|id| state.cuts.get(id));
        cuts.map(CancellationToken::cancel).count()
    }

    /// Requests of others that are running or waiting.
    pub(crate) fn running(&self) -> u32 {
        self.lock().admission.running()
    }

    /// What this peer has to do with this node now.
    #[must_use]
    pub fn peer_use(&self, peer: &PublicKey) -> PeerUse {
        self.lock().admission.peer_use(peer, arknet_sdk::now())
    }

    /// What an approved peer is called here.
    pub(crate) fn node_id(&self, peer: &PublicKey) -> Option<String> {
        self.lock().admission.grants().get(peer).map(|grant| grant.node_id.to_string())
    }

    /// Who has asked without being approved.
    #[must_use]
    pub fn knocks(&self) -> Vec<(PublicKey, Knock)> {
        let state = self.lock();
        state.admission.knocks().iter().map(|(peer, knock)| (*peer, *knock)).collect()
    }

    pub(crate) fn day_uses(&self) -> Vec<(PublicKey, DayUse)> {
        self.lock().admission.day_uses(arknet_sdk::now()).collect()
    }

    pub(crate) fn resume(&self, peer: PublicKey, used: DayUse) {
        self.lock().admission.resume(peer, used);
    }

    /// What the ledger says: whether wallets have their free quota, and no more than that.
    pub(crate) fn set_bootstrap(&self, lasts: bool) {
        self.lock().admission.set_bootstrap(lasts);
    }

    /// Whether what this peer tells of free jobs is to be looked at.
    pub(crate) fn may_hear(&self, from: &PublicKey, now: Timestamp) -> bool {
        self.lock().admission.may_hear(from, now)
    }

    /// Counts a free job of another node, whose signatures were checked outside the lock.
    pub(crate) fn hear(&self, free_use: &FreeUse, now: Timestamp) -> bool {
        self.lock().admission.hear(free_use, now)
    }

    pub(crate) fn free_quotas(&self) -> BTreeMap<Address, FreeQuota> {
        self.lock().admission.free_quotas(arknet_sdk::now()).collect()
    }

    pub(crate) fn resume_free_quota(&self, wallet: Address, quota: FreeQuota) {
        self.lock().admission.resume_free_quota(wallet, quota);
    }
}

/// What a requester hears when its right goes while its answer runs.
pub(crate) fn revoked() -> Refusal {
    Refusal::new(RefusalCode::NotPermitted, "the owner of this node has taken this right away")
}
