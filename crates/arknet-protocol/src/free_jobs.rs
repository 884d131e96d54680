use std::collections::BTreeMap;

use arknet_chain::FreeQuota;
use arknet_types::{
    Address, FreeUse, PublicKey, Refusal, RefusalCode, Timestamp, limits::FREE_USE_AGE_MS_MAX,
};

use crate::limits::{
    FREE_USES_PER_MINUTE_MAX, FREE_USES_PER_PEER_AND_MINUTE_MAX, FREE_WALLETS_HEARD_MAX,
    FREE_WALLETS_MAX,
};

const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;

/// What wallets take of their free quota: what is served here, and what others show that they
/// served. While the bootstrap period of the ledger does not last, nothing is counted.
///
/// Nobody is forgotten before the day ends, and wallets cost nothing, so a stranger with many can fill
/// it. With what he tells he fills half: then of wallets that are not known what others served is not
/// heard, and each of them has its quota here once more. That gains him less than the wallets that he
/// did it with, and nobody is refused for it. To fill the rest, each of his wallets must have a job done
/// here; then wallets that are not known are refused until the day ends, for to make room by forgetting
/// somebody would give him more than his quota.
#[derive(Debug)]
pub(crate) struct FreeJobs {
    is_on: bool,
    /// What was signed before is not heard: whether it counted, only an earlier life knew.
    started_at: Timestamp,
    wallets: BTreeMap<Address, Wallet>,
    swept_minute: u64,
    rate: Rate,
}

/// One wallet.
#[derive(Debug, Default)]
struct Wallet {
    quota: FreeQuota,
    /// What counted and may come again, with when it was signed: no more than the quota of a day, and
    /// of all wallets no more than the rate lets pass in a few minutes.
    uses: Vec<(Timestamp, [u8; 32])>,
}

/// What peers told in the minute that runs.
#[derive(Debug, Default)]
struct Rate {
    minute: u64,
    in_all: u32,
    /// Each of them told something that is in `in_all`.
    of_peers: BTreeMap<PublicKey, u32>,
}

/// A free job that was taken and not begun.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) free_use: FreeUse,
    at: Timestamp,
}

impl FreeJobs {
    pub(crate) fn new(started_at: Timestamp) -> Self {
        Self {
            is_on: false,
            started_at,
            wallets: BTreeMap::new(),
            swept_minute: 0,
            rate: Rate::default(),
        }
    }

    pub(crate) const fn set_on(&mut self, is_on: bool) {
        self.is_on = is_on;
    }

    pub(crate) const fn is_on(&self) -> bool {
        self.is_on
    }

    /// Whether this wallet has a job left.
    pub(crate) fn check(&mut self, wallet: &Address, now: Timestamp) -> Result<(), Refusal> {
        self.sweep(now);
        let has_room = self.wallets.len() < FREE_WALLETS_MAX;
        let (words, again) = match self.wallets.get_mut(wallet) {
            Some(wallet) => match wallet.quota.check(now) {
                Ok(()) => return Ok(()),
                Err(again) => ("the wallet has had its free jobs of this hour or day", again),
            },
            None if has_room => return Ok(()),
            None => {
                let tomorrow = Timestamp((now.0 / DAY_MS).saturating_add(1).saturating_mul(DAY_MS));
                ("too many wallets have had free jobs here today", tomorrow)
            }
        };
        let refusal = Refusal::new(RefusalCode::RateLimited, words);
        Err(refusal.retry_after_ms(again.since_ms(now)))
    }

    /// Takes the job of a wallet that has one left.
    pub(crate) fn take(&mut self, free_use: FreeUse, now: Timestamp) -> Taken {
        let wallet = self.wallets.entry(free_use.wallet()).or_default();
        if wallet.is_new(&free_use) {
            wallet.quota.take(now).expect("it was checked that there is one");
            wallet.uses.push((free_use.body.sent_at, free_use.id()));
        }
        Taken { free_use, at: now }
    }

