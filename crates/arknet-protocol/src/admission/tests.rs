use std::sync::LazyLock;

use arknet_types::{Delegation, DelegationBody, KeyPair, Salt, limits::NONCE_WINDOW};

use super::*;

const START: Timestamp = Timestamp(1_000_000);
const USAGE: Usage =
    Usage { prompt_tokens: 1_000_000, completion_tokens: 0, cached_tokens: 0, reasoning_tokens: 0 };

static MODEL: LazyLock<ModelName> = LazyLock::new(|| ModelName::new("m").unwrap());

fn free() -> Offered<'static> {
    Offered { name: &MODEL, price: Price::default() }
}

struct Fixture {
    wallet: KeyPair,
    session: KeyPair,
    from: PublicKey,
    policy: Policy,
    delegation: DelegationBody,
    nonce: u64,
    sent_at: Timestamp,
    audience: PublicKey,
}

impl Fixture {
    fn new() -> Self {
        let [wallet, session, me, from] = [1, 2, 3, 4].map(|n| KeyPair::from_seed(&[n; 32]));
        let network = NetworkId::new("test").unwrap();
        Self {
            policy: Policy {
                network: network.clone(),
                me: me.public(),
                started_at: START,
                who: Who::Anyone { files: false },
                requests_per_peer_max: 4,
            },
            delegation: DelegationBody {
                network,
                wallet: wallet.public(),
                session: session.public(),
                spending_cap: Atoms(10),
                issued_at: START,
                expires_at: START.plus_ms(3_600_000),
                peer_scope: None,
                model_scope: None,
            },
            nonce: 1,
            sent_at: START.plus_ms(100),
            audience: me.public(),
            from: from.public(),
            wallet,
            session,
        }
    }

    pub(super) fn request(&self) -> Request {
        let infer = InferRequest::new(MODEL.clone(), Input::Text("hi".into()));
        let delegation = Delegation::sign(self.delegation.clone(), &self.wallet);
        Request::sign(
            &self.session,
            &delegation,
            self.audience,
            self.nonce,
            self.sent_at,
            Atoms(8),
            Salt([7; 32]),
            infer,
        )
    }

    fn check(&self, now: Timestamp) -> Result<CheckedRequest, Refusal> {
        CheckedRequest::check(self.request(), self.from, &self.policy, now, |_| false)
    }

    fn code(&self, now: Timestamp) -> RefusalCode {
        self.check(now).unwrap_err().code
    }

    fn admit(&self, gate: &mut Admission, atoms: u64, now: Timestamp) -> Result<Admitted, Refusal> {
        let price = Price { input: Atoms(atoms), output: Atoms::ZERO };
        gate.admit(self.check(now)?, Some(Offered { name: &MODEL, price }), USAGE, now)
    }
}

fn now() -> Timestamp {
    START.plus_ms(100)
}

#[test]
fn each_kind_of_bad_request_has_its_own_refusal() {
    assert!(Fixture::new().check(now()).is_ok());
    type Change = fn(&mut Fixture);
    let cases: [(Change, RefusalCode); 10] = [
        (|f| f.policy.network = NetworkId::new("other").unwrap(), RefusalCode::WrongNetwork),
        (|f| f.audience = f.from, RefusalCode::WrongAudience),
        (|f| f.sent_at = Timestamp(START.0 - 1), RefusalCode::Expired),
        (|f| f.sent_at = now().plus_ms(CLOCK_SKEW_MS_MAX + 1), RefusalCode::FutureDated),
        (|f| f.delegation.expires_at = now(), RefusalCode::Expired),
        (
            |f| f.delegation.issued_at = now().plus_ms(CLOCK_SKEW_MS_MAX + 1),
            RefusalCode::FutureDated,
        ),
        (|f| f.delegation.peer_scope = Some(f.from), RefusalCode::NotPermitted),
        (
            |f| f.delegation.model_scope = Some(ModelName::new("other").unwrap()),
            RefusalCode::NotPermitted,
        ),
        (|f| f.delegation.expires_at = f.delegation.issued_at, RefusalCode::Expired),
        (|f| f.policy.me = f.from, RefusalCode::WrongAudience),
    ];
    for (n, (change, code)) in cases.into_iter().enumerate() {
        let mut fixture = Fixture::new();
        change(&mut fixture);
        assert_eq!(fixture.code(now()), code, "case {n}");
    }
}

