use borsh::{BorshDeserialize, BorshSerialize};

use crate::{
    Atoms, Domain, KeyPair, ModelName, NetworkId, PublicKey, Signature, Timestamp,
    limits::{CLOCK_SKEW_MS_MAX, DELEGATION_LIFETIME_MS_MAX},
};

/// What a wallet lets a session do. See `spec/wire.md`, Delegation.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct DelegationBody {
    /// The network this counts on.
    pub network: NetworkId,
    /// The wallet that pays and signs.
    pub wallet: PublicKey,
    /// The session that may act.
    pub session: PublicKey,
    /// All the session may spend in its life.
    pub spending_cap: Atoms,
    /// When it was signed.
    pub issued_at: Timestamp,
    /// When it stops counting.
    pub expires_at: Timestamp,
    /// The only peer it counts at, if any.
    pub peer_scope: Option<PublicKey>,
    /// The only model it counts for, if any.
    pub model_scope: Option<ModelName>,
}

/// A delegation with the wallet's signature.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct Delegation {
    /// What is delegated.
    pub body: DelegationBody,
    /// The wallet's signature in [`Domain::DELEGATION`].
    pub signature: Signature,
}

/// Why a delegation does not count.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DelegationError {
    /// Its time is over.
    #[error("the session has expired")]
    Expired,
    /// Its time has not come, beyond what clocks may differ.
    #[error("the session begins in the future; check the clocks")]
    FutureDated,
    /// It would live longer than any session may, or end before it begins.
    #[error("a session may live for 30 days at most")]
    Lifetime,
    /// The wallet did not sign this.
    #[error("the wallet's signature does not match")]
    Signature,
}

impl Delegation {
    /// Signs `body` with the wallet it names.
    ///
    /// # Panics
    /// When `wallet` is not the wallet that `body` names.
    #[must_use]
    pub fn sign(body: DelegationBody, wallet: &KeyPair) -> Self {
        assert_eq!(body.wallet, wallet.public(), "the wallet named is the one that signs");
        let signature = wallet.sign(Domain::DELEGATION, &body);
        Self { body, signature }
    }

    /// Whether this counts at `now`, its signature aside.
    pub fn check_times(&self, now: Timestamp) -> Result<(), DelegationError> {
        let DelegationBody { issued_at, expires_at, .. } = self.body;
        if expires_at <= issued_at || expires_at.since_ms(issued_at) > DELEGATION_LIFETIME_MS_MAX {
            return Err(DelegationError::Lifetime);
        }
        if now >= expires_at {
            return Err(DelegationError::Expired);
        }
        if issued_at.since_ms(now) > CLOCK_SKEW_MS_MAX {
            return Err(DelegationError::FutureDated);
        }
        Ok(())
    }

    /// Whether the wallet signed this.
    pub fn check_signature(&self) -> Result<(), DelegationError> {
        if self.body.wallet.verifies(Domain::DELEGATION, &self.body, &self.signature) {
            Ok(())
        } else {
            Err(DelegationError::Signature)
        }
    }

    /// The BLAKE3 hash of the canonical bytes, by which requests refer to this.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        *blake3::hash(&crate::encode(self)).as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delegation(issued: u64, expires: u64) -> Delegation {
        let wallet = KeyPair::from_seed(&[1; 32]);
        Delegation::sign(
            DelegationBody {
                network: NetworkId::new("test").unwrap(),
                wallet: wallet.public(),
                session: KeyPair::from_seed(&[2; 32]).public(),
                spending_cap: Atoms(5),
                issued_at: Timestamp(issued),
                expires_at: Timestamp(expires),
                peer_scope: None,
                model_scope: None,
            },
            &wallet,
        )
    }

    #[test]
    fn a_delegation_counts_within_its_time() {
        let d = delegation(100_000, 200_000);
        assert_eq!(d.check_times(Timestamp(150_000)), Ok(()));
        assert_eq!(d.check_times(Timestamp(199_999)), Ok(()));
        assert_eq!(d.check_times(Timestamp(200_000)), Err(DelegationError::Expired));
        assert_eq!(d.check_times(Timestamp(100_000 - CLOCK_SKEW_MS_MAX)), Ok(()));
        assert_eq!(
            d.check_times(Timestamp(100_000 - CLOCK_SKEW_MS_MAX - 1)),
            Err(DelegationError::FutureDated)
        );
        assert_eq!(delegation(5, 5).check_times(Timestamp(5)), Err(DelegationError::Lifetime));
        let longest = delegation(0, DELEGATION_LIFETIME_MS_MAX);
        assert_eq!(longest.check_times(Timestamp(5)), Ok(()));
        let longer = delegation(0, DELEGATION_LIFETIME_MS_MAX + 1);
        assert_eq!(longer.check_times(Timestamp(5)), Err(DelegationError::Lifetime));
    }

    #[test]
    fn every_field_is_under_the_signature() {
        let good = delegation(1, 2);
        assert_eq!(good.check_signature(), Ok(()));
        let changes: [fn(&mut DelegationBody); 8] = [
            |b| b.network = NetworkId::new("other").unwrap(),
            |b| b.wallet = b.session,
            |b| b.session = b.wallet,
            |b| b.spending_cap = Atoms(6),
            |b| b.issued_at = Timestamp(0),
            |b| b.expires_at = Timestamp(3),
            |b| b.peer_scope = Some(b.wallet),
            |b| b.model_scope = Some(ModelName::new("m").unwrap()),
        ];
        for change in changes {
            let mut bad = good.clone();
            change(&mut bad.body);
            assert_eq!(bad.check_signature(), Err(DelegationError::Signature), "{bad:?}");
        }
    }
}
