/// A small generator of pseudo-random numbers (xorshift64*), the same on every machine.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        // Spread the seed: neighbouring seeds must not begin alike, and the state may not be zero.
        let mut random = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`; zero when there is none.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        let end = end.max(1) as u64;
        // The upper half is the better one.
        usize::try_from((self.next() >> 32) % end).expect("smaller than a usize")
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }
}

/// Bytes that sit at the edge of something: lengths, variants, signs.
const EDGES: [u8; 10] = [0, 1, 2, 3, 0x7f, 0x80, 0xc0, 0xfe, 0xff, b'"'];
/// Lengths that a decoder might believe.
const LENGTHS: [u32; 8] = [0, 1, 16, 255, 4096, 65_536, 0x7fff_ffff, u32::MAX];
/// Values that a reader of JSON might trip over.
const WORDS: [&str; 16] = [
    "null",
    "true",
    "0",
    "-1",
    "1e400",
    "-0.0",
    "1e-50",
    "4294967296",
    "18446744073709551616",
    "\"\"",
    "\"\\ud83d\\udc4b\"",
    "\"\\ud800\"",
    "{}",
    "[]",
    "[[]]",
    "{\"type\":\"text\"}",
];
/// Longest run of pure chance, in bytes.
const CHANCE_BYTES_MAX: usize = 512;

/// Writes the next case into `out`: usually something of the corpus with up to four changes, now
/// and then nothing but chance.
pub(crate) fn next_case(random: &mut Random, corpus: &[Vec<u8>], out: &mut Vec<u8>) {
    out.clear();
    if corpus.is_empty() || random.below(16) == 0 {
        let length = random.below(CHANCE_BYTES_MAX);
        out.extend((0..length).map(|_| random.byte()));
        return;
    }
    out.extend_from_slice(&corpus[random.below(corpus.len())]);
    for _ in 0..random.below(5) {
        change(random, corpus, out);
    }
}

fn change(random: &mut Random, corpus: &[Vec<u8>], out: &mut Vec<u8>) {
    let at = random.below(out.len() + 1);
    // Up to sixteen bytes from there on.
    let end = out.len().min(at + random.below(17));
    match random.below(10) {
        0 => out.truncate(at),
        1 => out.insert(at, random.byte()),
        2 => drop(out.drain(at..end)),
        3 => {
            let piece = out[at..end].to_vec();
            out.splice(at..at, piece);
        }
        4 => {
            let other = &corpus[random.below(corpus.len())];
            let from = random.below(other.len() + 1);
            out.truncate(at);
            out.extend_from_slice(&other[from..]);
        }
        5 => {
            let length = LENGTHS[random.below(LENGTHS.len())].to_le_bytes();
            let places = out.iter_mut().skip(at);
            places.zip(length).for_each(|(place, byte)| *place = byte);
        }
        6 => set(out, at, EDGES[random.below(EDGES.len())]),
        7 => set(out, at, random.byte()),
        8 => put_value(out, at, WORDS[random.below(WORDS.len())]),
        _ => {
            if let Some(byte) = out.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
    }
}

/// Puts another value in the place of the next one in something like JSON.
fn put_value(out: &mut Vec<u8>, at: usize, value: &str) {
    let next = |from: usize, ends: &[u8]| {
        let place = out[from..].iter().position(|byte| ends.contains(byte));
        place.map_or(out.len(), |place| from + place)
    };
    let start = (next(at, b":[,") + 1).min(out.len());
    let end = next(start, b",]}");
    out.splice(start..end, value.bytes());
}

fn set(out: &mut [u8], at: usize, value: u8) {
    if let Some(byte) = out.get_mut(at) {
        *byte = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_depend_on_the_seed_alone() {
        let corpus = [b"one".to_vec(), b"another".to_vec()];
        let cases = |seed| {
            let (mut random, mut out) = (Random::new(seed), Vec::new());
            let case = |_| {
                next_case(&mut random, &corpus, &mut out);
                out.clone()
            };
            (0..200).map(case).collect::<Vec<_>>()
        };
        assert_eq!(cases(1), cases(1));
        assert_ne!(cases(1), cases(2));
        assert!(cases(1).contains(&corpus[0]), "some cases stay as they are");
    }
}