    /// The job was not begun. Who had no other gives back the place too: to ask costs nothing.
    pub(crate) fn give_back(&mut self, taken: &Taken) {
        let address = taken.free_use.wallet();
        let Some(wallet) = self.wallets.get_mut(&address) else { return };
        let id = taken.free_use.id();
        wallet.uses.retain(|(_, known)| *known != id);
        wallet.quota.give_back(taken.at);
        if wallet.quota.is_void(taken.at) {
            self.wallets.remove(&address);
        }
    }

    /// Whether what a peer tells is to be looked at: so much of it is, from one and from all.
    pub(crate) fn may_hear(&mut self, from: &PublicKey, now: Timestamp) -> bool {
        self.is_on && self.rate.allows(from, now)
    }

    /// Counts a job that another node shows to have served; it was checked that the wallet asked for
    /// it. False where it makes no difference here: then others need not hear it from here either.
    pub(crate) fn hear(&mut self, free_use: &FreeUse, now: Timestamp) -> bool {
        let sent_at = free_use.body.sent_at;
        // A clock that is ahead opens no hour before its time.
        let at = sent_at.min(now);
        if !self.is_on || sent_at < self.started_at || at.0 / DAY_MS != now.0 / DAY_MS {
            return false;
        }
        self.sweep(now);
        let address = free_use.wallet();
        if !self.wallets.contains_key(&address) && self.wallets.len() >= FREE_WALLETS_HEARD_MAX {
            return false;
        }
        let wallet = self.wallets.entry(address).or_default();
        let counts = wallet.is_new(free_use) && wallet.quota.hear(at);
        if counts {
            wallet.uses.push((sent_at, free_use.id()));
        }
        counts
    }

    /// What each wallet has taken, to be stored.
    pub(crate) fn quotas(&self, now: Timestamp) -> impl Iterator<Item = (Address, FreeQuota)> {
        let counts = move |wallet: &Wallet| !wallet.quota.is_void(now);
        let known = self.wallets.iter().filter(move |(_, wallet)| counts(wallet));
        known.map(|(address, wallet)| (*address, wallet.quota))
    }

    /// Goes on where an earlier life ended.
    pub(crate) fn resume(&mut self, wallet: Address, quota: FreeQuota) {
        if self.wallets.len() < FREE_WALLETS_MAX {
            self.wallets.insert(wallet, Wallet { quota, uses: Vec::new() });
        }
    }

    /// Forgets, once a minute, whose count says nothing any more and what cannot come again.
    fn sweep(&mut self, now: Timestamp) {
        let minute = now.0 / MINUTE_MS;
        if minute == self.swept_minute {
            return;
        }
        self.swept_minute = minute;
        self.wallets.retain(|_, wallet| {
            wallet.uses.retain(|(sent_at, _)| now.since_ms(*sent_at) <= FREE_USE_AGE_MS_MAX);
            wallet.uses.shrink_to_fit();
            !wallet.quota.is_void(now)
        });
    }
}

impl Wallet {
    /// Whether this did not count before.
    fn is_new(&self, free_use: &FreeUse) -> bool {
        let id = free_use.id();
        self.uses.iter().all(|(_, known)| *known != id)
    }
}

impl Rate {
    fn allows(&mut self, from: &PublicKey, now: Timestamp) -> bool {
        let minute = now.0 / MINUTE_MS;
        if minute != self.minute {
            *self = Self { minute, ..Self::default() };
        }
        if self.in_all >= FREE_USES_PER_MINUTE_MAX {
            return false;
        }
        let of_peer = self.of_peers.entry(*from).or_insert(0);
        if *of_peer >= FREE_USES_PER_PEER_AND_MINUTE_MAX {
            return false;
        }
        *of_peer += 1;
        self.in_all += 1;
        true
    }
}

#[cfg(test)]
mod tests;