#[test]
fn freshness_is_30_seconds_both_ways() {
    let fixture = Fixture::new();
    let sent = fixture.sent_at;
    assert!(fixture.check(sent.plus_ms(CLOCK_SKEW_MS_MAX)).is_ok());
    assert_eq!(fixture.code(sent.plus_ms(CLOCK_SKEW_MS_MAX + 1)), RefusalCode::Expired);
    assert!(fixture.check(Timestamp(sent.0 - CLOCK_SKEW_MS_MAX)).is_ok());
    assert_eq!(fixture.code(Timestamp(sent.0 - CLOCK_SKEW_MS_MAX - 1)), RefusalCode::FutureDated);
}

#[test]
fn signatures_are_checked_unless_known() {
    let fixture = Fixture::new();
    let mut request = fixture.request();
    request.delegation.signature.0[5] ^= 1;
    request.body.delegation_digest = request.delegation.digest();
    request.signature = fixture.session.sign(arknet_types::Domain::REQUEST, &request.body);
    let check = |request: Request, known| {
        CheckedRequest::check(request, fixture.from, &fixture.policy, now(), |_| known)
    };
    assert_eq!(check(request.clone(), false).unwrap_err().code, RefusalCode::BadSignature);
    assert!(check(request.clone(), true).is_ok());
    request.signature.0[5] ^= 1;
    assert_eq!(check(request, true).unwrap_err().code, RefusalCode::BadSignature);
}

#[test]
fn another_salt_is_another_content() {
    let fixture = Fixture::new();
    let changes: [fn(&mut Request); 2] =
        [|r| r.salt.0[0] ^= 1, |r| r.infer.input = Input::Text("ho".into())];
    for change in changes {
        let mut request = fixture.request();
        change(&mut request);
        let checked =
            CheckedRequest::check(request, fixture.from, &fixture.policy, now(), |_| true);
        assert_eq!(checked.unwrap_err().code, RefusalCode::BadSignature);
    }
}

#[test]
fn a_delegation_is_known_once_a_request_under_it_was_admitted() {
    let fixture = Fixture::new();
    let mut gate = Admission::new(fixture.policy.clone());
    let digest = fixture.request().delegation.digest();
    assert!(!gate.knows_delegation(&digest));
    let admitted = fixture.admit(&mut gate, 0, now()).unwrap();
    assert!(gate.knows_delegation(&digest));
    gate.settle(&admitted, Usage::default(), now());
}

#[test]
fn a_nonce_counts_once_in_any_order() {
    let mut fixture = Fixture::new();
    let mut gate = Admission::new(Policy { requests_per_peer_max: 1000, ..fixture.policy.clone() });
    let window = NONCE_WINDOW;
    let mut take = |nonce: u64| {
        fixture.nonce = nonce;
        match fixture.admit(&mut gate, 0, now()) {
            Ok(admitted) => {
                gate.settle(&admitted, Usage::default(), now());
                true
            }
            Err(refusal) => {
                assert_eq!(refusal.code, RefusalCode::Replayed);
                false
            }
        }
    };
    assert!(take(0) && take(5) && take(3) && take(4));
    assert!(!take(5) && !take(3) && !take(0));
    assert!(take(window) && take(1) && !take(1), "the edge of the window");
    assert!(take(10 * window));
    assert!(!take(9 * window), "too far back to tell is refused");
    assert!(take(9 * window + 1) && !take(9 * window + 1));
    assert!(take(u64::MAX) && !take(u64::MAX) && take(u64::MAX - 7));
}

#[test]
fn forgetting_a_session_never_lets_a_replay_in() {
    let mut fixture = Fixture::new();
    let mut gate = Admission::new(fixture.policy.clone());
    let admitted = fixture.admit(&mut gate, 0, now()).unwrap();
    gate.settle(&admitted, Usage::default(), now());
    let last = fixture.sent_at.plus_ms(CLOCK_SKEW_MS_MAX);
    assert_eq!(fixture.admit(&mut gate, 0, last).unwrap_err().code, RefusalCode::Replayed);
    let after = last.plus_ms(1);
    assert_eq!(fixture.admit(&mut gate, 0, after).unwrap_err().code, RefusalCode::Expired);
    fixture.sent_at = last.plus_ms(5_000);
    fixture.nonce = 2;
    let admitted = fixture.admit(&mut gate, 0, fixture.sent_at).unwrap();
    assert_eq!(gate.sessions(), 1);
    gate.settle(&admitted, Usage::default(), now());
}

