use std::{
    fs,
    sync::atomic::{AtomicU64, Ordering},
};

use arknet_protocol::audit::{HeadSeen, Problem, Report};
use arknet_types::{
    Atoms, Delegation, DelegationBody, InferRequest, Input, KeyPair, ModelName, Request, Salt,
    Timestamp,
};

use super::{disk::Disk, *};

const PEER: PublicKey = PublicKey([7; 32]);

fn options(directory: &tempfile::TempDir) -> AuditOptions {
    AuditOptions {
        path: directory.path().join("audit.log"),
        file_bytes_max: 1 << 20,
        waits_for_disk: true,
        network: NetworkId::new("test").unwrap(),
        node: PublicKey([1; 32]),
    }
}

fn request(nonce: u64) -> Request {
    let key = KeyPair::from_seed(&[1; 32]);
    let body = DelegationBody {
        network: NetworkId::new("test").unwrap(),
        wallet: key.public(),
        session: key.public(),
        spending_cap: Atoms::ZERO,
        issued_at: Timestamp(0),
        expires_at: Timestamp(100_000),
        peer_scope: None,
        model_scope: None,
    };
    let infer = InferRequest::new(ModelName::new("m").unwrap(), Input::Text("secret words".into()));
    let delegation = Delegation::sign(body, &key);
    let (me, at, cost, salt) = (key.public(), Timestamp(1), Atoms::ZERO, Salt([7; 32]));
    Request::sign(&key, &delegation, me, nonce, at, cost, salt, infer)
}

/// A request that has arrived.
fn trail(log: &AuditLog, nonce: u64) -> Trail {
    let mut trail = Trail::new(Some(log.clone()), PEER, Some("ark-neighbor-001".into()));
    trail.arrived(&request(nonce));
    trail
}

async fn answered(log: &AuditLog, nonce: u64) {
    let mut trail = trail(log, nonce);
    trail.open().await.unwrap();
    trail.durable().await.unwrap();
    let used = arknet_types::Usage { completion_tokens: 9, ..Default::default() };
    trail.went("done", used, None);
}

fn verify(options: &AuditOptions) -> Report {
    AuditFiles::new(options.path.clone()).verify(0, vec![]).unwrap()
}

fn problems(report: &Report) -> Vec<Problem> {
    report.findings.iter().map(|finding| finding.problem).collect()
}

fn events(options: &AuditOptions) -> Vec<Event> {
    let mut events = Vec::new();
    let parts = AuditFiles::new(options.path.clone()).parts().unwrap();
    each_event(&parts, |logged| {
        events.push(logged.event);
        Ok(())
    })
    .unwrap();
    events
}

#[tokio::test]
async fn requests_are_written_down_over_restarts_and_files_in_one_chain() {
    let directory = tempfile::tempdir().unwrap();
    let options = AuditOptions { file_bytes_max: 4_000, ..options(&directory) };
    for life in 0..4 {
        let log = AuditLog::open(&options).unwrap();
        for nonce in 1..10 {
            answered(&log, life * 100 + nonce).await;
        }
        let mut refused = trail(&log, life * 100 + 50);
        refused.refused(&Refusal::new(RefusalCode::NotPermitted, "no"));
        drop(refused);
        log.stop();
    }
    let report = verify(&options);
    assert!(report.is_sound(), "{:?}", report.findings);
    // The first line, and in each life start, 9 requests, a refusal and stop.
    assert_eq!(report.lines, 1 + 4 * (1 + 18 + 1 + 1));
    assert!(report.open.is_empty() && report.interrupted.is_empty());
    let files = AuditFiles::new(options.path.clone());
    assert!(files.parts().unwrap().len() > 3, "several files");
    let tail = files.tail(30).unwrap();
    assert_eq!(tail.len(), 30, "over more than one file");
    assert!(tail[29].contains("\"event\":\"stop\""));
    for part in files.parts().unwrap() {
        assert!(!fs::read_to_string(part).unwrap().contains("secret"));
    }
    let done = events(&options).into_iter().filter(|event| {
        matches!(event, Event::Close { outcome, tokens_generated: 9, peer, .. }
            if outcome == "done" && *peer == PEER.to_string())
            && format!("{event:?}").contains("ark-neighbor-001")
    });
    assert_eq!(done.count(), 36);
}

