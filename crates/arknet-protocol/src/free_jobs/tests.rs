use arknet_chain::limits::{FREE_JOBS_PER_DAY_MAX, FREE_JOBS_PER_HOUR_MAX};
use arknet_types::{
    Atoms, Delegation, DelegationBody, InferRequest, Input, KeyPair, ModelName, NetworkId, Request,
    Salt,
};
use proptest::prelude::*;

use super::*;

const HOUR_MS: u64 = 60 * MINUTE_MS;
const NOON: Timestamp = Timestamp(100 * DAY_MS + DAY_MS / 2);

fn key(seed: u8) -> KeyPair {
    KeyPair::from_seed(&[seed; 32])
}

/// What a wallet asked a server for.
fn used(wallet: u8, server: u8, nonce: u64, sent_at: Timestamp) -> FreeUse {
    let (wallet, session) = (key(wallet), key(99));
    let body = DelegationBody {
        network: NetworkId::new("test").unwrap(),
        wallet: wallet.public(),
        session: session.public(),
        spending_cap: Atoms::ZERO,
        issued_at: Timestamp(0),
        expires_at: Timestamp(u64::MAX),
        peer_scope: None,
        model_scope: None,
    };
    let infer = InferRequest::new(ModelName::new("m").unwrap(), Input::Text("hi".into()));
    let delegation = Delegation::sign(body, &wallet);
    let server = key(server).public();
    let (cost, salt) = (Atoms(0), Salt([7; 32]));
    let request = Request::sign(&session, &delegation, server, nonce, sent_at, cost, salt, infer);
    FreeUse::of(&request)
}

fn jobs() -> FreeJobs {
    let mut jobs = FreeJobs::new(Timestamp(0));
    jobs.set_on(true);
    jobs
}

/// Takes one where there is one.
fn take(jobs: &mut FreeJobs, free_use: FreeUse, now: Timestamp) -> Result<Taken, Refusal> {
    jobs.check(&free_use.wallet(), now)?;
    Ok(jobs.take(free_use, now))
}

#[test]
fn the_eleventh_in_an_hour_waits_for_the_next_and_other_wallets_do_not() {
    let mut jobs = jobs();
    for nonce in 0..10 {
        let free_use = used(1, 8, nonce, NOON);
        // Half of them another serves.
        match nonce % 2 {
            0 => drop(take(&mut jobs, free_use, NOON).unwrap()),
            _ => assert!(jobs.hear(&free_use, NOON)),
        }
    }
    let now = NOON.plus_ms(HOUR_MS - 1);
    let refusal = take(&mut jobs, used(1, 8, 10, now), now).unwrap_err();
    assert_eq!((refusal.code, refusal.retry_after_ms), (RefusalCode::RateLimited, Some(1)));
    take(&mut jobs, used(2, 8, 0, now), now).unwrap();
    let next = NOON.plus_ms(HOUR_MS);
    take(&mut jobs, used(1, 8, 11, next), next).unwrap();
}

#[test]
fn a_use_counts_once_however_it_is_told() {
    let mut jobs = jobs();
    let own = used(1, 8, 1, NOON);
    let _ = take(&mut jobs, own.clone(), NOON).unwrap();
    assert!(!jobs.hear(&own, NOON), "its own comes back");
    let other = used(1, 9, 1, NOON);
    assert!(jobs.hear(&other, NOON));
    let again = FreeUse { signature: arknet_types::Signature([7; 64]), ..other.clone() };
    for late in [0, 1, FREE_USE_AGE_MS_MAX] {
        assert!(!jobs.hear(&other, NOON.plus_ms(late)) && !jobs.hear(&again, NOON.plus_ms(late)));
    }
    assert_eq!(jobs.wallets.values().map(|wallet| wallet.uses.len()).sum::<usize>(), 2);
    let later = NOON.plus_ms(FREE_USE_AGE_MS_MAX + MINUTE_MS);
    jobs.check(&other.wallet(), later).unwrap();
    assert_eq!(jobs.wallets.values().map(|wallet| wallet.uses.len()).sum::<usize>(), 0);
    let left: Vec<_> = jobs.quotas(NOON).map(|(_, quota)| quota.left(NOON)).collect();
    assert_eq!(left, [8]);
}

