//! The one rule by which the ledger takes a signature, alone or many at once.
//!
//! A block may hold thousands of signatures, and checking them together costs half as much. But two
//! checks that differ on a single strange signature would split the network, so the rule is made for
//! both: encodings must be canonical, neither key nor commitment may be of small order, and the
//! equation is taken times the cofactor. Then what a hostile signer adds of small order vanishes in
//! either check, and a sum of good signatures with random weights is good exactly when each is.

#![allow(clippy::arithmetic_side_effects, reason = "scalars and points of a group do not overflow")]

use std::sync::LazyLock;

use arknet_types::{Domain, PublicKey, Signature};
use borsh::BorshSerialize;
use curve25519_dalek::{
    constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION},
    edwards::{CompressedEdwardsY, EdwardsPoint},
    scalar::Scalar,
    traits::{IsIdentity, VartimeMultiscalarMul},
};
use sha2::{Digest, Sha512};

use crate::limits::SIGNATURES_PER_SUM_MAX;

/// A signature that somebody says is good.
#[derive(Clone, Debug)]
pub struct Claim {
    key: PublicKey,
    message: Vec<u8>,
    signature: Signature,
}

impl Claim {
    /// The claim that `signature` is the key's over `value` in `domain`.
    #[must_use]
    pub fn new<T: BorshSerialize>(
        key: PublicKey,
        domain: Domain,
        value: &T,
        signature: Signature,
    ) -> Self {
        Self { key, message: domain.message(value), signature }
    }

    /// Whether it is true.
    #[must_use]
    pub fn holds(&self) -> bool {
        Parts::of(self, &CheckedKey::of).is_some_and(|parts| parts.holds())
    }
}

/// A public key as signatures are checked with it: a point that is written in the one canonical way,
/// and is not of small order.
#[derive(Clone, Copy, Debug)]
pub struct CheckedKey(EdwardsPoint);

impl CheckedKey {
    /// The point of this key; none where no signature of it counts.
    #[must_use]
    pub fn of(key: &PublicKey) -> Option<Self> {
        point(&key.0).map(Self)
    }
}

/// Which of the claims hold: the same answers as [`Claim::holds`] gives one by one, in half the
/// time. Parts of a list may be given to several processors.
#[must_use]
pub fn which_hold(claims: &[Claim]) -> Vec<bool> {
    which_hold_by(claims, CheckedKey::of)
}

/// The same on one processor, for who wants something else done at the same time.
pub fn which_hold_after(claims: &[Claim], meanwhile: &mut dyn FnMut()) -> Vec<bool> {
    meanwhile();
    which_hold(claims)
}

/// The same, where somebody remembers keys: `checked` answers as [`CheckedKey::of`] does. To find a
/// key's point takes a fifth of the time of the whole.
#[must_use]
pub fn which_hold_by(
    claims: &[Claim],
    checked: impl Fn(&PublicKey) -> Option<CheckedKey>,
) -> Vec<bool> {
    claims.chunks(SIGNATURES_PER_SUM_MAX).flat_map(|claims| sum_holds(claims, &checked)).collect()
}

fn sum_holds(claims: &[Claim], checked: &impl Fn(&PublicKey) -> Option<CheckedKey>) -> Vec<bool> {
    let parts: Vec<Option<Parts>> = claims.iter().map(|one| Parts::of(one, checked)).collect();
    let good: Vec<&Parts> = parts.iter().flatten().collect();
    if weighted_sum_is_zero(&good) {
        return parts.iter().map(Option::is_some).collect();
    }
    parts.iter().map(|parts| parts.as_ref().is_some_and(Parts::holds)).collect()
}

/// A signature taken apart: it is good when `8 (R + k A - s B)` is zero.
struct Parts {
    a: EdwardsPoint,
    r: EdwardsPoint,
    s: Scalar,
    k: Scalar,
}

impl Parts {
    fn of(claim: &Claim, checked: &impl Fn(&PublicKey) -> Option<CheckedKey>) -> Option<Self> {
        let (r, s) = claim.signature.0.split_first_chunk::<32>()?;
        let s = Option::from(Scalar::from_canonical_bytes(s.try_into().ok()?))?;
        let (CheckedKey(a), r_point) = (checked(&claim.key)?, point(r)?);
        let hash = Sha512::new().chain_update(r).chain_update(claim.key.0);
        let hash = hash.chain_update(&claim.message).finalize();
        let k = Scalar::from_bytes_mod_order_wide(&hash.into());
        Some(Self { a, r: r_point, s, k })
    }

    fn holds(&self) -> bool {
        let expected =
            EdwardsPoint::vartime_double_scalar_mul_basepoint(&self.k, &-self.a, &self.s);
        (expected - self.r).mul_by_cofactor().is_identity()
    }
}

/// The point that `bytes` write in the one canonical way, if it is not of small order.
fn point(bytes: &[u8; 32]) -> Option<EdwardsPoint> {
    // y below 2^255 - 19. The other second spelling, a negative zero x, is of small order.
    let [low, middle @ .., high] = bytes;
    let is_reduced = high & 0x7f != 0x7f || middle.iter().any(|byte| *byte != 0xff) || *low < 0xed;
    if !is_reduced || SMALL.contains(&without_sign(*bytes)) {
        return None;
    }
    CompressedEdwardsY(*bytes).decompress()
}

/// The y of each point of small order. A point and its negative have the same.
static SMALL: LazyLock<[[u8; 32]; 8]> =
    LazyLock::new(|| EIGHT_TORSION.map(|point| without_sign(point.compress().0)));

const fn without_sign(mut bytes: [u8; 32]) -> [u8; 32] {
    bytes[31] &= 0x7f;
    bytes
}

/// Whether the sum of all, each with a weight that nobody could choose, is zero.
fn weighted_sum_is_zero(all: &[&Parts]) -> bool {
    let mut transcript = blake3::Hasher::new_derive_key("arknet signature weights 1");
    for parts in all {
        // k hashes key, commitment and message.
        transcript.update(parts.k.as_bytes()).update(parts.s.as_bytes());
    }
    let mut weights = transcript.finalize_xof();
    let mut base = Scalar::ZERO;
    let (mut scalars, mut points) = (Vec::new(), Vec::new());
    for parts in all {
        let mut weight = [0; 16];
        weights.fill(&mut weight);
        let weight = Scalar::from(u128::from_le_bytes(weight));
        base -= weight * parts.s;
        scalars.extend([weight, weight * parts.k]);
        points.extend([parts.r, parts.a]);
    }
    scalars.push(base);
    points.push(ED25519_BASEPOINT_POINT);
    EdwardsPoint::vartime_multiscalar_mul(scalars, points).mul_by_cofactor().is_identity()
}

#[cfg(test)]
mod tests;
