//! The decision code under faults: a thousand seeds, each twice.

use std::collections::BTreeMap;

use arknet_sim::run_seeds;
use arknet_types::RefusalCode;

const SEEDS: u64 = 1_000;

#[test]
fn a_thousand_seeds_hold_every_rule_and_repeat_exactly() {
    let reports = run_seeds(0, SEEDS, 2).unwrap_or_else(|violation| panic!("{violation}"));
    let mut refusals = BTreeMap::new();
    for (code, count) in reports.iter().flat_map(|r| &r.refusals) {
        *refusals.entry(*code).or_insert(0) += count;
    }
    let sum = |what: fn(&arknet_sim::Report) -> u64| reports.iter().map(what).sum::<u64>();
    println!(
        "{} events, {} executed, {} answered, {} broke off, {} not served, {refusals:?}",
        sum(|r| r.events),
        sum(|r| r.executed),
        sum(|r| r.answered),
        sum(|r| r.broke_off),
        sum(|r| r.not_served),
    );
    // A simulation that never gets anywhere holds every rule too.
    assert!(sum(|r| r.answered) > 5 * SEEDS && sum(|r| r.broke_off) > SEEDS / 10);
    let expected = [
        RefusalCode::Malformed,
        RefusalCode::TooLarge,
        RefusalCode::WrongNetwork,
        RefusalCode::WrongAudience,
        RefusalCode::BadSignature,
        RefusalCode::Expired,
        RefusalCode::FutureDated,
        RefusalCode::Replayed,
        RefusalCode::NotPermitted,
        RefusalCode::CapExceeded,
        RefusalCode::UnknownModel,
        RefusalCode::Busy,
        RefusalCode::ShuttingDown,
        RefusalCode::ProviderFailed,
        RefusalCode::RateLimited,
        RefusalCode::PriceTooHigh,
    ];
    for code in expected {
        assert!(refusals.contains_key(&code), "no run came to {code:?}");
    }
}
