use crate::rng::Rng;

/// What goes wrong in one run, and how often. Each seed switches some kinds of fault off entirely
/// and others up: a run with every fault at once rarely reaches deep states.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    /// Packets lost, of a thousand.
    pub(crate) drop: u64,
    /// Requests and offers that arrive twice, of a thousand.
    pub(crate) duplicate: u64,
    /// Longest ordinary delay of a packet.
    pub(crate) delay_ms: u64,
    /// Packets delayed by seconds, of a thousand; so they overtake each other.
    pub(crate) straggle: u64,
    /// Longest delay of such a packet.
    pub(crate) straggle_ms: u64,
    /// Partitions during the run.
    pub(crate) partitions: u64,
    /// Crashes during the run.
    pub(crate) crashes: u64,
    /// Providers that fail in the middle, of a thousand.
    pub(crate) provider_fails: u64,
    /// How far clocks are off when the run begins.
    pub(crate) skew_ms: i64,
    /// Clocks set to something else during the run.
    pub(crate) clock_jumps: u64,
    /// Deeds of hostile nodes during the run.
    pub(crate) attacks: u64,
    /// Which kinds of deed, as bits of the deeds an attacker knows.
    pub(crate) deeds: u64,
    /// Signature checks that take long, of a thousand.
    pub(crate) slow_checks: u64,
    /// One flood of sessions and offers that fills the tables; costly, so few seeds have it.
    pub(crate) flood: bool,
}

impl Faults {
    pub(crate) fn draw(rng: &mut Rng, seed: u64) -> Self {
        let mut maybe = |permille, low, high| {
            if rng.chance(permille) { rng.between(low, high) } else { 0 }
        };
        Self {
            drop: maybe(500, 5, 150),
            duplicate: maybe(500, 20, 300),
            delay_ms: 2 + maybe(600, 10, 400),
            straggle: maybe(400, 10, 200),
            straggle_ms: 1_000 + maybe(700, 1_000, 30_000),
            partitions: maybe(500, 1, 6),
            crashes: maybe(600, 1, 6),
            provider_fails: maybe(300, 10, 200),
            skew_ms: match maybe(1000, 0, 2) {
                0 => 0,
                1 => 14_000,
                _ => 60_000,
            },
            clock_jumps: maybe(300, 1, 4),
            attacks: maybe(850, 4, 24),
            deeds: maybe(800, 1, u64::from(u32::MAX)),
            slow_checks: maybe(500, 50, 500),
            flood: seed % 128 == 77,
        }
    }

    /// A world in which nothing goes wrong.
    pub(crate) fn heal(&mut self) {
        self.drop = 0;
        self.duplicate = 0;
        self.delay_ms = 20;
        self.straggle = 0;
        self.provider_fails = 0;
        self.slow_checks = 0;
    }
}