#[tokio::test]
async fn a_node_that_died_in_between_says_so_when_it_is_back() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(&directory);
    let log = AuditLog::open(&options).unwrap();
    answered(&log, 1).await;
    let mut cut = trail(&log, 2);
    cut.open().await.unwrap();
    cut.durable().await.unwrap();
    // What a kill leaves: the files as they are, and the beginning of a line.
    let copy = tempfile::tempdir().unwrap();
    let after = AuditOptions { path: copy.path().join("audit.log"), ..self::options(&copy) };
    for ending in ["", ".head"] {
        let name = format!("audit.log{ending}");
        fs::copy(directory.path().join(&name), copy.path().join(&name)).unwrap();
    }
    let mut text = fs::read(&after.path).unwrap();
    text.extend(b"{\"sequence\":99,");
    fs::write(&after.path, text).unwrap();
    let log = AuditLog::open(&after).unwrap();
    log.stop();
    let report = verify(&after);
    assert!(report.is_sound(), "{:?}", report.findings);
    assert_eq!(report.interrupted.len(), 1);
    let start = events(&after).into_iter().rfind(|event| matches!(event, Event::Start { .. }));
    let Some(Event::Start { unclosed, torn_bytes, head, .. }) = start else { panic!("no start") };
    assert_eq!((unclosed, torn_bytes, head), (1, 15, HeadSeen::Agrees));
    drop(cut);
}

#[tokio::test]
async fn what_is_cut_off_while_the_node_is_down_stays_to_be_seen() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(&directory);
    let log = AuditLog::open(&options).unwrap();
    for nonce in 1..5 {
        answered(&log, nonce).await;
    }
    log.stop();
    let whole = fs::read_to_string(&options.path).unwrap();
    let head = fs::read(AuditFiles::new(options.path.clone()).head_path()).unwrap();
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();
    let restart = || {
        let log = AuditLog::open(&options).unwrap();
        log.stop();
        problems(&verify(&options))
    };
    let cut = lines[..6].concat();
    fs::write(&options.path, &cut).unwrap();
    let found = restart();
    assert!(found.iter().any(|p| matches!(p, Problem::HeadDiffered { .. })), "{found:?}");
    assert!(found.iter().any(|p| matches!(p, Problem::OutOfOrder { expected: 6, .. })));

    // With the head gone too the gap is not known, but that it is gone is.
    fs::write(&options.path, &cut).unwrap();
    fs::remove_file(AuditFiles::new(options.path.clone()).head_path()).unwrap();
    assert_eq!(problems(&verify(&options)), [Problem::NoHead]);
    let found = restart();
    assert!(found.iter().any(|p| matches!(p, Problem::HeadMissing { .. })), "{found:?}");

    // A log that is gone as a whole.
    fs::remove_file(&options.path).unwrap();
    fs::write(AuditFiles::new(options.path.clone()).head_path(), head).unwrap();
    let found = restart();
    assert!(found.iter().any(|p| matches!(p, Problem::BeginningMissing { .. })), "{found:?}");
}

/// A disk with so much room, which writes what fits and then fails.
struct Small {
    room: Arc<AtomicU64>,
    bytes: Arc<Mutex<Vec<u8>>>,
    fails_to_sync: Arc<AtomicU64>,
}

