/// The only source of chance in a simulation: xoshiro256**, seeded through splitmix64.
#[derive(Clone, Debug)]
pub(crate) struct Rng([u64; 4]);

impl Rng {
    /// The stream of numbers that belongs to `seed`.
    #[must_use]
    pub(crate) fn new(seed: u64) -> Self {
        let mut state = seed;
        Self([0; 4].map(|_: u64| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }))
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        let s = &mut self.0;
        let out = s[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= shifted;
        s[3] = s[3].rotate_left(45);
        out
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        assert!(low <= high, "a range has a beginning before its end");
        low + self.next() % (high - low + 1)
    }

    /// A place in a list of `len`.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        assert!(len > 0, "there is something to choose from");
        usize::try_from(self.next() % len as u64).expect("below a usize")
    }

    /// True so many times in a thousand.
    pub(crate) fn chance(&mut self, permille: u64) -> bool {
        self.next() % 1000 < permille
    }

    /// A number from `-span` to `span`.
    pub(crate) fn around_zero(&mut self, span: i64) -> i64 {
        let span = span.unsigned_abs();
        self.between(0, 2 * span).cast_signed() - span.cast_signed()
    }

    /// The seed of a key, or a salt.
    pub(crate) fn bytes(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for chunk in bytes.chunks_exact_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::Rng;

    #[test]
    fn one_seed_gives_one_stream() {
        let draw = |seed| {
            let mut rng = Rng::new(seed);
            [0; 8].map(|_: u64| rng.next())
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn ranges_are_filled_and_kept() {
        let mut rng = Rng::new(3);
        let drawn: Vec<u64> = (0..200).map(|_| rng.between(2, 4)).collect();
        assert!((2..=4).all(|n| drawn.contains(&n)));
        assert!(drawn.iter().all(|n| (2..=4).contains(n)));
        assert!((0..200).all(|_| rng.around_zero(5).abs() <= 5));
        assert!((0..200).all(|_| !rng.chance(0) && rng.chance(1000)));
    }
}