#[test]
fn what_was_not_begun_is_given_back() {
    let mut jobs = jobs();
    for nonce in 0..30 {
        let taken = take(&mut jobs, used(1, 8, nonce, NOON), NOON).unwrap();
        jobs.give_back(&taken);
        assert!(jobs.wallets.is_empty(), "who only asks takes no place");
    }
    for nonce in 0..10 {
        let _ = take(&mut jobs, used(1, 8, nonce, NOON), NOON).unwrap();
    }
    assert!(take(&mut jobs, used(1, 8, 10, NOON), NOON).is_err());
}

#[test]
fn to_ask_on_the_next_day_keeps_no_place() {
    let mut jobs = jobs();
    let _ = take(&mut jobs, used(1, 8, 1, NOON), NOON).unwrap();
    let tomorrow = NOON.plus_ms(DAY_MS);
    let address = used(1, 8, 1, NOON).wallet();
    // It was there when it asked, and no job came of it: the sweep of a minute later sees to it.
    jobs.swept_minute = tomorrow.0 / MINUTE_MS;
    jobs.check(&address, tomorrow).unwrap();
    jobs.check(&address, tomorrow.plus_ms(MINUTE_MS)).unwrap();
    assert!(jobs.wallets.is_empty());
}

#[test]
fn nothing_counts_while_it_is_off_and_nothing_from_an_earlier_life() {
    let mut jobs = FreeJobs::new(NOON);
    assert!(!jobs.hear(&used(1, 9, 1, NOON), NOON) && !jobs.may_hear(&key(9).public(), NOON));
    jobs.set_on(true);
    assert!(!jobs.hear(&used(1, 9, 1, Timestamp(NOON.0 - 1)), NOON));
    assert!(jobs.hear(&used(1, 9, 2, NOON), NOON));
}

#[test]
fn a_restart_resets_nothing_and_the_next_hour_does() {
    let mut before = jobs();
    for nonce in 0..10 {
        let _ = take(&mut before, used(1, 8, nonce, NOON), NOON).unwrap();
    }
    let mut after = FreeJobs::new(NOON.plus_ms(1));
    after.set_on(true);
    for (wallet, quota) in before.quotas(NOON) {
        after.resume(wallet, quota);
    }
    let soon = NOON.plus_ms(2);
    assert!(take(&mut after, used(1, 8, 10, soon), soon).is_err());
    let next = NOON.plus_ms(HOUR_MS);
    assert!(take(&mut after, used(1, 8, 11, next), next).is_ok());
    assert_eq!(after.quotas(NOON.plus_ms(DAY_MS)).count(), 0, "the next day stores nothing");
}

#[test]
fn a_peer_tells_so_much_in_a_minute_and_all_together_so_much() {
    let mut jobs = jobs();
    let mut heard = |peer: u32, now| {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&peer.to_le_bytes());
        jobs.may_hear(&PublicKey(bytes), now)
    };
    let one = FREE_USES_PER_PEER_AND_MINUTE_MAX;
    assert_eq!((0..=one).filter(|_| heard(0, NOON)).count(), one as usize);
    let rest = FREE_USES_PER_MINUTE_MAX - one;
    assert_eq!((1..=rest + 1).filter(|peer| heard(*peer, NOON)).count(), rest as usize);
    assert!(heard(0, NOON.plus_ms(MINUTE_MS)));
}

