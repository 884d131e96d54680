use arknet_sdk::{RefusalCode, keyfile};
use arknet_types::{
    Domain, Reply,
    limits::{CLOCK_SKEW_MS_MAX, REQUEST_FRAME_BYTES_MAX, STREAMS_PER_PEER_MAX},
};

use crate::fixture::{ENDLESS, MODEL, Stranger, TestNode, delegation, entry, read};

#[tokio::test]
async fn each_kind_of_hostile_request_gets_its_own_refusal() {
    let node = TestNode::start(|_| {}).await;
    let mut stranger = Stranger::new(&node);
    let now = arknet_sdk::now();
    let me = stranger.server;

    let good = stranger.request(MODEL);
    assert!(matches!(stranger.first_reply(&good).await, Reply::Text { .. }));
    assert_eq!(stranger.refusal(&good).await.code, RefusalCode::Replayed);

    let other = keyfile::generate().unwrap().public();
    let moved = stranger.request_with(MODEL, other, now);
    assert_eq!(stranger.refusal(&moved).await.code, RefusalCode::WrongAudience);

    let late = stranger.request_with(
        MODEL,
        me,
        arknet_types::Timestamp(now.0 - CLOCK_SKEW_MS_MAX - 1_000),
    );
    assert_eq!(stranger.refusal(&late).await.code, RefusalCode::Expired);

    let early = stranger.request_with(MODEL, me, now.plus_ms(CLOCK_SKEW_MS_MAX + 20_000));
    assert_eq!(stranger.refusal(&early).await.code, RefusalCode::FutureDated);

    let mut forged = stranger.request(MODEL);
    forged.infer.max_tokens = Some(9);
    assert_eq!(stranger.refusal(&forged).await.code, RefusalCode::BadSignature);

    let mut resalted = stranger.request(MODEL);
    resalted.salt.0[0] ^= 1;
    assert_eq!(stranger.refusal(&resalted).await.code, RefusalCode::BadSignature);

    let unknown = stranger.request("no/such");
    assert_eq!(stranger.refusal(&unknown).await.code, RefusalCode::UnknownModel);

    let mut senseless = stranger.request(MODEL);
    senseless.infer.sampling.temperature = 99.0;
    senseless.body.infer_digest = senseless.infer.digest(&senseless.salt);
    senseless.signature = stranger.session.sign(Domain::REQUEST, &senseless.body);
    assert_eq!(stranger.refusal(&senseless).await.code, RefusalCode::InvalidRequest);

    let mut foreign = stranger.request(MODEL);
    foreign.body.network = "other".parse().unwrap();
    assert_eq!(stranger.refusal(&foreign).await.code, RefusalCode::WrongNetwork);
    node.stop().await;
}

#[tokio::test]
async fn sessions_count_within_their_bounds_only() {
    let node = TestNode::start(|_| {}).await;
    let mut stranger = Stranger::new(&node);
    let now = arknet_sdk::now();
    let (wallet, session) = (stranger.wallet.clone(), stranger.session.clone());
    let other = keyfile::generate().unwrap().public();
    let cases = [
        (delegation(&wallet, &session, |b| b.expires_at = now), RefusalCode::Expired),
        (
            delegation(&wallet, &session, |b| {
                b.issued_at = now.plus_ms(60_000);
                b.expires_at = now.plus_ms(120_000);
            }),
            RefusalCode::FutureDated,
        ),
        (delegation(&wallet, &session, |b| b.peer_scope = Some(other)), RefusalCode::NotPermitted),
        (
            delegation(&wallet, &session, |b| b.model_scope = Some("other".parse().unwrap())),
            RefusalCode::NotPermitted,
        ),
    ];
    for (delegation, code) in cases {
        stranger.delegation = delegation;
        // An issue date before the expiry is what makes the first case a matter of time alone.
        let request = stranger.request(MODEL);
        assert_eq!(stranger.refusal(&request).await.code, code);
    }
    let mut forged = delegation(&wallet, &session, |_| {});
    forged.body.spending_cap = arknet_sdk::Atoms(u64::MAX);
    stranger.delegation = forged;
    let request = stranger.request(MODEL);
    assert_eq!(stranger.refusal(&request).await.code, RefusalCode::BadSignature);
    node.stop().await;
}

