use arknet_types::KeyPair;
use curve25519_dalek::{
    constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION},
    traits::Identity,
};

use super::*;

fn claim(seed: u8, message: u64) -> Claim {
    let key = KeyPair::from_seed(&[seed; 32]);
    let signature = key.sign(Domain::TRANSACTION, &message);
    Claim::new(key.public(), Domain::TRANSACTION, &message, signature)
}

/// A signature whose commitment, and whose key, carry something of small order.
fn twisted(r_twist: usize, a_twist: usize, message: u64) -> Claim {
    let (secret, nonce) = (Scalar::from(77_u64), Scalar::from(99_u64 + message));
    let a = (ED25519_BASEPOINT_POINT * secret + EIGHT_TORSION[a_twist]).compress();
    let r = (ED25519_BASEPOINT_POINT * nonce + EIGHT_TORSION[r_twist]).compress();
    let text = Domain::TRANSACTION.message(&message);
    let hash = Sha512::new().chain_update(r.0).chain_update(a.0).chain_update(&text).finalize();
    let s = nonce + Scalar::from_bytes_mod_order_wide(&hash.into()) * secret;
    let signature = [r.0, s.to_bytes()].concat().try_into().unwrap();
    Claim { key: PublicKey(a.0), message: text, signature: Signature(signature) }
}

#[test]
fn good_ones_hold_and_bad_ones_are_found_among_them() {
    let mut claims: Vec<Claim> = (0..40).map(|n| claim((n % 7) as u8, n)).collect();
    assert!(which_hold(&claims).iter().all(|holds| *holds));
    claims[13].message.push(1);
    claims[20].signature.0[40] ^= 1;
    claims[21].signature.0[3] ^= 1;
    claims[22].key = claims[23 - 7].key;
    let bad: Vec<usize> = (0..40).filter(|n| !which_hold(&claims)[*n]).collect();
    assert_eq!(bad, [13, 20, 21, 22]);
    assert_eq!(which_hold(&[]), [true; 0]);
}

#[test]
fn what_is_of_small_order_vanishes_alone_and_together() {
    // Without the cofactor each of these would hold or fall by chance when checked together.
    for message in 0..64 {
        let (r, a) = (usize::try_from(message % 8).unwrap(), usize::try_from(message / 8).unwrap());
        let one = twisted(r, a, message);
        assert!(one.holds(), "{r} {a}");
        assert_eq!(which_hold(&[one.clone(), claim(1, 2)]), [true, true], "{r} {a}");
    }
}

#[test]
fn keys_and_commitments_of_small_order_are_refused() {
    for twist in EIGHT_TORSION {
        let bytes = twist.compress().0;
        // s = 0 and R = -k A would satisfy the equation for any message.
        let mut one = claim(1, 1);
        one.key = PublicKey(bytes);
        assert!(!one.holds());
        let mut one = claim(1, 1);
        one.signature.0[..32].copy_from_slice(&bytes);
        assert!(!one.holds());
    }
    assert_eq!(EdwardsPoint::identity().compress().0[0], 1);
}

#[test]
fn a_second_spelling_is_refused() {
    // The prime itself spells zero a second time; 2^255 - 1 spells 18.
    let mut prime = [0xff; 32];
    (prime[0], prime[31]) = (0xed, 0x7f);
    assert!(point(&prime).is_none());
    assert!((0..=18).all(|more| {
        prime[0] = 0xed + more;
        point(&prime).is_none()
    }));
    // s plus the order of the group.
    let mut one = claim(3, 3);
    let order: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut carry = 0_u16;
    for (byte, more) in one.signature.0[32..].iter_mut().zip(order) {
        carry += u16::from(*byte) + u16::from(more);
        *byte = carry.to_le_bytes()[0];
        carry >>= 8;
    }
    assert!(!one.holds());
}

#[test]
fn what_the_strict_rule_of_the_wire_takes_holds_here() {
    for n in 0..50 {
        let one = claim(n, u64::from(n));
        let strict = one.key.verifies(Domain::TRANSACTION, &u64::from(n), &one.signature);
        assert!(strict && one.holds());
    }
}
