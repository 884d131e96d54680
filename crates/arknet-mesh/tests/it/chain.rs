use std::sync::Arc;

use arknet_mesh::{Chain, ChainEvent, ChainOptions, Judgement, Mesh, MeshOptions, Topic};
use arknet_types::{PublicKey, frame};
use tokio::sync::mpsc;

use crate::support::{options, seeds, started, within};

const TCP: &[&str] = &["/ip4/127.0.0.1/tcp/0"];
/// A bit more than what counts as short.
const BYTES_MAX: usize = 80 * 1024;

fn following(seed: u8, of: &[&Mesh]) -> MeshOptions {
    let chain = ChainOptions {
        message_bytes_max: BYTES_MAX,
        transactions_bytes_max: BYTES_MAX,
        free_use_bytes_max: BYTES_MAX,
    };
    let seeds = of.iter().flat_map(|mesh| seeds(mesh)).collect();
    // They connect as they are told to, and to nobody else.
    let mut options = MeshOptions { chain: Some(chain), seeds, ..options(seed, TCP) };
    options.limits.chain_peers_wanted = 0;
    options
}

struct Follower {
    mesh: Mesh,
    chain: Chain,
    events: mpsc::Receiver<ChainEvent>,
}

impl Follower {
    async fn start(seed: u8, of: &[&Mesh]) -> Self {
        let (mesh, _) = started(following(seed, of)).await;
        let (chain, events) = mesh.chain().unwrap();
        assert!(mesh.chain().is_none(), "one listens");
        Self { mesh, chain, events }
    }

    async fn next(&mut self) -> ChainEvent {
        within(10, self.events.recv()).await.unwrap()
    }

    async fn joined(&mut self) -> PublicKey {
        match self.next().await {
            ChainEvent::Joined(peer) => peer,
            other => panic!("{other:?}"),
        }
    }