#[tokio::test]
async fn a_cap_is_enforced_by_the_serving_node() {
    // An answer of one token costs 400 of the session's 1,000 atoms, and so does its input.
    let node = TestNode::start(|config| config.compute.output_price_atoms = 400_000_000).await;
    let mut stranger = Stranger::new(&node);
    for _ in 0..2 {
        let request = stranger.request(MODEL);
        assert!(matches!(stranger.first_reply(&request).await, Reply::Text { .. }));
    }
    let request = stranger.request(MODEL);
    assert_eq!(stranger.refusal(&request).await.code, RefusalCode::CapExceeded);
    node.stop().await;
}

#[tokio::test]
async fn garbage_and_oversize_are_refused_with_words() {
    let node = TestNode::start(|_| {}).await;
    let stranger = Stranger::new(&node);
    for (bytes, code) in [
        ([&4_u32.to_le_bytes()[..], b"junk"].concat(), RefusalCode::Malformed),
        (
            u32::try_from(REQUEST_FRAME_BYTES_MAX + 1).unwrap().to_le_bytes().to_vec(),
            RefusalCode::TooLarge,
        ),
        (0_u32.to_le_bytes().to_vec(), RefusalCode::Malformed),
        (u32::MAX.to_le_bytes().to_vec(), RefusalCode::TooLarge),
    ] {
        let mut stream = stranger.open().await;
        stream.write_raw(&bytes).await.unwrap();
        let Reply::Refused(refusal) = read(&mut stream).await else { panic!("not refused") };
        assert_eq!(refusal.code, code, "{bytes:?}");
    }
    // Half a frame and then nothing must not keep the node from anything.
    let mut half = stranger.open().await;
    half.write_raw(&[100, 0, 0, 0, 1, 2, 3]).await.unwrap();
    drop(half);
    node.stop().await;
}

#[tokio::test]
async fn strangers_learn_nothing_where_only_known_peers_may_ask() {
    let friend = keyfile::generate().unwrap();
    let node = TestNode::start_approving(&[entry(friend.public(), &["*"])]).await;
    let mut stranger = Stranger::new(&node);
    for model in [MODEL, "no/such"] {
        let request = stranger.request(model);
        assert_eq!(stranger.refusal(&request).await.code, RefusalCode::NotPermitted);
    }
    let mut friend = Stranger::with_key(&node, friend);
    let request = friend.request(MODEL);
    assert!(matches!(friend.first_reply(&request).await, Reply::Text { .. }));
    node.stop().await;
}

#[tokio::test]
async fn a_peer_with_too_many_streams_is_limited_and_others_are_served() {
    let node = TestNode::start(|_| {}).await;
    let stranger = Stranger::new(&node);
    let mut held = Vec::new();
    let mut refused = 0;
    for _ in 0..STREAMS_PER_PEER_MAX + 100 {
        let mut stream = stranger.open().await;
        // A request's first byte and no more, on each: the worst that can be held.
        match stream.write_raw(&[1]).await {
            Ok(()) => held.push(stream),
            Err(_) => refused += 1,
        }
    }
    let mut honest = Stranger::new(&node);
    let request = honest.request(MODEL);
    assert!(matches!(honest.first_reply(&request).await, Reply::Text { .. }));
    let mut alive = 0;
    for stream in &mut held {
        use futures::FutureExt;
        alive += usize::from(stream.gone().now_or_never().is_none());
    }
    assert!(alive <= STREAMS_PER_PEER_MAX, "{alive} held, {refused} refused at once");
    node.stop().await;
}

#[tokio::test]
async fn a_busy_model_says_when_to_come_again() {
    let node = TestNode::start(|config| {
        config.compute.queue_max = 0;
    })
    .await;
    let mut stranger = Stranger::new(&node);
    let request = stranger.request(ENDLESS);
    let mut running = stranger.open().await;
    running.write_frame(&request).await.unwrap();
    assert!(matches!(read(&mut running).await, Reply::Text { .. }));
    let request = stranger.request(ENDLESS);
    let refusal = stranger.refusal(&request).await;
    assert_eq!(refusal.code, RefusalCode::Busy);
    assert!(refusal.retry_after_ms.is_some());
    node.stop().await;
}
