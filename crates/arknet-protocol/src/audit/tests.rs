use arknet_types::{PublicKey, Timestamp};
use proptest::prelude::*;

use super::*;

const T: Timestamp = Timestamp(1_796_000_000_123);

fn open(n: u64) -> Event {
    Event::Open {
        job: format!("{n:032x}"),
        peer: "12D3KooWPeer".into(),
        node_id: Some("Dave's \"Ark\"\n".into()),
        model: "qwen3.5:35b".into(),
        asks: "chat".into(),
    }
}

fn close(n: u64) -> Event {
    Event::Close {
        job: format!("{n:032x}"),
        peer: "12D3KooWPeer".into(),
        node_id: None,
        model: "qwen3.5:35b".into(),
        outcome: "done".into(),
        tokens_generated: 7,
        tokens_read: 3,
        latency_ms: 1234,
        first_token_ms: Some(12),
        receipt: None,
    }
}

fn begin() -> Event {
    Event::Begin {
        version: 1,
        network: "test".into(),
        node: "12D3KooWMe".into(),
        start: "ab".repeat(32),
    }
}

fn start(head: HeadSeen) -> Event {
    Event::Start { program: "0.1.0".into(), unclosed: 0, torn_bytes: 0, head }
}

/// A log of so many lines, and its head.
fn log(lines: u64) -> (Vec<String>, Head) {
    let mut chain = Chain::new();
    let mut made = vec![chain.append(T, &begin())];
    for n in 1..lines {
        let event = if n % 2 == 1 { open(n / 2) } else { close((n - 1) / 2) };
        made.push(chain.append(T.plus_ms(n), &event));
    }
    (made, chain.head().unwrap())
}

fn check(bytes: &[u8], known: Vec<Head>) -> Report {
    let mut verifier = Verifier::new(Some(0), known);
    let mut at = Place::default();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        at.line += 1;
        match line.strip_suffix(b"\n") {
            Some(line) => verifier.line(at, line),
            None => verifier.torn(at),
        }
    }
    verifier.finish()
}

#[test]
fn a_whole_log_is_sound_and_says_what_the_document_asks_for() {
    let (lines, head) = log(9);
    let report = check(lines.concat().as_bytes(), vec![head]);
    assert!(report.is_sound(), "{:?}", report.findings);
    assert_eq!((report.lines, report.first, report.head), (9, Some(0), Some(head)));
    assert!(report.open.is_empty() && report.interrupted.is_empty());
    let closing: serde_json::Value = serde_json::from_str(&lines[2]).unwrap();
    for (key, value) in [
        ("timestamp", "2026-11-30T00:53:20.125Z".into()),
        ("peer", "12D3KooWPeer".into()),
        ("model", "qwen3.5:35b".into()),
        ("tokens_generated", 7.into()),
        ("latency_ms", 1234.into()),
        ("outcome", "done".into()),
        ("receipt", serde_json::Value::Null),
    ] {
        assert_eq!(closing[key], value, "{key}");
    }
}

#[test]
fn a_line_is_checked_by_anybody_who_has_sha256() {
    use sha2::{Digest, Sha256};
    let (lines, _) = log(2);
    let (body, rest) = lines[1].split_once(",\"hash\":\"").unwrap();
    assert_eq!(rest.trim_end().strip_suffix("\"}").unwrap(), hex::encode(Sha256::digest(body)));
    assert!(lines[1].contains(&lines[0][lines[0].len() - 67..lines[0].len() - 3]), "the link");
}

#[test]
fn a_cut_end_shows_against_the_head_and_against_no_other() {
    let (lines, head) = log(10);
    for left in 0..10 {
        let report = check(lines[..left].concat().as_bytes(), vec![head]);
        let expected = Problem::EndMissing { known: 9 };
        assert_eq!(report.findings.last().map(|f| f.problem), Some(expected), "{left} left");
    }
    assert!(check(lines[..5].concat().as_bytes(), vec![]).is_sound(), "no chain shows this");
    let text = lines.concat();
    let torn = check(&text.as_bytes()[..text.len() - 1], vec![head]);
    assert_eq!(torn.findings[0].problem, Problem::Unfinished, "the end of the last line");
}

#[test]
fn a_log_made_anew_is_not_the_one_whose_head_was_noted() {
    let (_, head) = log(10);
    let mut chain = Chain::new();
    let other = Event::Begin {
        version: 1,
        network: "test".into(),
        node: "12D3KooWMe".into(),
        start: "cd".repeat(32),
    };
    let mut forged = chain.append(T, &other);
    for n in 1..12 {
        forged.push_str(&chain.append(T, &close(n)));
    }
    let report = check(forged.as_bytes(), vec![head]);
    let problems: Vec<_> = report.findings.iter().map(|f| f.problem).collect();
    assert_eq!(problems, [Problem::Replaced { sequence: 9 }]);
}

#[test]
fn a_kill_between_question_and_answer_is_seen() {
    let mut chain = Chain::new();
    let mut text = chain.append(T, &begin());
    for event in [open(1), open(2), close(1), start(HeadSeen::Agrees), open(3)] {
        text.push_str(&chain.append(T, &event));
    }
    let report = check(text.as_bytes(), vec![]);
    assert!(report.is_sound());
    assert_eq!(report.interrupted, [format!("{:032x}", 2)]);
    assert_eq!(report.open, [format!("{:032x}", 3)]);
}

