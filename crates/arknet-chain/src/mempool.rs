//! Transactions that wait for a block. They stay until a block has them: a round that fails, or a
//! block that another proposed, loses none.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use arknet_types::{Address, Atoms, PublicKey, Timestamp};

use crate::{
    Account, Hash, Inapplicable, Key, Meta, StateView, VerifiedTransaction,
    limits::{
        MEMPOOL_AGE_MS_MAX, MEMPOOL_BYTES_MAX, MEMPOOL_PER_ACCOUNT_MAX, MEMPOOL_PER_PEER_MAX,
        MEMPOOL_TICK_MS_MAX, MEMPOOL_TRANSACTIONS_MAX, REPLACEMENT_PERCENT_MIN,
    },
};

/// Why a transaction does not wait here.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejected {
    /// It could not be in the next block, nor after those that wait before it.
    #[error(transparent)]
    Inapplicable(#[from] Inapplicable),
    /// The account's waiting transactions would cost more than it has.
    #[error(
        "the fees of all its waiting transactions are up to {fees} atoms, the account has {balance}"
    )]
    Balance {
        /// What the account has.
        balance: u64,
        /// What all would cost.
        fees: u64,
    },
    /// There are as many as may wait, and none cheaper.
    #[error("too many transactions wait; offer a higher tip")]
    Full,
    /// It waits already.
    #[error("the transaction waits already")]
    Known,
    /// This peer has sent as many as it may.
    #[error("too many transactions of this peer wait")]
    PeerFull,
    /// Another with this nonce waits, and this one does not pay enough more.
    #[error("to replace a waiting transaction, offer a tenth more in tip and highest fee")]
    Underpriced,
}

impl Rejected {
    /// Whether an honest peer may well have sent it: it may just know less, or more.
    #[must_use]
    pub const fn is_innocent(&self) -> bool {
        !matches!(
            self,
            Self::Inapplicable(
                Inapplicable::GasLimit { .. }
                    | Inapplicable::Network
                    | Inapplicable::Overflow
                    | Inapplicable::TooLarge
            )
        )
    }
}

#[derive(Debug)]
struct Waiting {
    transaction: VerifiedTransaction,
    /// Who sent it; none where it was given to this node.
    peer: Option<PublicKey>,
    /// The pool's age when it came.
    since_ms: u64,
    number: u64,
    /// Most it can cost.
    fee: u64,
}

#[derive(Debug, Default)]
struct Queue {
    next: u64,
    balance: u64,
    waiting: BTreeMap<u64, Waiting>,
}

/// The transactions that wait.
#[derive(Debug, Default)]
pub struct Mempool {
    queues: BTreeMap<Address, Queue>,
    ids: BTreeMap<Hash, (Address, u64)>,
    /// By tip, the cheapest first; of equals the last to come.
    prices: BTreeSet<(Atoms, std::cmp::Reverse<u64>, Address)>,
    peers: BTreeMap<PublicKey, usize>,
    bytes: usize,
    arrivals: u64,
    age: Age,
}

/// How long a pool has been there, by a clock that may be set: what waits is promised, and must not
/// expire because somebody corrected the time by years.
#[derive(Clone, Copy, Debug, Default)]
struct Age {
    ms: u64,
    seen: Option<Timestamp>,
}

impl Age {
    fn at(&self, now: Timestamp) -> u64 {
        let passed = self.seen.map_or(0, |seen| now.since_ms(seen));
        self.ms.saturating_add(passed.min(MEMPOOL_TICK_MS_MAX))
    }

    fn tick(&mut self, now: Timestamp) -> u64 {
        *self = Self { ms: self.at(now), seen: Some(now) };
        self.ms
    }
}

impl Mempool {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// One that waits, by its name.
    #[must_use]
    pub fn find(&self, id: &Hash) -> Option<&VerifiedTransaction> {
        let (owner, nonce) = self.ids.get(id)?;
        self.queues.get(owner)?.waiting.get(nonce).map(|waiting| &waiting.transaction)
    }

    /// The nonce for the next transaction of an account, after those that wait.
    #[must_use]
    pub fn next_nonce(&self, owner: &Address, account: &Account) -> u64 {
        let waiting = self.queues.get(owner).map(|queue| &queue.waiting);
        let is_taken = |nonce: &u64| waiting.is_some_and(|waiting| waiting.contains_key(nonce));
        let mut nonce = account.nonce;
        while is_taken(&nonce) {
            nonce = nonce.saturating_add(1);
        }
        nonce
    }

