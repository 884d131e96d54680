use borsh::{BorshDeserialize, BorshSerialize};

use crate::{
    Address, Delegation, Domain, NetworkId, Request, RequestBody, Signature, Timestamp,
    limits::{CLOCK_SKEW_MS_MAX, FREE_USE_AGE_MS_MAX},
};

/// Shows that a wallet asked a peer once, without what it asked. See `spec/wire.md`, Free jobs.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct FreeUse {
    /// What the session signed; of what was asked it has the digest, and not the salt.
    pub body: RequestBody,
    /// The session's signature in [`Domain::REQUEST`].
    pub signature: Signature,
    /// The session's right to act.
    pub delegation: Delegation,
}

/// Why a use does not count.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FreeUseError {
    /// The session had no right to ask this peer then.
    #[error("the session had no right to this")]
    Delegation,
    /// It is too old.
    #[error("signed too long ago")]
    Expired,
    /// It lies in the future, beyond what clocks may differ.
    #[error("signed in the future")]
    FutureDated,
    /// It is of another network.
    #[error("signed for another network")]
    Network,
    /// Not signed by the session, or the session not by the wallet.
    #[error("a signature does not match")]
    Signature,
}

impl FreeUse {
    /// The use that `request` is.
    #[must_use]
    pub fn of(request: &Request) -> Self {
        let Request { body, signature, delegation, .. } = request;
        Self { body: body.clone(), signature: *signature, delegation: delegation.clone() }
    }

    /// Whose job it was.
    #[must_use]
    pub fn wallet(&self) -> Address {
        self.delegation.body.wallet.address()
    }

    /// What tells it from all others: the BLAKE3 hash of what the session signed. Another signature
    /// over the same makes no other use.
    #[must_use]
    pub fn id(&self) -> [u8; 32] {
        *blake3::hash(&crate::encode(&self.body)).as_bytes()
    }