    async fn said(&mut self) -> (PublicKey, Vec<u8>) {
        loop {
            match self.next().await {
                ChainEvent::Said { from, bytes, .. } => return (from, bytes),
                ChainEvent::Joined(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// What comes by gossip about this: from whom, what, and the tag to judge it by.
    async fn heard(&mut self, about: Topic) -> (PublicKey, String, u64) {
        loop {
            match self.next().await {
                ChainEvent::Heard { from, topic, bytes, tag, .. } if topic == about => {
                    return (from, String::from_utf8(bytes).unwrap(), tag);
                }
                ChainEvent::Heard { .. } | ChainEvent::Joined(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

fn framed(text: &str) -> Arc<[u8]> {
    frame(text).into()
}

fn heard(text: &str) -> Vec<u8> {
    arknet_types::encode(text)
}

#[tokio::test]
async fn followers_of_the_chain_hear_each_other_and_know_who_speaks() {
    let mut one = Follower::start(1, &[]).await;
    let mut two = Follower::start(2, &[&one.mesh]).await;
    assert_eq!(one.joined().await, two.mesh.peer());
    assert_eq!(two.joined().await, one.mesh.peer());
    one.chain.broadcast(&framed("to all"), None);
    one.chain.send(&two.mesh.peer(), &framed("to you"));
    for text in ["to all", "to you"] {
        assert_eq!(two.said().await, (one.mesh.peer(), heard(text)));
    }
    one.chain.broadcast(&framed("to others"), Some(&two.mesh.peer()));
    two.chain.send(&one.mesh.peer(), &framed("to you"));
    assert_eq!(one.said().await, (two.mesh.peer(), heard("to you")));

    let gone = two.mesh.peer();
    drop(two.chain);
    two.mesh.shutdown().await;
    assert!(matches!(one.next().await, ChainEvent::Gone(peer) if peer == gone));
    // Who is gone is nobody's loss.
    one.chain.send(&gone, &framed("to nobody"));
}

#[tokio::test]
async fn short_messages_do_not_wait_for_long_ones() {
    let mut one = Follower::start(1, &[]).await;
    let mut two = Follower::start(2, &[&one.mesh]).await;
    assert_eq!(one.joined().await, two.mesh.peer());
    assert_eq!(two.joined().await, one.mesh.peer());
    // More than are read while nobody deals with them.
    for _ in 0..40 {
        one.chain.broadcast(&long(), None);
    }
    one.chain.broadcast(&framed("a vote"), None);
    one.chain.broadcast(&framed("another"), None);
    let (mut unread, mut heard_short) = (Vec::new(), Vec::new());
    while heard_short.len() < 2 {
        let ChainEvent::Said { bytes, hold, .. } = two.next().await else { panic!("it is there") };
        if bytes.len() < 100 {
            heard_short.push(bytes);
        } else {
            unread.push(hold);
        }
    }
    assert_eq!(heard_short, [heard("a vote"), heard("another")], "in their order");
    let mut there = unread.len();
    assert!(there < 40);
    drop(unread);
    while there < 40 {
        assert!(two.said().await.1.len() > 100);
        there += 1;
    }
}

/// A message that is long, and not too long.
fn long() -> Arc<[u8]> {
    frame(&vec![0_u8; BYTES_MAX - 4]).into()
}

#[tokio::test]
async fn who_does_not_follow_the_chain_is_left_in_peace_and_too_much_ends_a_stream() {
    let mut one = Follower::start(1, &[]).await;
    let deaf = MeshOptions { seeds: seeds(&one.mesh), ..options(2, TCP) };
    let (deaf, _) = started(deaf).await;
    let mut changed = one.mesh.connected_changed();
    let is_there = |_: &u64| one.mesh.connected().iter().any(|peer| peer.peer == deaf.peer());
    within(5, changed.wait_for(is_there)).await.unwrap();
    let mut three = Follower::start(3, &[&one.mesh]).await;
    assert_eq!(one.joined().await, three.mesh.peer());
    assert!(deaf.chain().is_none());
    let too_long: Arc<[u8]> = frame(&vec![0_u8; BYTES_MAX]).into();
    three.chain.broadcast(&too_long, None);
    three.joined().await;
    assert!(matches!(three.next().await, ChainEvent::Gone(_)), "the stream is reset");
    // It opens another one, and what is said there is heard.
    three.joined().await;
    three.chain.broadcast(&framed("short"), None);
    assert_eq!(one.said().await.1, heard("short"));
}

#[tokio::test]
async fn what_is_gossiped_is_passed_on_once_it_is_judged_to_be_good() {
    let mut one = Follower::start(1, &[]).await;
    let mut middle = Follower::start(2, &[&one.mesh]).await;
    one.joined().await;
    middle.joined().await;
    let mut far = Follower::start(3, &[&middle.mesh]).await;
    assert_eq!(far.joined().await, middle.mesh.peer());
    for topic in [Topic::Transactions, Topic::FreeUses] {
        // Whether a topic's listeners are known yet cannot be seen from outside, so it is said until
        // it is heard: each time other bytes, for what was heard is not told twice.
        let mut number = 0_u32;
        let mut tell = async |text: &str, to: &mut Follower| {
            loop {
                number += 1;
                one.chain.gossip(topic, format!("{text} {number}").into_bytes());
                let heard = std::time::Duration::from_millis(200);
                if let Ok((_, text, tag)) = tokio::time::timeout(heard, to.heard(topic)).await {
                    return (text, tag);
                }
            }
        };
        let (mut text, mut tag) = tell("bad", &mut middle).await;
        assert!(text.starts_with("bad"), "{text}");
        while !text.starts_with("good") {
            middle.chain.judge(tag, Judgement::Ignore);
            (text, tag) = tell("good", &mut middle).await;
        }
        middle.chain.judge(tag, Judgement::Accept);
        let (from, accepted, _) = far.heard(topic).await;
        assert_eq!(accepted, text, "what was not accepted does not come");
        assert_eq!(from, middle.mesh.peer(), "who passed it on");
    }
}

#[tokio::test]
async fn nothing_is_read_of_who_is_barred_and_what_is_only_announced_holds_nobody_up() {
    let mut one = Follower::start(1, &[]).await;
    let two = Follower::start(2, &[&one.mesh]).await;
    let three = Follower::start(3, &[&one.mesh]).await;
    let mut joined = [one.joined().await, one.joined().await];
    joined.sort_unstable();
    let mut expected = [two.mesh.peer(), three.mesh.peer()];
    expected.sort_unstable();
    assert_eq!(joined, expected);
    // The head of a frame, and nothing of its body.
    let head: Arc<[u8]> = u32::try_from(BYTES_MAX).unwrap().to_le_bytes().to_vec().into();
    two.chain.broadcast(&head, None);
    three.chain.broadcast(&framed("first"), None);
    assert_eq!(one.said().await, (three.mesh.peer(), heard("first")));
    one.chain.bar(three.mesh.peer());
    three.chain.broadcast(&framed("second"), None);
    // Its stream ends, and it opens another one, on which it is not heard either.
    let mut three = three;
    loop {
        if let ChainEvent::Gone(_) = three.next().await {
            break;
        }
    }
}