#[test]
fn spending_is_reserved_settled_and_capped() {
    let mut fixture = Fixture::new();
    let mut gate = Admission::new(fixture.policy.clone());
    let first = fixture.admit(&mut gate, 6, now()).unwrap();
    fixture.nonce += 1;
    assert_eq!(fixture.admit(&mut gate, 6, now()).unwrap_err().code, RefusalCode::CapExceeded);
    let half = Usage { prompt_tokens: 500_000, ..Usage::default() };
    assert_eq!(gate.settle(&first, half, now()), Atoms(3));
    let second = fixture.admit(&mut gate, 6, now()).unwrap();
    assert_eq!(gate.settle(&second, USAGE, now()), Atoms(6));
    fixture.nonce += 1;
    assert_eq!(fixture.admit(&mut gate, 2, now()).unwrap_err().code, RefusalCode::CapExceeded);
    let third = fixture.admit(&mut gate, 1, now()).unwrap();
    gate.settle(&third, USAGE, now());
    fixture.nonce += 1;
    assert_eq!(fixture.admit(&mut gate, 1, now()).unwrap_err().code, RefusalCode::CapExceeded);
    assert_eq!(fixture.admit(&mut gate, 9, now()).unwrap_err().code, RefusalCode::PriceTooHigh);
}

#[test]
fn money_is_remembered_as_long_as_the_session_lives() {
    let mut fixture = Fixture::new();
    let mut gate = Admission::new(fixture.policy.clone());
    let spent = fixture.admit(&mut gate, 8, now()).unwrap();
    gate.settle(&spent, USAGE, now());
    fixture.sent_at = now().plus_ms(600_000);
    fixture.nonce += 1;
    let refusal = fixture.admit(&mut gate, 8, fixture.sent_at).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::CapExceeded);
    fixture.delegation.issued_at = Timestamp(START.0 - 1);
    let refusal = fixture.admit(&mut gate, 1, fixture.sent_at).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Expired, "spending before the start is not known");
}

#[test]
fn spending_is_remembered_until_the_last_delegation_of_a_session_ends() {
    let mut fixture = Fixture::new();
    let mut gate = Admission::new(fixture.policy.clone());
    let long = fixture.delegation.clone();
    fixture.delegation.expires_at = START.plus_ms(1_000);
    let short = fixture.admit(&mut gate, 1, now()).unwrap();
    gate.settle(&short, USAGE, now());
    fixture.delegation = long;
    fixture.nonce += 1;
    let spent = fixture.admit(&mut gate, 8, now()).unwrap();
    gate.settle(&spent, USAGE, now());
    fixture.sent_at = now().plus_ms(60_000);
    fixture.nonce += 1;
    let refusal = fixture.admit(&mut gate, 8, fixture.sent_at).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::CapExceeded);
}

#[test]
fn what_was_fresh_when_checked_must_be_fresh_when_admitted() {
    let mut fixture = Fixture::new();
    let ends_at = now().plus_ms(2 * CLOCK_SKEW_MS_MAX);
    fixture.delegation.expires_at = ends_at;
    let mut gate = Admission::new(fixture.policy.clone());
    let too_old = now().plus_ms(CLOCK_SKEW_MS_MAX + 1);
    for (sent_at, late) in [(now(), too_old), (Timestamp(ends_at.0 - 1), ends_at)] {
        fixture.sent_at = sent_at;
        let checked = fixture.check(sent_at).unwrap();
        let refused = gate.admit(checked, Some(free()), USAGE, late).unwrap_err();
        assert_eq!(refused.code, RefusalCode::Expired);
    }
    assert_eq!(gate.sessions(), 0);
}