    /// Whether it is what it claims to be and counts at `now`. Whether it counted before is not seen
    /// here.
    pub fn check(&self, network: &NetworkId, now: Timestamp) -> Result<(), FreeUseError> {
        let Self { body, signature, delegation } = self;
        if body.network != *network || delegation.body.network != *network {
            return Err(FreeUseError::Network);
        }
        if now.since_ms(body.sent_at) > FREE_USE_AGE_MS_MAX {
            return Err(FreeUseError::Expired);
        }
        if body.sent_at.since_ms(now) > CLOCK_SKEW_MS_MAX {
            return Err(FreeUseError::FutureDated);
        }
        let is_in_scope = delegation.body.peer_scope.is_none_or(|peer| peer == body.audience);
        if !is_in_scope || delegation.check_times(body.sent_at).is_err() {
            return Err(FreeUseError::Delegation);
        }
        let is_signed = body.delegation_digest == delegation.digest()
            && delegation.body.session.verifies(Domain::REQUEST, body, signature)
            && delegation.check_signature().is_ok();
        if is_signed { Ok(()) } else { Err(FreeUseError::Signature) }
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::{
        Atoms, DelegationBody, InferRequest, Input, KeyPair, ModelName, Salt,
        limits::{FREE_USE_BYTES_MAX, MODEL_NAME_BYTES_MAX, NETWORK_ID_BYTES_MAX},
    };

    const SENT_AT: Timestamp = Timestamp(1_000_000);

    fn key(seed: u8) -> KeyPair {
        KeyPair::from_seed(&[seed; 32])
    }

    fn network() -> NetworkId {
        NetworkId::new("n".repeat(NETWORK_ID_BYTES_MAX)).unwrap()
    }

    /// The longest there is.
    fn request() -> Request {
        let (wallet, session, server) = (key(1), key(2), key(3).public());
        let model = ModelName::new("m".repeat(MODEL_NAME_BYTES_MAX)).unwrap();
        let body = DelegationBody {
            network: network(),
            wallet: wallet.public(),
            session: session.public(),
            spending_cap: Atoms(5),
            issued_at: SENT_AT,
            expires_at: SENT_AT.plus_ms(1_000),
            peer_scope: Some(server),
            model_scope: Some(model.clone()),
        };
        let delegation = Delegation::sign(body, &wallet);
        let infer = InferRequest::new(model, Input::Text("a secret".into()));
        Request::sign(&session, &delegation, server, 7, SENT_AT, Atoms(1), Salt([7; 32]), infer)
    }

    #[test]
    fn the_longest_one_fits_and_holds_nothing_of_what_was_asked() {
        let bytes = crate::encode(&FreeUse::of(&request()));
        assert_eq!(bytes.len(), FREE_USE_BYTES_MAX);
        assert!(!bytes.windows(6).any(|window| window == b"secret"));
        assert_eq!(crate::decode::<FreeUse>(&bytes).unwrap(), FreeUse::of(&request()));
    }

    #[test]
    fn who_guesses_what_was_asked_sees_nothing_that_says_so() {
        let request = request();
        let guess = crate::encode(&request.infer);
        let guess = [*blake3::hash(&guess).as_bytes(), Sha256::digest(&guess).into()];
        let shown = crate::encode(&FreeUse::of(&request));
        let has = |bytes: &[u8; 32]| shown.windows(32).any(|window| window == bytes);
        assert!(!guess.iter().any(has) && !has(&request.salt.0));
        let other = request.infer.digest(&Salt([8; 32]));
        assert!(has(&request.body.infer_digest) && !has(&other), "the digest is the salt's too");
    }

    #[test]
    fn it_counts_within_its_time_on_its_network() {
        let good = FreeUse::of(&request());
        let at = |now| good.check(&network(), now);
        assert_eq!(good.wallet(), key(1).public().address());
        assert_eq!(at(SENT_AT.plus_ms(FREE_USE_AGE_MS_MAX)), Ok(()), "its session is over by then");
        assert_eq!(at(SENT_AT.plus_ms(FREE_USE_AGE_MS_MAX + 1)), Err(FreeUseError::Expired));
        assert_eq!(at(Timestamp(SENT_AT.0 - CLOCK_SKEW_MS_MAX)), Ok(()));
        let early = Timestamp(SENT_AT.0 - CLOCK_SKEW_MS_MAX - 1);
        assert_eq!(at(early), Err(FreeUseError::FutureDated));
        let other = NetworkId::new("other").unwrap();
        assert_eq!(good.check(&other, SENT_AT), Err(FreeUseError::Network));
    }

    #[test]
    fn no_field_can_be_changed_by_whoever_has_it() {
        use FreeUseError::{Delegation, Network, Signature};
        type Change = fn(&mut FreeUse);
        let cases: [(Change, FreeUseError); 9] = [
            (|u| u.body.network = NetworkId::new("other").unwrap(), Network),
            (|u| u.delegation.body.network = NetworkId::new("other").unwrap(), Network),
            (|u| u.body.audience = key(4).public(), Delegation),
            (|u| u.body.nonce += 1, Signature),
            (|u| u.body.sent_at = u.body.sent_at.plus_ms(1), Signature),
            (|u| u.body.sent_at = u.delegation.body.expires_at, Delegation),
            (|u| u.body.infer_digest[0] ^= 1, Signature),
            (|u| u.signature.0[0] ^= 1, Signature),
            (|u| u.delegation.body.wallet = key(4).public(), Signature),
        ];
        for (n, (change, error)) in cases.into_iter().enumerate() {
            let mut bad = FreeUse::of(&request());
            change(&mut bad);
            assert_eq!(bad.check(&network(), SENT_AT), Err(error), "case {n}");
        }
        // A wallet of its own choice, and the session signs again: the wallet did not.
        let mut stolen = FreeUse::of(&request());
        stolen.delegation.body.wallet = key(4).public();
        stolen.body.delegation_digest = stolen.delegation.digest();
        stolen.signature = key(2).sign(Domain::REQUEST, &stolen.body);
        assert_eq!(stolen.check(&network(), SENT_AT), Err(Signature));
    }
}
