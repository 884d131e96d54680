use proptest::prelude::*;

use super::*;

const A: Asker = Asker::Peer(PublicKey([1; 32]));
const B: Asker = Asker::Peer(PublicKey([2; 32]));
const C: Asker = Asker::Peer(PublicKey([3; 32]));
const T: Timestamp = Timestamp(0);

#[test]
fn local_first_then_peers_in_turn() {
    let mut queue = SlotQueue::new(1, 8);
    assert_eq!(queue.ask(A, 0, T), Placement::Start);
    for (asker, ticket) in [(A, 1), (A, 2), (A, 3), (B, 4), (Asker::Local, 5)] {
        assert_eq!(queue.ask(asker, ticket, T), Placement::Wait);
    }
    let mut order = vec![];
    let mut running = 0;
    while let Some(next) = queue.finished(running, T) {
        order.push(next);
        running = next;
    }
    assert_eq!(order, [5, 1, 4, 2, 3]);
    assert_eq!((queue.free(), queue.waiting()), (1, 0));
}

#[test]
fn a_full_queue_says_when_to_come_again() {
    let mut queue = SlotQueue::new(1, 4);
    queue.ask(A, 0, T);
    assert_eq!(queue.ask(A, 1, T), Placement::Wait);
    assert_eq!(queue.ask(A, 2, T), Placement::Wait);
    assert!(matches!(queue.ask(A, 3, T), Placement::Busy { .. }), "half the queue for one peer");
    assert_eq!(queue.ask(B, 4, T), Placement::Wait);
    assert_eq!(queue.ask(B, 5, T), Placement::Wait);
    let Placement::Busy { retry_after_ms } = queue.ask(C, 6, T) else { panic!("full") };
    assert!(retry_after_ms >= 1_000);
    for ticket in 7..11 {
        assert_eq!(queue.ask(Asker::Local, ticket, T), Placement::Wait, "peers do not fill it");
    }
    assert!(matches!(queue.ask(Asker::Local, 11, T), Placement::Busy { .. }));
}

#[test]
fn who_gives_up_leaves_no_trace() {
    let mut queue = SlotQueue::new(1, 4);
    queue.ask(A, 0, T);
    queue.ask(A, 1, T);
    queue.ask(B, 2, T);
    assert!(queue.abandon(A, 1));
    assert!(!queue.abandon(A, 1));
    assert_eq!(queue.finished(0, T), Some(2));
    assert_eq!(queue.finished(2, T), None);
    assert_eq!(queue.finished(2, T), None, "ending twice frees nothing");
    assert_eq!(queue.free(), 1);
}

#[test]
fn the_youngest_request_of_a_peer_goes_for_the_owner() {
    let mut queue = SlotQueue::new(3, 0).preempting(Preempt::Cut);
    for (asker, ticket) in [(A, 0), (Asker::Local, 1), (B, 2)] {
        assert_eq!(queue.ask(asker, ticket, T.plus_ms(ticket)), Placement::Start);
    }
    assert!(matches!(queue.ask(A, 3, T), Placement::Busy { .. }));
    assert_eq!(queue.ask(Asker::Local, 4, T), Placement::Cut(2));
    assert_eq!(queue.ask(Asker::Local, 5, T), Placement::Cut(0), "each ends one");
    let last = queue.ask(Asker::Local, 6, T);
    assert!(matches!(last, Placement::Busy { .. }), "the owner does not end what is his");
    assert_eq!(queue.finished(2, T), Some(4));
    assert_eq!(queue.finished(1, T), Some(5), "whatever ends first is taken");
    assert_eq!(queue.finished(0, T), None);
}

/// What happens to a queue.
#[derive(Clone, Copy, Debug)]
enum Step {
    Ask(u8),
    Finish(usize),
    Abandon(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..5_u8).prop_map(Step::Ask),
        2 => (0..100_usize).prop_map(Step::Finish),
        1 => (0..100_usize).prop_map(Step::Abandon),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    #[test]
    fn the_owner_goes_first_whatever_peers_do(
        slots in 1..4_u32,
        waiting_max in 0..6_u32,
        cuts in any::<bool>(),
        steps in steps(),
    ) {
        let preempt = if cuts { Preempt::Cut } else { Preempt::Queue };
        let mut queue = SlotQueue::new(slots, waiting_max).preempting(preempt);
        let mut running: Vec<(Asker, Ticket)> = vec![];
        let mut waiting: Vec<(Asker, Ticket)> = vec![];
        let mut cut: Vec<Ticket> = vec![];
        for (ticket, step) in (0..).zip(steps) {
            let now = T.plus_ms(ticket);
            match step {
                Step::Ask(who) => {
                    let asker = [Asker::Local, A, B, C, A][usize::from(who)];
                    match queue.ask(asker, ticket, now) {
                        Placement::Start => running.push((asker, ticket)),
                        Placement::Wait => waiting.push((asker, ticket)),
                        Placement::Cut(victim) => {
                            prop_assert!(cuts && asker == Asker::Local && !cut.contains(&victim));
                            let of = running.iter().find(|(_, t)| *t == victim).map(|(a, _)| *a);
                            prop_assert!(of.is_some_and(|of| of != Asker::Local));
                            cut.push(victim);
                            waiting.push((asker, ticket));
                        }
                        Placement::Busy { .. } if asker == Asker::Local => {
                            let own = waiting.iter().filter(|(a, _)| *a == Asker::Local).count();
                            prop_assert!(own >= waiting_max as usize, "refused for peers' sake");
                            let of_peers = running.iter().filter(|(a, _)| *a != Asker::Local);
                            prop_assert!(!cuts || of_peers.count() <= own, "one could be cut");
                        }
                        Placement::Busy { .. } => {}
                    }
                }
                Step::Finish(at) if !running.is_empty() => {
                    let (_, ended) = running.remove(at % running.len());
                    cut.retain(|ticket| *ticket != ended);
                    if let Some(next) = queue.finished(ended, now) {
                        let at = waiting.iter().position(|(_, t)| *t == next).unwrap();
                        let (asker, _) = waiting.remove(at);
                        let owner_waits = waiting.iter().any(|(a, _)| *a == Asker::Local);
                        prop_assert!(asker == Asker::Local || !owner_waits);
                        running.push((asker, next));
                    } else {
                        prop_assert!(waiting.is_empty());
                    }
                }
                Step::Abandon(at) if !waiting.is_empty() => {
                    let (asker, ticket) = waiting.remove(at % waiting.len());
                    prop_assert!(queue.abandon(asker, ticket));
                }
                Step::Finish(_) | Step::Abandon(_) => {}
            }
            prop_assert_eq!(queue.waiting() as usize, waiting.len());
            prop_assert_eq!((queue.total() - queue.free()) as usize, running.len());
            let of_peers = waiting.iter().filter(|(a, _)| *a != Asker::Local).count();
            prop_assert!(of_peers <= waiting_max as usize);
        }
    }
}