#[test]
fn what_the_node_saw_when_it_started_stays_to_be_seen() {
    for (seen, problem) in [
        (HeadSeen::Missing, Problem::HeadMissing { sequence: 1 }),
        (HeadSeen::Differs, Problem::HeadDiffered { sequence: 1 }),
    ] {
        let mut chain = Chain::new();
        let text = chain.append(T, &begin()) + &chain.append(T, &start(seen));
        assert_eq!(check(text.as_bytes(), vec![]).findings[0].problem, problem);
    }
}

#[test]
fn a_part_of_a_log_is_checked_from_its_first_line_on() {
    let (lines, head) = log(10);
    let part = lines[4..].concat();
    let missing = Problem::BeginningMissing { first: 4 };
    assert_eq!(check(part.as_bytes(), vec![head]).findings[0].problem, missing);
    for first in [Some(4), None] {
        let mut verifier = Verifier::new(first, vec![head]);
        for line in part.lines() {
            verifier.line(Place::default(), line.as_bytes());
        }
        assert!(verifier.finish().is_sound());
    }
}

#[test]
fn every_flipped_bit_of_a_short_log_is_found() {
    let (lines, head) = log(4);
    let text = lines.concat().into_bytes();
    for at in 0..text.len() {
        for bit in 0..8 {
            let mut bytes = text.clone();
            bytes[at] ^= 1 << bit;
            assert!(!check(&bytes, vec![head]).is_sound(), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn a_head_is_read_as_it_is_written() {
    let head = Head { sequence: 12, hash: [0xab; 32] };
    assert_eq!(head.to_string().parse(), Ok(head));
    for bad in ["", "1", "1:ab", "x:00", ":"] {
        assert_eq!(bad.parse::<Head>(), Err(HeadError), "{bad}");
    }
}

/// What an attacker does to a log.
#[derive(Clone, Debug)]
enum Tampering {
    Flip(usize, u8),
    Remove(usize),
    Swap(usize, usize),
    Repeat(usize, usize),
    Insert(usize),
    Cut(usize),
}

fn tampering(lines: usize) -> impl Strategy<Value = Tampering> {
    let at = move || 0..lines;
    prop_oneof![
        (0..usize::MAX, 1..=255_u8).prop_map(|(at, mask)| Tampering::Flip(at, mask)),
        at().prop_map(Tampering::Remove),
        (at(), at()).prop_map(|(a, b)| Tampering::Swap(a, b)),
        (at(), at()).prop_map(|(a, b)| Tampering::Repeat(a, b)),
        at().prop_map(Tampering::Insert),
        (0..usize::MAX).prop_map(Tampering::Cut),
    ]
}

/// Tampers with a log of so many lines, so many times.
fn tamper(lines: u64, cases: u32) {
    let (made, head) = log(lines);
    let text = made.concat().into_bytes();
    assert!(check(&text, vec![head]).is_sound());
    let extra = Chain::new().append(T, &close(1));
    let config = ProptestConfig { cases, ..ProptestConfig::default() };
    proptest!(config, |(change in tampering(made.len()))| {
        let mut moved: Vec<&str> = made.iter().map(String::as_str).collect();
        match change {
            Tampering::Remove(at) => drop(moved.remove(at)),
            Tampering::Swap(a, b) => moved.swap(a, b),
            Tampering::Repeat(from, to) => moved.insert(to, &made[from]),
            Tampering::Insert(at) => moved.insert(at, &extra),
            Tampering::Flip(..) | Tampering::Cut(_) => {}
        }
        let mut bytes = moved.concat().into_bytes();
        match change {
            Tampering::Flip(at, mask) => bytes[at % text.len()] ^= mask,
            Tampering::Cut(at) => bytes.truncate(at % text.len()),
            _ => {}
        }
        prop_assume!(bytes != text);
        prop_assert!(!check(&bytes, vec![head]).is_sound());
    });
}

#[test]
fn one_change_in_ten_thousand_lines_is_found() {
    tamper(10_000, 12);
}

#[test]
fn any_change_of_a_log_is_found() {
    tamper(60, 400);
}

#[test]
fn a_flood_of_refusals_is_counted_and_does_not_become_a_flood_of_lines() {
    let mut meter = RefusalMeter::new();
    let peer = |n: u64| {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&n.to_be_bytes());
        PublicKey(key)
    };
    let (mut written, mut counted, mut summaries) = (0_u64, 0_u64, 0_u64);
    // An hour of 100 refusals a second, by ever new peers and by one that is always the same.
    for n in 0..360_000 {
        let from = if n % 2 == 0 { peer(0) } else { peer(n) };
        if let Noted::Write { uncounted } = meter.note(from, T.plus_ms(n * 10)) {
            written += 1;
            counted += uncounted;
        }
        if n % 60_000 == 59_999 {
            let summary = meter.summary();
            assert!(summary.len() <= 9);
            summaries += summary.len() as u64;
            counted += summary.iter().map(|(_, count)| count).sum::<u64>();
        }
    }
    assert!(written + summaries < 60 + 720 + 60, "{written} and {summaries} lines");
    assert_eq!(written + counted, 360_000, "each is written or counted");
    assert!(meter.summary().is_empty());
}

#[test]
fn a_clock_that_was_set_back_does_not_silence_the_log() {
    let mut meter = RefusalMeter::new();
    let peer = PublicKey([1; 32]);
    for _ in 0..100 {
        meter.note(peer, T.plus_ms(86_400_000));
    }
    let later = T.plus_ms(31_000);
    assert_eq!(meter.note(peer, T), Noted::Count);
    assert!(matches!(meter.note(peer, later), Noted::Write { uncounted: 91 }));
}