#[test]
fn one_peer_runs_so_many_at_once_and_no_more() {
    let mut fixture = Fixture::new();
    let mut gate = Admission::new(fixture.policy.clone());
    let mut running = vec![];
    for nonce in 1..=4 {
        fixture.nonce = nonce;
        running.push(fixture.admit(&mut gate, 0, now()).unwrap());
    }
    fixture.nonce = 5;
    let refusal = fixture.admit(&mut gate, 0, now()).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::RateLimited);
    assert!(refusal.retry_after_ms.is_some());
    gate.settle(&running.pop().unwrap(), Usage::default(), now());
    let again = fixture.admit(&mut gate, 0, now()).unwrap();
    for admitted in running.iter().chain([&again]) {
        gate.settle(admitted, Usage::default(), now());
    }
    assert_eq!(gate.running(), 0);
}

#[test]
fn sessions_of_one_peer_are_bounded_and_do_not_push_out_others() {
    let mut fixture = Fixture::new();
    let mut gate = Admission::new(fixture.policy.clone());
    let victim = fixture.admit(&mut gate, 0, now()).unwrap();
    gate.settle(&victim, Usage::default(), now());
    let honest = fixture.from;
    fixture.from = PublicKey([9; 32]);
    let honest_session = fixture.session.clone();
    for n in 0..SESSIONS_PER_PEER_MAX as u64 {
        let mut seed = [7; 32];
        seed[..8].copy_from_slice(&n.to_le_bytes());
        fixture.session = KeyPair::from_seed(&seed);
        fixture.delegation.session = fixture.session.public();
        // The signatures are not what is tested here; a thousand of them would be slow.
        let request = fixture.request();
        let delegation_digest = request.body.delegation_digest;
        let checked = CheckedRequest { from: fixture.from, request, delegation_digest };
        let admitted = gate.admit(checked, Some(free()), USAGE, now()).unwrap();
        gate.settle(&admitted, Usage::default(), now());
    }
    fixture.session = KeyPair::from_seed(&[8; 32]);
    fixture.delegation.session = fixture.session.public();
    assert_eq!(fixture.admit(&mut gate, 0, now()).unwrap_err().code, RefusalCode::RateLimited);
    fixture.from = honest;
    fixture.session = honest_session;
    fixture.delegation.session = fixture.session.public();
    let replay = fixture.admit(&mut gate, 0, now()).unwrap_err();
    assert_eq!(replay.code, RefusalCode::Replayed, "the flood has evicted nothing");
}

#[test]
fn a_clock_that_is_set_back_between_check_and_decision_opens_no_future() {
    let fixture = Fixture::new();
    let mut gate = Admission::new(fixture.policy.clone());
    let mut decide = |now: u64| {
        let checked = fixture.check(fixture.sent_at).unwrap();
        gate.admit(checked, Some(free()), USAGE, Timestamp(now)).map(|_| ())
    };
    let first = fixture.sent_at.0 - CLOCK_SKEW_MS_MAX;
    assert_eq!(decide(first - 1).unwrap_err().code, RefusalCode::FutureDated);
    decide(first).unwrap();
}

#[test]
fn a_clock_that_jumps_ahead_and_back_lets_no_replay_in() {
    let mut fixture = Fixture::new();
    let mut gate = Admission::new(fixture.policy.clone());
    let admitted = fixture.admit(&mut gate, 0, now()).unwrap();
    gate.settle(&admitted, Usage::default(), now());
    let (nonce, sent_at) = (fixture.nonce, fixture.sent_at);
    fixture.sent_at = now().plus_ms(3_000_000);
    fixture.session = KeyPair::from_seed(&[8; 32]);
    fixture.delegation.session = fixture.session.public();
    let other = fixture.admit(&mut gate, 0, fixture.sent_at).unwrap();
    gate.settle(&other, Usage::default(), now());
    assert_eq!(gate.sessions(), 1, "the first session was forgotten in the false future");
    fixture.session = KeyPair::from_seed(&[2; 32]);
    fixture.delegation.session = fixture.session.public();
    (fixture.nonce, fixture.sent_at) = (nonce, sent_at);
    let refusal = fixture.admit(&mut gate, 0, now()).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Expired);
    fixture.sent_at = sent_at.plus_ms(1);
    let fresh = fixture.admit(&mut gate, 0, now()).unwrap();
    gate.settle(&fresh, Usage::default(), now());
}