    /// Lets a transaction wait, by the state after the last block. What it replaces, and what must
    /// make room for it, is gone.
    pub fn insert(
        &mut self,
        view: &impl StateView,
        transaction: VerifiedTransaction,
        peer: Option<PublicKey>,
        now: Timestamp,
    ) -> Result<(), Rejected> {
        if self.ids.contains_key(&transaction.id()) {
            return Err(Rejected::Known);
        }
        let fee = Self::check(view, &transaction)?;
        let (owner, nonce) = (transaction.signer(), transaction.body().nonce);
        let account: Account = crate::read(view, &Key::Account(owner)).unwrap_or_default();
        let queue = self.queues.get(&owner);
        let others = queue.map_or(0, |queue| queue.fees_without(nonce));
        let fees = fee.saturating_add(others);
        if fees > account.balance.0 {
            return Err(Rejected::Balance { balance: account.balance.0, fees });
        }
        let ahead = nonce.checked_sub(account.nonce).map(usize::try_from);
        if !matches!(ahead, Some(Ok(ahead)) if ahead < MEMPOOL_PER_ACCOUNT_MAX) {
            let (expected, found) = (account.nonce, nonce);
            return Err(Inapplicable::Nonce { expected, found }.into());
        }
        let old = queue.and_then(|queue| queue.waiting.get(&nonce));
        let is_more = |old: Atoms, new: Atoms| {
            let least = u128::from(old.0).saturating_mul(REPLACEMENT_PERCENT_MIN.into());
            u128::from(new.0).saturating_mul(100) >= least
        };
        if let Some(old) = old {
            let (old, new) = (old.transaction.body(), transaction.body());
            if !is_more(old.tip, new.tip)
                || !is_more(old.fee_max, new.fee_max)
                || (old.tip, old.fee_max) >= (new.tip, new.fee_max)
            {
                return Err(Rejected::Underpriced);
            }
        } else if peer.is_some_and(|peer| self.of_peer(&peer) >= MEMPOOL_PER_PEER_MAX) {
            return Err(Rejected::PeerFull);
        }
        match old.map(|old| old.transaction.encoded_bytes()) {
            Some(before) => {
                // It may grow into what is free, but nobody else makes room for that.
                let others = self.bytes.saturating_sub(before);
                if others.saturating_add(transaction.encoded_bytes()) > MEMPOOL_BYTES_MAX {
                    return Err(Rejected::Full);
                }
                self.remove(&owner, nonce);
            }
            None => self.make_room(&owner, &transaction)?,
        }
        let since_ms = self.age.tick(now);
        self.put(transaction, peer, since_ms, (fee, account));
        Ok(())
    }

    /// What can be said of a transaction whatever waits: the most it can cost.
    fn check(
        view: &impl StateView,
        transaction: &VerifiedTransaction,
    ) -> Result<u64, Inapplicable> {
        let network = crate::read(view, &Key::Network).expect("a state has its genesis");
        let meta: Meta = crate::read(view, &Key::Meta).expect("a state has its genesis");
        let charge = transaction.charge(&network, meta.base_fee)?;
        charge.gas.checked_mul(transaction.body().fee_max.0).ok_or(Inapplicable::Overflow)
    }

    fn of_peer(&self, peer: &PublicKey) -> usize {
        self.peers.get(peer).copied().unwrap_or_default()
    }

    /// Removes the last transaction of whoever waits with the lowest tip, where this one's is
    /// higher, until there is room.
    fn make_room(
        &mut self,
        owner: &Address,
        transaction: &VerifiedTransaction,
    ) -> Result<(), Rejected> {
        let bytes = transaction.encoded_bytes();
        while self.len() >= MEMPOOL_TRANSACTIONS_MAX
            || self.bytes.saturating_add(bytes) > MEMPOOL_BYTES_MAX
        {
            let (tip, _, cheapest) = *self.prices.first().ok_or(Rejected::Full)?;
            if tip >= transaction.body().tip || cheapest == *owner {
                return Err(Rejected::Full);
            }
            let last = self.queues.get(&cheapest).and_then(|queue| queue.waiting.last_key_value());
            let nonce = last.map(|(nonce, _)| *nonce).expect("who has a price waits");
            self.remove(&cheapest, nonce);
        }
        Ok(())
    }

    fn put(
        &mut self,
        transaction: VerifiedTransaction,
        peer: Option<PublicKey>,
        since_ms: u64,
        (fee, account): (u64, Account),
    ) {
        let (owner, nonce) = (transaction.signer(), transaction.body().nonce);
        let number = self.arrivals;
        self.arrivals = number.saturating_add(1);
        self.ids.insert(transaction.id(), (owner, nonce));
        self.prices.insert((transaction.body().tip, std::cmp::Reverse(number), owner));
        self.bytes = self.bytes.saturating_add(transaction.encoded_bytes());
        if let Some(peer) = peer {
            let count = self.peers.entry(peer).or_default();
            *count = count.saturating_add(1);
        }
        let queue = self.queues.entry(owner).or_default();
        (queue.next, queue.balance) = (account.nonce, account.balance.0);
        queue.waiting.insert(nonce, Waiting { transaction, peer, since_ms, number, fee });
    }

