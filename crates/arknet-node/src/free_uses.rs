//! Free jobs between nodes: what was served here is told, what others served is heard. What wallets
//! took is kept on disk, so that a restart gives nobody a second hour.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use arknet_chain::FreeQuota;
use arknet_mesh::{Chain, Judgement, Topic};
use arknet_types::{Address, FreeUse, FreeUseError, PublicKey};
use tokio_util::sync::CancellationToken;

use crate::{data::DataError, gate::Gate, kept};

/// Tells those that follow the ledger of a free job that was begun here.
pub(crate) fn tell(chain: &Chain, free_use: &FreeUse) {
    chain.gossip(Topic::FreeUses, arknet_types::encode(free_use));
}

/// What becomes of a free job that a peer tells of: it counts once, and who is told of it by this
/// node is told of nothing that does not count.
pub(crate) fn judge(gate: &Gate, from: &PublicKey, bytes: &[u8]) -> Judgement {
    let now = arknet_sdk::now();
    if !gate.may_hear(from, now) {
        return Judgement::Ignore;
    }
    let Ok(free_use) = arknet_types::decode::<FreeUse>(bytes) else { return Judgement::Reject };
    match free_use.check(&gate.policy().network, now) {
        Ok(()) if gate.hear(&free_use, now) => Judgement::Accept,
        // It may have come by another way, or two honest clocks disagree.
        Ok(()) | Err(FreeUseError::Expired | FreeUseError::FutureDated) => Judgement::Ignore,
        Err(error) => {
            tracing::debug!(peer = %from, %error, "a free job that is none");
            Judgement::Reject
        }
    }
}

type File = BTreeMap<Address, FreeQuota>;

/// Tells the gate what was taken before.
pub(crate) fn load(path: &Path, gate: &Gate) -> Result<(), DataError> {
    for (wallet, quota) in kept::load::<File>(path)? {
        gate.resume_free_quota(wallet, quota);
    }
    Ok(())
}

/// Stores what was taken, now and then and at the end.
pub(crate) async fn keep(path: PathBuf, gate: Gate, stop: CancellationToken) {
    kept::keep(path, || gate.free_quotas(), stop).await;
}

#[cfg(test)]
mod tests {
    use arknet_protocol::{Policy, Who};
    use arknet_types::{
        Atoms, Delegation, DelegationBody, InferRequest, Input, KeyPair, ModelName, NetworkId,
        Request, Salt, Timestamp, encode,
        limits::{CLOCK_SKEW_MS_MAX, FREE_USE_AGE_MS_MAX},
    };

    use super::*;

    fn key(seed: u8) -> KeyPair {
        KeyPair::from_seed(&[seed; 32])
    }

    fn gate() -> Gate {
        let gate = Gate::new(Policy {
            network: NetworkId::new("test").unwrap(),
            me: key(8).public(),
            started_at: Timestamp(0),
            who: Who::Anyone { files: false },
            requests_per_peer_max: 4,
        });
        gate.set_bootstrap(true);
        gate
    }

    fn used(network: &str, nonce: u64, sent_at: Timestamp) -> FreeUse {
        let (wallet, session) = (key(1), key(2));
        let body = DelegationBody {
            network: NetworkId::new(network).unwrap(),
            wallet: wallet.public(),
            session: session.public(),
            spending_cap: Atoms::ZERO,
            issued_at: Timestamp(sent_at.0 - 1_000),
            expires_at: sent_at.plus_ms(1_000),
            peer_scope: None,
            model_scope: None,
        };
        let delegation = Delegation::sign(body, &wallet);
        let infer = InferRequest::new(ModelName::new("m").unwrap(), Input::Text("hi".into()));
        let server = key(9).public();
        let (cost, salt) = (Atoms(0), Salt([7; 32]));
        let request =
            Request::sign(&session, &delegation, server, nonce, sent_at, cost, salt, infer);
        FreeUse::of(&request)
    }

    #[test]
    fn what_counts_is_passed_on_once_and_what_is_forged_costs_its_forwarder() {
        let (gate, from, now) = (gate(), key(3).public(), arknet_sdk::now());
        let judge = |free_use: &FreeUse| judge(&gate, &from, &encode(free_use));
        assert_eq!(judge(&used("test", 1, now)), Judgement::Accept);
        assert_eq!(judge(&used("test", 1, now)), Judgement::Ignore, "replayed");
        assert_eq!(judge(&used("other", 2, now)), Judgement::Reject);
        let mut forged = used("test", 3, now);
        forged.body.nonce = 4;
        assert_eq!(judge(&forged), Judgement::Reject);
        let stale = used("test", 5, Timestamp(now.0 - FREE_USE_AGE_MS_MAX - 1));
        assert_eq!(judge(&stale), Judgement::Ignore);
        // Twice as far ahead as clocks may differ: the test takes its time.
        let future = used("test", 6, now.plus_ms(2 * CLOCK_SKEW_MS_MAX));
        assert_eq!(judge(&future), Judgement::Ignore);
        assert_eq!(super::judge(&gate, &from, b"nothing"), Judgement::Reject);
        let counted: Vec<_> =
            gate.free_quotas().into_values().map(|quota| quota.left(now)).collect();
        assert_eq!(counted, [9]);
    }

    #[test]
    fn without_a_bootstrap_period_nothing_is_heard() {
        let (gate, from) = (gate(), key(3).public());
        gate.set_bootstrap(false);
        let bytes = encode(&used("test", 1, arknet_sdk::now()));
        assert_eq!(judge(&gate, &from, &bytes), Judgement::Ignore);
        assert!(gate.free_quotas().is_empty());
    }

    #[tokio::test]
    async fn what_was_taken_is_there_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("free-quota.json");
        let (before, now) = (gate(), arknet_sdk::now());
        load(&path, &before).unwrap();
        for nonce in 0..3 {
            assert!(before.hear(&used("test", nonce, now), now));
        }
        let stop = CancellationToken::new();
        stop.cancel();
        keep(path.clone(), before.clone(), stop).await;
        let after = gate();
        load(&path, &after).unwrap();
        assert_eq!(after.free_quotas(), before.free_quotas());
        assert_eq!(after.free_quotas().len(), 1);
        std::fs::write(&path, "soon").unwrap();
        assert!(load(&path, &after).is_err());
    }
}