#[test]
fn what_is_heard_leaves_room_for_what_is_served_and_the_day_ends_it() {
    let mut jobs = jobs();
    let address = |n: usize| {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&n.to_le_bytes());
        Address(bytes)
    };
    let mut quota = FreeQuota::default();
    quota.take(NOON).unwrap();
    for n in 0..FREE_WALLETS_HEARD_MAX {
        jobs.resume(address(n), quota);
    }
    assert!(!jobs.hear(&used(1, 9, 1, NOON), NOON));
    let _ = take(&mut jobs, used(1, 8, 2, NOON), NOON).unwrap();
    assert!(jobs.hear(&used(1, 9, 1, NOON), NOON), "who is known is heard of");
    for n in FREE_WALLETS_HEARD_MAX..=FREE_WALLETS_MAX {
        jobs.resume(address(n), quota);
    }
    let refusal = take(&mut jobs, used(2, 8, 1, NOON), NOON).unwrap_err();
    assert_eq!(refusal.retry_after_ms, Some(u32::try_from(DAY_MS / 2).unwrap()));
    let tomorrow = NOON.plus_ms(DAY_MS / 2);
    assert!(take(&mut jobs, used(2, 8, 2, tomorrow), tomorrow).is_ok());
    assert_eq!(jobs.wallets.len(), 1);
}

/// What may happen to a wallet's jobs.
#[derive(Clone, Debug)]
enum Deed {
    Ask { gives_back: bool },
    Hear { nonce: u64, late_ms: u64 },
    Restart,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        4 => any::<bool>().prop_map(|gives_back| Deed::Ask { gives_back }),
        4 => (0..60_u64, 0..2 * FREE_USE_AGE_MS_MAX)
            .prop_map(|(nonce, late_ms)| Deed::Hear { nonce, late_ms }),
        1 => Just(Deed::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever comes in whatever order: no hour has more than ten that were done here, no day more
    /// than a hundred, none counts twice, and who has less is not refused.
    #[test]
    fn no_order_of_events_gives_or_takes_more(
        deeds in prop::collection::vec((deed(), 0..20 * MINUTE_MS), 1..200),
    ) {
        let (mut jobs, mut now, mut nonce) = (jobs(), NOON, 1_000);
        let (mut done, mut told) = (BTreeMap::<u64, u32>::new(), BTreeMap::new());
        for (deed, later_ms) in deeds {
            now = now.plus_ms(later_ms);
            nonce += 1;
            let (hour, day) = (now.0 / HOUR_MS, now.0 / DAY_MS);
            let in_hour = done.get(&hour).copied().unwrap_or(0);
            let in_day: u32 = done.iter().filter(|(h, _)| **h / 24 == day).map(|(_, n)| n).sum();
            prop_assert!(in_hour <= FREE_JOBS_PER_HOUR_MAX && in_day <= FREE_JOBS_PER_DAY_MAX);
            match deed {
                Deed::Ask { gives_back } => {
                    let taken = take(&mut jobs, used(1, 8, nonce, now), now);
                    let is_left = in_hour < FREE_JOBS_PER_HOUR_MAX && in_day < FREE_JOBS_PER_DAY_MAX;
                    prop_assert_eq!(taken.is_ok(), is_left);
                    match taken {
                        Ok(taken) if gives_back => jobs.give_back(&taken),
                        Ok(_) => *done.entry(hour).or_default() += 1,
                        Err(refusal) => {
                            let wait = refusal.retry_after_ms.unwrap();
                            let end = now.plus_ms(wait.into());
                            prop_assert!(wait > 0 && end.0 % HOUR_MS == 0);
                        }
                    }
                }
                Deed::Hear { nonce, late_ms } => {
                    let at = *told.entry(nonce).or_insert(Timestamp(now.0 - late_ms));
                    let free_use = used(1, 9, nonce, at);
                    // Beyond its age it is refused before it comes here.
                    if now.since_ms(at) <= FREE_USE_AGE_MS_MAX && jobs.hear(&free_use, now) {
                        *done.entry(at.0 / HOUR_MS).or_default() += 1;
                        prop_assert!(!jobs.hear(&free_use, now));
                    }
                }
                Deed::Restart => {
                    let mut after = FreeJobs::new(now.plus_ms(1));
                    after.set_on(true);
                    for (wallet, quota) in jobs.quotas(now) {
                        after.resume(wallet, quota);
                    }
                    jobs = after;
                    now = now.plus_ms(1);
                }
            }
            let uses = jobs.wallets.values().map(|wallet| wallet.uses.len()).max();
            prop_assert!(uses.unwrap_or(0) <= FREE_JOBS_PER_DAY_MAX as usize);
        }
    }
}
