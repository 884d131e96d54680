use borsh::{BorshDeserialize, BorshSerialize};

use crate::{
    Atoms, Delegation, Domain, InferRequest, KeyPair, NetworkId, PublicKey, Signature, Timestamp,
};

/// Random, and another for each request: without it nobody who sees what the session signed can tell
/// whether he guesses what was asked. It goes to the peer that is asked, and to nobody else.
#[derive(BorshDeserialize, BorshSerialize, Clone, Copy, Debug, Eq, PartialEq)]
pub struct Salt(pub [u8; 32]);

/// What the session signs. Others than the peer that is asked may see it. See `spec/wire.md`, Request.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct RequestBody {
    /// The network this is for.
    pub network: NetworkId,
    /// The one peer that may act on this.
    pub audience: PublicKey,
    /// Rises by one with every request of the session, beginning at the microseconds since the
    /// epoch.
    pub nonce: u64,
    /// When it was signed.
    pub sent_at: Timestamp,
    /// The most this request may cost.
    pub cost_max: Atoms,
    /// BLAKE3 of the delegation it travels with.
    pub delegation_digest: [u8; 32],
    /// What is asked, under a salt that is not here ([`InferRequest::digest`]).
    pub infer_digest: [u8; 32],
}

/// The first and only frame a requester sends on a stream.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, PartialEq)]
pub struct Request {
    /// What is signed.
    pub body: RequestBody,
    /// The session's signature in [`Domain::REQUEST`].
    pub signature: Signature,
    /// The session's right to act.
    pub delegation: Delegation,
    /// What `infer_digest` was made with.
    pub salt: Salt,
    /// What is asked.
    pub infer: InferRequest,
}

impl Request {
    /// Builds and signs a request.
    ///
    /// # Panics
    /// When `session` is not the session that `delegation` names.
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "all that a request is made of")]
    pub fn sign(
        session: &KeyPair,
        delegation: &Delegation,
        audience: PublicKey,
        nonce: u64,
        sent_at: Timestamp,
        cost_max: Atoms,
        salt: Salt,
        infer: InferRequest,
    ) -> Self {
        assert_eq!(
            delegation.body.session,
            session.public(),
            "the session named is the one that signs"
        );
        let body = RequestBody {
            network: delegation.body.network.clone(),
            audience,
            nonce,
            sent_at,
            cost_max,
            delegation_digest: delegation.digest(),
            infer_digest: infer.digest(&salt),
        };
        let signature = session.sign(Domain::REQUEST, &body);
        Self { body, signature, delegation: delegation.clone(), salt, infer }
    }

    /// Whether the session signed this, for this delegation and this content. Says nothing about
    /// the delegation's own signature.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        self.body.delegation_digest == self.delegation.digest()
            && self.body.infer_digest == self.infer.digest(&self.salt)
            && self.delegation.body.session.verifies(Domain::REQUEST, &self.body, &self.signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DelegationBody, Input, ModelName};

    #[test]
    fn the_signature_covers_body_delegation_and_content() {
        let wallet = KeyPair::from_seed(&[1; 32]);
        let session = KeyPair::from_seed(&[2; 32]);
        let delegation = Delegation::sign(
            DelegationBody {
                network: NetworkId::new("test").unwrap(),
                wallet: wallet.public(),
                session: session.public(),
                spending_cap: Atoms(5),
                issued_at: Timestamp(0),
                expires_at: Timestamp(10),
                peer_scope: None,
                model_scope: None,
            },
            &wallet,
        );
        let model = ModelName::new("m").unwrap();
        let infer = InferRequest::new(model, Input::Text("hi".into()));
        let sign = |salt| {
            let (peer, infer) = (wallet.public(), infer.clone());
            Request::sign(&session, &delegation, peer, 1, Timestamp(1), Atoms(1), salt, infer)
        };
        let good = sign(Salt([7; 32]));
        assert!(good.is_signed());
        let other = sign(Salt([8; 32]));
        assert!(other.is_signed() && other.body.infer_digest != good.body.infer_digest);
        let changes: [fn(&mut Request); 9] = [
            |r| r.body.network = NetworkId::new("other").unwrap(),
            |r| r.body.audience = r.delegation.body.session,
            |r| r.body.nonce += 1,
            |r| r.body.sent_at = Timestamp(2),
            |r| r.body.cost_max = Atoms(2),
            |r| r.delegation.body.spending_cap = Atoms(6),
            |r| r.salt.0[31] ^= 1,
            |r| r.infer.input = Input::Text("ho".into()),
            |r| r.signature.0[0] ^= 1,
        ];
        for change in changes {
            let mut bad = good.clone();
            change(&mut bad);
            assert!(!bad.is_signed());
        }
    }
}