    fn remove(&mut self, owner: &Address, nonce: u64) {
        let Some(queue) = self.queues.get_mut(owner) else { return };
        let Some(gone) = queue.waiting.remove(&nonce) else { return };
        if queue.waiting.is_empty() {
            self.queues.remove(owner);
        }
        self.ids.remove(&gone.transaction.id());
        let tip = gone.transaction.body().tip;
        self.prices.remove(&(tip, std::cmp::Reverse(gone.number), *owner));
        self.bytes = self.bytes.saturating_sub(gone.transaction.encoded_bytes());
        if let Some(peer) = gone.peer {
            let count = self.peers.entry(peer).or_default();
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.peers.remove(&peer);
            }
        }
    }

    /// A block was committed: what it did, and what cannot be done after it, waits no longer.
    pub fn committed<'a>(
        &mut self,
        view: &impl StateView,
        transactions: impl IntoIterator<Item = &'a VerifiedTransaction>,
    ) {
        let owners: BTreeSet<Address> =
            transactions.into_iter().map(VerifiedTransaction::signer).collect();
        for owner in owners {
            let account: Account = crate::read(view, &Key::Account(owner)).unwrap_or_default();
            let Some(queue) = self.queues.get_mut(&owner) else { continue };
            (queue.next, queue.balance) = (account.nonce, account.balance.0);
            let mut left = account.balance.0;
            let mut gone = Vec::new();
            for (nonce, waiting) in &queue.waiting {
                match left.checked_sub(waiting.fee) {
                    Some(rest) if *nonce >= account.nonce => left = rest,
                    _ => gone.push(*nonce),
                }
            }
            gone.into_iter().for_each(|nonce| self.remove(&owner, nonce));
        }
    }

    /// Whoever has waited too long for its turn waits no longer, nor what comes after it. To be
    /// called every few seconds: by more than [`MEMPOOL_TICK_MS_MAX`] nothing ages in between.
    pub fn expire(&mut self, now: Timestamp) {
        let age = self.age.tick(now);
        let is_old = |queue: &Queue| {
            let first = queue.waiting.first_key_value();
            first.is_some_and(|(_, first)| age.saturating_sub(first.since_ms) > MEMPOOL_AGE_MS_MAX)
        };
        let old = self.queues.iter().filter(|(_, queue)| is_old(queue));
        let old: Vec<(Address, Vec<u64>)> =
            old.map(|(owner, queue)| (*owner, queue.waiting.keys().copied().collect())).collect();
        for (owner, nonces) in old {
            nonces.into_iter().for_each(|nonce| self.remove(&owner, nonce));
        }
    }

    /// Those that have waited for so long.
    pub fn waiting_for(
        &self,
        now: Timestamp,
        ms: u64,
    ) -> impl Iterator<Item = &VerifiedTransaction> {
        let age = self.age.at(now);
        let all = self.queues.values().flat_map(|queue| queue.waiting.values());
        let long = all.filter(move |waiting| age.saturating_sub(waiting.since_ms) >= ms);
        long.map(|waiting| &waiting.transaction)
    }

    /// What may go into the next block, the highest tip first, each account's in order.
    #[must_use]
    pub fn best(&self, base_fee: Atoms) -> Best<'_> {
        let mut best = Best { pool: self, base_fee, heads: BinaryHeap::new() };
        for (owner, queue) in &self.queues {
            best.push(*owner, queue.next);
        }
        best
    }
}

impl Queue {
    /// What all but one of these can cost.
    fn fees_without(&self, nonce: u64) -> u64 {
        let others = self.waiting.iter().filter(|(other, _)| **other != nonce);
        others.fold(0, |sum, (_, waiting)| sum.saturating_add(waiting.fee))
    }
}

/// Waiting transactions in the order in which a block takes them.
#[derive(Debug)]
pub struct Best<'a> {
    pool: &'a Mempool,
    base_fee: Atoms,
    heads: BinaryHeap<Head>,
}

/// The next of an account.
#[derive(Debug, Eq, PartialEq)]
struct Head {
    tip: u64,
    number: std::cmp::Reverse<u64>,
    owner: Address,
    nonce: u64,
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.tip, self.number).cmp(&(other.tip, other.number))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Best<'_> {
    fn push(&mut self, owner: Address, nonce: u64) {
        let queue = self.pool.queues.get(&owner);
        let Some(waiting) = queue.and_then(|queue| queue.waiting.get(&nonce)) else { return };
        let body = waiting.transaction.body();
        // What does not pay the base fee now blocks those behind it.
        let Some(above) = body.fee_max.checked_sub(self.base_fee) else { return };
        let tip = above.min(body.tip).0;
        let number = std::cmp::Reverse(waiting.number);
        self.heads.push(Head { tip, number, owner, nonce });
    }
}

impl Iterator for Best<'_> {
    type Item = VerifiedTransaction;

    fn next(&mut self) -> Option<VerifiedTransaction> {
        let Head { owner, nonce, .. } = self.heads.pop()?;
        self.push(owner, nonce.saturating_add(1));
        let queue = self.pool.queues.get(&owner)?;
        queue.waiting.get(&nonce).map(|waiting| waiting.transaction.clone())
    }
}
