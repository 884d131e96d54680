use arknet_types::{Request, Timestamp};

/// How far ahead of a request the horizon is moved, so that it is stored once in a while and not
/// with every request. A node that crashed refuses requests for so long at most.
const STEP_MS: u64 = 2_000;

/// Up to when requests may have been signed that this node has admitted, in this life or an earlier
/// one. Nonces and spending live in memory, so after a restart nothing signed before this counts.
///
/// The time of the restart alone is no such bound: a requester whose clock is ahead signs for the
/// future, and the own clock may have been set back. So the horizon is stored.
#[derive(Clone, Copy, Debug)]
pub struct Horizon {
    stored: Timestamp,
}

impl Horizon {
    /// The horizon as it was stored last; the beginning of time when it never was.
    #[must_use]
    pub const fn new(stored: Timestamp) -> Self {
        Self { stored }
    }

    /// What a node that starts `now` takes as `Policy::started_at`.
    #[must_use]
    pub fn started_at(self, now: Timestamp) -> Timestamp {
        now.max(self.stored)
    }

    /// What must be stored, for good, before the work of this admitted request begins; none when
    /// what is stored covers it.
    pub fn cover(&mut self, request: &Request) -> Option<Timestamp> {
        let signed_at = request.body.sent_at.max(request.delegation.body.issued_at);
        if signed_at < self.stored {
            return None;
        }
        self.stored = signed_at.plus_ms(STEP_MS);
        Some(self.stored)
    }
}

#[cfg(test)]
mod tests {
    use arknet_types::{
        Atoms, Delegation, DelegationBody, InferRequest, Input, KeyPair, ModelName, NetworkId, Salt,
    };

    use super::*;

    fn request(sent_at: u64, issued_at: u64) -> Request {
        let key = KeyPair::from_seed(&[1; 32]);
        let body = DelegationBody {
            network: NetworkId::new("test").unwrap(),
            wallet: key.public(),
            session: key.public(),
            spending_cap: Atoms::ZERO,
            issued_at: Timestamp(issued_at),
            expires_at: Timestamp(100_000),
            peer_scope: None,
            model_scope: None,
        };
        let model = ModelName::new("m").unwrap();
        let infer = InferRequest::new(model, Input::Text("hi".into()));
        let delegation = Delegation::sign(body, &key);
        let sent_at = Timestamp(sent_at);
        Request::sign(
            &key,
            &delegation,
            key.public(),
            1,
            sent_at,
            Atoms::ZERO,
            Salt([7; 32]),
            infer,
        )
    }

    #[test]
    fn nothing_covered_counts_after_a_restart() {
        let mut horizon = Horizon::new(Timestamp::default());
        for (sent_at, issued_at) in [(5_000, 1_000), (5_100, 1_000), (34_000, 1_000), (9, 60_000)] {
            horizon.cover(&request(sent_at, issued_at));
            let restarted = Horizon::new(horizon.stored);
            let started_at = restarted.started_at(Timestamp(5_000));
            assert!(sent_at < started_at.0 && issued_at < started_at.0);
        }
        assert_eq!(horizon.started_at(Timestamp(90_000)), Timestamp(90_000));
    }

    #[test]
    fn it_is_stored_once_in_a_while() {
        let mut horizon = Horizon::new(Timestamp(5_000));
        assert_eq!(horizon.cover(&request(4_999, 0)), None);
        assert_eq!(horizon.cover(&request(5_000, 0)), Some(Timestamp(5_000 + STEP_MS)));
        let stored = (5_000..25_000).step_by(100).filter_map(|ms| horizon.cover(&request(ms, 0)));
        assert_eq!(stored.count(), 9);
    }
}