impl Disk for Small {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut held = lock(&self.bytes);
        let room = usize::try_from(self.room.load(Ordering::Relaxed)).unwrap() - held.len();
        held.extend(&bytes[..bytes.len().min(room)]);
        if bytes.len() > room { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync(&mut self) -> io::Result<()> {
        let fails = self.fails_to_sync.load(Ordering::Relaxed);
        self.fails_to_sync.store(fails.saturating_sub(1), Ordering::Relaxed);
        if fails > 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        lock(&self.bytes).truncate(usize::try_from(bytes).unwrap());
        Ok(())
    }

    fn note(&mut self, _: Head) -> io::Result<()> {
        Ok(())
    }

    fn rotate(&mut self, _: u64) -> io::Result<()> {
        Ok(())
    }
}

fn small(room: u64) -> (AuditLog, Small) {
    let disk = Small {
        room: Arc::new(AtomicU64::new(room)),
        bytes: Arc::default(),
        fails_to_sync: Arc::default(),
    };
    let handles = Small {
        room: Arc::clone(&disk.room),
        bytes: Arc::clone(&disk.bytes),
        fails_to_sync: Arc::clone(&disk.fails_to_sync),
    };
    let found = disk::Found {
        last: None,
        head: HeadSeen::Agrees,
        first: 0,
        bytes: 0,
        unclosed: 0,
        torn_bytes: 0,
    };
    let mut writer = Writer::new(disk, found, 1 << 30);
    let directory = tempfile::tempdir().unwrap();
    writer.begin(&options(&directory)).unwrap();
    (AuditLog::start(writer, true), handles)
}

fn written(disk: &Small, directory: &tempfile::TempDir) -> Report {
    let path = directory.path().join("copy");
    fs::write(&path, &*lock(&disk.bytes)).unwrap();
    super::verify(&[path], Some(0), vec![]).unwrap()
}

#[tokio::test]
async fn a_full_disk_stops_remote_work_and_nothing_is_lost_of_what_ran() {
    let directory = tempfile::tempdir().unwrap();
    let (log, disk) = small(6_000);
    let mut running = Vec::new();
    let mut nonce = 0;
    let refusal = loop {
        nonce += 1;
        let mut next = trail(&log, nonce);
        match next.open().await {
            Ok(()) => running.push(next),
            Err(refusal) => break refusal,
        }
    };
    assert_eq!(refusal.code, RefusalCode::ProviderFailed);
    assert!(refusal.detail.contains("audit log"), "{refusal}");
    assert!(running.len() > 5);
    let mut status = log.shared.status.subscribe();
    status.wait_for(|status| status.failure.is_some()).await.unwrap();
    assert!(trail(&log, 900).open().await.is_err(), "still full");
    // What runs ends while nothing can be written.
    let ended = running.len();
    drop(running);
    disk.room.store(1 << 20, Ordering::Relaxed);
    status.wait_for(|status| status.failure.is_none()).await.unwrap();
    answered(&log, 1_000).await;
    log.stop();
    let report = written(&disk, &directory);
    assert!(report.is_sound(), "{:?}", report.findings);
    assert!(report.open.is_empty() && report.interrupted.is_empty(), "{:?}", report.open);
    // Begin, start, what ran, the one that was refused late, the one after, stop.
    assert_eq!(report.lines, 2 + 2 * (ended as u64 + 1 + 1) + 1);
}

#[tokio::test]
async fn a_disk_that_does_not_confirm_is_written_to_again() {
    let directory = tempfile::tempdir().unwrap();
    let (log, disk) = small(1 << 20);
    answered(&log, 1).await;
    disk.fails_to_sync.store(1, Ordering::Relaxed);
    let mut unsure = trail(&log, 2);
    unsure.open().await.unwrap();
    let refusal = unsure.durable().await.unwrap_err();
    unsure.refused(&refusal);
    drop(unsure);
    let mut status = log.shared.status.subscribe();
    status.wait_for(|status| status.failure.is_none()).await.unwrap();
    answered(&log, 3).await;
    log.stop();
    let report = written(&disk, &directory);
    assert!(report.is_sound(), "{:?}", report.findings);
    assert_eq!((report.lines, report.open.len()), (2 + 6 + 1, 0));
}

#[tokio::test]
async fn a_flood_of_refusals_leaves_a_few_lines_and_its_count() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(&directory);
    let log = AuditLog::open(&options).unwrap();
    for nonce in 0..2_000 {
        trail(&log, nonce).refused(&Refusal::new(RefusalCode::NotPermitted, "no"));
    }
    log.stop();
    let refused: Vec<(Option<String>, u64)> = events(&options)
        .into_iter()
        .filter_map(|event| match event {
            Event::Refused { model, uncounted, .. } => Some((model, uncounted)),
            _ => None,
        })
        .collect();
    assert!(refused.len() < 20, "{} lines", refused.len());
    let own = refused.iter().filter(|(model, _)| model.is_some()).count() as u64;
    assert_eq!(own + refused.iter().map(|(_, counted)| counted).sum::<u64>(), 2_000);
    assert!(verify(&options).is_sound());
}
