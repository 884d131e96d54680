//! What is remembered of one session: the newest nonces, and money.

use arknet_types::{
    Atoms, PublicKey, Refusal, RefusalCode, Request, Timestamp, limits::NONCE_WINDOW,
};

use super::refuse;

const WINDOW_WORDS: usize = (NONCE_WINDOW / 64) as usize;

/// What is remembered of one session: the newest nonces, and money.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) peer: PublicKey,
    newest: u64,
    /// Which of the nonces `newest - NONCE_WINDOW + 1 ..= newest` were seen, as a ring of bits.
    seen: Box<[u64; WINDOW_WORDS]>,
    /// No request signed before this was forgotten: the session may go when none signed up to its
    /// last request could still be fresh.
    pub(super) last_sent_at: Timestamp,
    pub(super) expires_at: Timestamp,
    pub(super) spent: Atoms,
    pub(super) reserved: Atoms,
    pub(super) running: u32,
}

impl Session {
    pub(super) fn new(peer: PublicKey, last_sent_at: Timestamp, expires_at: Timestamp) -> Self {
        Self {
            peer,
            newest: 0,
            seen: Box::new([0; WINDOW_WORDS]),
            last_sent_at,
            expires_at,
            spent: Atoms::ZERO,
            reserved: Atoms::ZERO,
            running: 0,
        }
    }

    /// One more request of it begins, which may cost so much; or it may not, and nothing changes.
    pub(super) fn begin(&mut self, request: &Request, reserved: Atoms) -> Result<(), Refusal> {
        let delegation = &request.delegation.body;
        let committed = self.spent.checked_add(self.reserved);
        let total = committed.and_then(|c| c.checked_add(reserved));
        if total.is_none_or(|total| total > delegation.spending_cap) {
            let words = "the session may not spend that much more";
            return Err(refuse(RefusalCode::CapExceeded, words));
        }
        if !self.take_nonce(request.body.nonce) {
            return Err(refuse(RefusalCode::Replayed, "this request was seen before"));
        }
        self.last_sent_at = self.last_sent_at.max(request.body.sent_at);
        // A wallet may sign several delegations for one session: the money counts until the last ends.
        self.expires_at = self.expires_at.max(delegation.expires_at);
        self.reserved = self.reserved.checked_add(reserved).expect("below the cap");
        self.running += 1;
        Ok(())
    }

    /// Marks a nonce as seen. False when it was, or lies too far back to tell.
    pub(super) fn take_nonce(&mut self, nonce: u64) -> bool {
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
