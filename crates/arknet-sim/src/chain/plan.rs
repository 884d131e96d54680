use arknet_consensus::Timing;

use crate::rng::Rng;

/// What a run is like.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) validators: usize,
    /// Nodes that follow without voting.
    pub(crate) followers: usize,
    /// They put in stake and become validators at this time, if it is not zero.
    pub(crate) join_at_ms: u64,
    /// How many of the validators lie.
    pub(crate) liars: usize,
    /// Not everybody is connected with everybody.
    pub(crate) is_sparse: bool,
    pub(crate) latency_ms: (u64, u64),
    pub(crate) loss_permille: u64,
    pub(crate) twice_permille: u64,
    /// How wrong clocks are.
    pub(crate) skew_ms: i64,
    pub(crate) crashes: u64,
    pub(crate) partitions: u64,
    /// When all faults but lies end.
    pub(crate) calm_from_ms: u64,
    /// Between two transactions.
    pub(crate) submit_ms: u64,
    pub(crate) timing: Timing,
}

pub(crate) const TIMING: Timing = Timing {
    propose_ms: 600,
    prevote_ms: 200,
    precommit_ms: 200,
    delta_ms: 100,
    rebroadcast_ms: 400,
    timeout_ms_max: 5_000,
    block_interval_ms: 300,
    gather_ms: 50,
    catch_up_ms: 300,
};

impl Plan {
    /// A quiet network of so many validators.
    pub(crate) fn calm(seed: u64, validators: usize) -> Self {
        Self {
            seed,
            validators,
            followers: 0,
            join_at_ms: 0,
            liars: 0,
            is_sparse: false,
            latency_ms: (1, 10),
            loss_permille: 0,
            twice_permille: 0,
            skew_ms: 0,
            crashes: 0,
            partitions: 0,
            calm_from_ms: 0,
            submit_ms: 0,
            timing: TIMING,
        }
    }

    /// What belongs to a seed.
    pub(crate) fn of(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x00c0_ffee);
        let validators = rng.index(4) + 4;
        let liars = if rng.chance(600) { (validators - 1) / 3 } else { 0 };
        let most = [20, 60, 150][rng.index(3)];
        Self {
            validators,
            followers: rng.index(3),
            join_at_ms: [0, rng.between(500, 6_000)][rng.index(2)],
            liars,
            is_sparse: rng.chance(300),
            latency_ms: (1, most),
            loss_permille: [0, 20, 100][rng.index(3)],
            twice_permille: [0, 50][rng.index(2)],
            skew_ms: [0, 300, 3_000][rng.index(3)],
            crashes: rng.between(0, 6),
            partitions: rng.between(0, 2),
            calm_from_ms: rng.between(5_000, 12_000),
            submit_ms: rng.between(50, 400),
            ..Self::calm(seed, validators)
        }
    }
}
