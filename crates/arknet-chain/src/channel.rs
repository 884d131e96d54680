//! Payment channels: what a voucher is, and when it counts. The ledger decides by these rules when
//! it settles, and whoever is paid decides by the same rules before it works on.

use arknet_types::{
    Address, Atoms, Delegation, DelegationError, Domain, KeyPair, ModelName, NetworkId, PublicKey,
    Signature, Timestamp,
};
use borsh::{BorshDeserialize, BorshSerialize};

use crate::{Hash, limits::VOUCHER_GRACE_MS};

/// Money that one account has locked for another.
#[derive(BorshDeserialize, BorshSerialize, Clone, Copy, Debug, Eq, PartialEq)]
pub struct Channel {
    /// Whose money it is.
    pub payer: Address,
    /// Who is paid.
    pub payee: Address,
    /// The peer that works for the payee, for sessions that may pay one peer only.
    pub payee_peer: Option<PublicKey>,
    /// All that was ever locked.
    pub deposit: Atoms,
    /// What of it has been paid.
    pub settled: Atoms,
    /// Time in which the payee may answer when the payer closes alone.
    pub challenge_ms: u64,
    /// When the payer may take the rest, once it is closing.
    pub closes_at: Option<Timestamp>,
}

/// "All in all I have paid this much."
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct VoucherBody {
    /// The chain.
    pub network: NetworkId,
    /// The channel, or the escrow.
    pub channel: Hash,
    /// Everything up to now, what was settled included.
    pub total: Atoms,
    /// The model that was paid for, where a session may pay for one only.
    pub model: Option<ModelName>,
}

/// By what right a voucher was signed.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub enum Authority {
    /// By the payer's wallet.
    Wallet(PublicKey),
    /// By a session that the payer's wallet delegated to.
    Session(Box<Delegation>),
}

/// A voucher and its signature in [`Domain::VOUCHER`].
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct Voucher {
    /// What is said.
    pub body: VoucherBody,
    /// By what right.
    pub authority: Authority,
    /// The wallet's signature, or the session's.
    pub signature: Signature,
}

/// What a voucher is worth.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Payment {
    /// Money above what is settled.
    pub amount: Atoms,
    /// The session that pays: its delegation's digest, what it has spent then, and when its vouchers
    /// stop counting.
    pub session: Option<([u8; 32], Atoms, Timestamp)>,
}

/// Why a voucher does not count.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum VoucherError {
    /// The session would spend more than it may.
    #[error("the session may not spend that much")]
    Cap,
    /// The session's time is over, has not come, or is too long.
    #[error("the session: {0}")]
    Delegation(#[from] DelegationError),
    /// More than is locked.
    #[error("more than is locked")]
    Overdrawn,
    /// The session may not pay this peer, or not for this model.
    #[error("the session may not pay this peer or for this model")]
    Scope,
    /// Neither the payer's wallet nor a session of its signed this, for this channel and chain.
    #[error("not signed by the payer for this channel")]
    Signature,
    /// No more than is settled already.
    #[error("no more than is settled")]
    Stale,
}

impl Voucher {
    /// Signs with the payer's wallet.
    #[must_use]
    pub fn by_wallet(body: VoucherBody, wallet: &KeyPair) -> Self {
        let signature = wallet.sign(Domain::VOUCHER, &body);
        Self { body, authority: Authority::Wallet(wallet.public()), signature }
    }

    /// Signs with a session.
    #[must_use]
    pub fn by_session(body: VoucherBody, delegation: Delegation, session: &KeyPair) -> Self {
        let signature = session.sign(Domain::VOUCHER, &body);
        Self { body, authority: Authority::Session(Box::new(delegation)), signature }
    }

    /// The session's delegation, by whose digest its spending is counted.
    #[must_use]
    pub fn session(&self) -> Option<[u8; 32]> {
        match &self.authority {
            Authority::Wallet(_) => None,
            Authority::Session(delegation) => Some(delegation.digest()),
        }
    }
}

impl Channel {
    /// Money in it.
    #[must_use]
    pub fn rest(&self) -> Atoms {
        self.deposit.checked_sub(self.settled).expect("no more is settled than was locked")
    }

    /// What `voucher` is worth at `now` in this channel, whose name is `id`. `spent` is what the
    /// voucher's session has spent up to now, by settled vouchers of all channels.
    pub fn worth(
        &self,
        network: &NetworkId,
        id: &Hash,
        voucher: &Voucher,
        spent: Atoms,
        now: Timestamp,
    ) -> Result<Payment, VoucherError> {
        let VoucherBody { total, model, .. } = &voucher.body;
        if voucher.body.network != *network || voucher.body.channel != *id {
            return Err(VoucherError::Signature);
        }
        if *total > self.deposit {
            return Err(VoucherError::Overdrawn);
        }
        let amount = total.checked_sub(self.settled).filter(|amount| *amount > Atoms::ZERO);
        let amount = amount.ok_or(VoucherError::Stale)?;
        let key = match &voucher.authority {
            Authority::Wallet(key) if key.address() == self.payer => *key,
            Authority::Session(delegation)
                if delegation.body.wallet.address() == self.payer
                    && delegation.body.network == *network =>
            {
                delegation.body.session
            }
            _ => return Err(VoucherError::Signature),
        };
        if !key.verifies(Domain::VOUCHER, &voucher.body, &voucher.signature) {
            return Err(VoucherError::Signature);
        }
        let Authority::Session(delegation) = &voucher.authority else {
            return Ok(Payment { amount, session: None });
        };
        let counts_until = self.check_session(delegation, model.as_ref(), now)?;
        let spent = spent.checked_add(amount).ok_or(VoucherError::Cap)?;
        if spent > delegation.body.spending_cap {
            return Err(VoucherError::Cap);
        }
        Ok(Payment { amount, session: Some((delegation.digest(), spent, counts_until)) })
    }

    fn check_session(
        &self,
        delegation: &Delegation,
        model: Option<&ModelName>,
        now: Timestamp,
    ) -> Result<Timestamp, VoucherError> {
        delegation.check_signature().map_err(|_| VoucherError::Signature)?;
        let until = delegation.body.expires_at.plus_ms(VOUCHER_GRACE_MS);
        match delegation.check_times(now) {
            // What was signed in time may be settled a little later.
            Err(DelegationError::Expired) if now < until => {}
            other => other?,
        }
        let body = &delegation.body;
        let is_peer_wrong = body.peer_scope.is_some() && body.peer_scope != self.payee_peer;
        let is_model_wrong = body.model_scope.is_some() && body.model_scope.as_ref() != model;
        if is_peer_wrong || is_model_wrong {
            return Err(VoucherError::Scope);
        }
        Ok(until)
    }
}

/// "We close, and this is what was paid all in all": signed by the other side of who sends it.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct CloseAgreement {
    /// The chain.
    pub network: NetworkId,
    /// The channel.
    pub channel: Hash,
    /// What the payee has in the end, what was settled included.
    pub total: Atoms,
}
