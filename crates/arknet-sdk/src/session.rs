//! Session keys: what an application signs requests with, so that a leak costs a bounded amount.

use std::{fmt, time::Duration};

use arknet_types::{
    Atoms, Delegation, DelegationBody, KeyPair, ModelName, NetworkId, PublicKey,
    limits::DELEGATION_LIFETIME_MS_MAX,
};

use crate::{clock, keyfile, seeds, wallet::Wallet};

/// Why a session cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The system gave no random bytes.
    #[error(transparent)]
    Key(#[from] keyfile::KeyFileError),
    /// Zero, or longer than 30 days.
    #[error("a session lives for 1 ms to {} days", DELEGATION_LIFETIME_MS_MAX / 86_400_000)]
    Lifetime,
    /// The seed file, which names the network, cannot be read.
    #[error(transparent)]
    Seeds(#[from] seeds::SeedsError),
}

/// An ephemeral key with the wallet's permission to spend up to a cap until a time.
#[derive(Clone)]
pub struct SessionKey {
    key: KeyPair,
    delegation: Delegation,
}

/// What a session may do, beyond cap and lifetime.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// The network; the one of the seed file when not set.
    pub network: Option<NetworkId>,
    /// The only peer it counts at.
    pub peer: Option<PublicKey>,
    /// The only model it counts for.
    pub model: Option<ModelName>,
}

impl SessionKey {
    /// Opens a session that may spend `spending_cap` atoms (1 ARK is 10^9 atoms) until `lifetime`
    /// is over, on the network of the seed file.
    pub fn create(
        wallet: &Wallet,
        spending_cap: u64,
        lifetime: Duration,
    ) -> Result<Self, SessionError> {
        Self::create_scoped(wallet, Atoms(spending_cap), lifetime, Scope::default())
    }

    /// Opens a session within a scope.
    pub fn create_scoped(
        wallet: &Wallet,
        spending_cap: Atoms,
        lifetime: Duration,
        scope: Scope,
    ) -> Result<Self, SessionError> {
        let lifetime_ms = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
        if lifetime_ms == 0 || lifetime_ms > DELEGATION_LIFETIME_MS_MAX {
            return Err(SessionError::Lifetime);
        }
        let network = match scope.network {
            Some(network) => network,
            None => seeds::load(None)?.chain_id,
        };
        let key = keyfile::generate()?;
        let issued_at = clock::now();
        let body = DelegationBody {
            network,
            wallet: wallet.public(),
            session: key.public(),
            spending_cap,
            issued_at,
            expires_at: issued_at.plus_ms(lifetime_ms),
            peer_scope: scope.peer,
            model_scope: scope.model,
        };
        Ok(Self { delegation: Delegation::sign(body, wallet.key()), key })
    }

    /// The wallet's signed permission.
    #[must_use]
    pub const fn delegation(&self) -> &Delegation {
        &self.delegation
    }

    /// The network it counts on.
    #[must_use]
    pub const fn network(&self) -> &NetworkId {
        &self.delegation.body.network
    }

    pub(crate) const fn key(&self) -> &KeyPair {
        &self.key
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = &self.delegation.body;
        write!(f, "SessionKey({}, up to {})", body.wallet.address(), body.spending_cap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_carries_the_wallets_signature_and_bounds() {
        let wallet = Wallet::create();
        let scope = Scope { network: Some(NetworkId::new("test").unwrap()), ..Scope::default() };
        let lifetime = Duration::from_secs(3600);
        let session =
            SessionKey::create_scoped(&wallet, Atoms(5), lifetime, scope.clone()).unwrap();
        let delegation = session.delegation();
        assert!(
            delegation.check_signature().is_ok() && delegation.check_times(clock::now()).is_ok()
        );
        assert_eq!(delegation.body.spending_cap, Atoms(5));
        for bad in [Duration::ZERO, Duration::from_secs(31 * 86_400)] {
            let session = SessionKey::create_scoped(&wallet, Atoms(5), bad, scope.clone());
            assert!(matches!(session, Err(SessionError::Lifetime)));
        }
    }
}
