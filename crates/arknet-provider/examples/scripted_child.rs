//! The process of a model without a model: does what a request's text tells it to. The tests start
//! it in place of the real one.

use std::{
    collections::HashMap,
    fs,
    io::{self, Write as _},
    path::Path,
    process,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arknet_provider::{Generation, ModelDetails, ModelInfo, Models, Provider, Seat, child};
use arknet_types::{
    Capabilities, FinishReason, InferRequest, Input, Refusal, RefusalCode, Reply, Usage,
};
use tokio::sync::{mpsc, watch};

fn main() -> io::Result<()> {
    if std::env::args().nth(1).is_some_and(|arg| arg == "parent") {
        return parent();
    }
    // The channel is taken from standard output soon; this copy is for breaking it.
    let channel = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 10)?;
    child::run(|setup| open(&setup, fs::File::from(channel)))
}

/// Stands between a test and a child, to be killed: opens a child, has it begin an answer, says the
/// child's process number, and waits for ever.
fn parent() -> io::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let options = child::ChildOptions {
            program: std::env::current_exe()?,
            args: vec![],
            env: vec![],
            open_time_max: Duration::from_secs(60),
            silence_max: Duration::from_secs(600),
        };
        let (child, exit) =
            child::Child::open(&options, b"m 4".to_vec()).await.map_err(io::Error::other)?;
        let request = InferRequest::new(child.info().name.clone(), Input::Text("spin".into()));
        let mut generation = child.generate(request).map_err(io::Error::other)?;
        generation.next().await;
        writeln!(io::stdout(), "{}", child.process_id())?;
        exit.wait().await;
        Ok(())
    })
}

/// `NAME SLOTS [how]`.
fn open(setup: &[u8], channel: fs::File) -> Result<Arc<dyn Provider>, String> {
    let setup = String::from_utf8_lossy(setup);
    let mut words = setup.split(' ');
    let name = words.next().unwrap_or_default().parse().map_err(|_| "no name".to_owned())?;
    let slots = words.next().and_then(|n| n.parse().ok()).unwrap_or(1);
    match words.next() {
        Some("fail") => return Err("the file is not a model".into()),
        Some("abort") => process::abort(),
        Some("hang") => loop {
            std::thread::park();
        },
        // Fails as long as there is such a file.
        Some("unless") if Path::new(words.next().unwrap_or_default()).exists() => {
            return Err("the file is in the way".into());
        }
        _ => {}
    }
    let toils = setup.ends_with(" toil");
    let info = ModelInfo {
        name,
        digest: None,
        projector: None,
        capabilities: Capabilities::GENERATE,
        context_tokens: 4096,
        slots,
        details: ModelDetails::default(),
    };
    let (models, _) = watch::channel([info].into());
    let counts = Arc::new(Counts::default());
    Ok(Arc::new(Scripted { models, slots, toils, counts, channel, kept: Mutex::default() }))
}

struct Scripted {
    models: watch::Sender<Arc<[ModelInfo]>>,
    slots: u16,
    /// Gets on with its work, though it says nothing.
    toils: bool,
    counts: Arc<Counts>,
    channel: fs::File,
    /// Memory that was asked for, and work that goes on.
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    memory: Vec<u8>,
    open: HashMap<u64, mpsc::Sender<Reply>>,
}

#[derive(Default)]
struct Counts {
    begun: AtomicU64,
    ended: AtomicU64,
    work: AtomicU64,
}

struct Place(Arc<Counts>);

impl Seat for Place {
    fn reply_taken(&self) {}
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

fn text(text: impl Into<String>) -> Reply {
    Reply::Text { text: text.into(), tokens: 1 }
}

fn done() -> Reply {
    Reply::Done { finish: FinishReason::Stop, usage: Usage::default() }
}

impl Provider for Scripted {
    fn models(&self) -> Models {
        self.models.subscribe()
    }

    fn progress(&self) -> u64 {
        let work = if self.toils { 1 } else { 0 };
        self.counts.work.fetch_add(work, Ordering::Relaxed)
    }

    fn stats(&self) -> Vec<u8> {
        let Counts { begun, ended, .. } = &*self.counts;
        format!("{} {}", begun.load(Ordering::Relaxed), ended.load(Ordering::Relaxed)).into()
    }

    fn generate(&self, request: InferRequest) -> Result<Generation, Refusal> {
        let Input::Text(script) = request.input else {
            return Err(Refusal::new(RefusalCode::Unsupported, "texts alone"));
        };
        let begun = self.counts.begun.load(Ordering::Relaxed);
        if begun - self.counts.ended.load(Ordering::Relaxed) >= u64::from(self.slots) {
            return Err(Refusal::new(RefusalCode::Busy, "the process has no free place"));
        }
        self.counts.begun.fetch_add(1, Ordering::Relaxed);
        let (tx, rx) = mpsc::channel(16);
        self.act(&script, tx);
        Ok(Generation::with_seat(rx, Box::new(Place(Arc::clone(&self.counts)))))
    }
}

impl Scripted {
    fn act(&self, script: &str, tx: mpsc::Sender<Reply>) {
        let mut words = script.split(' ');
        let (what, how) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        match what {
            "say" => {
                let count: u32 = how.parse().unwrap_or(1);
                tokio::spawn(async move {
                    for index in 0..count {
                        if tx.send(text(format!("{index} "))).await.is_err() {
                            return;
                        }
                    }
                    let _ = tx.send(done()).await;
                });
            }
            // As where a thread of it met a bug: nothing is served any more.
            "break" => drop(self.models.send_replace(Arc::new([]))),
            // Begins, or does not, and never ends.
            "begin" | "hang" => {
                if what == "begin" {
                    let _ = tx.try_send(text("begun"));
                }
                let mut kept = self.kept.lock().expect("nobody panics with it");
                kept.open.retain(|_, tx| !tx.is_closed());
                kept.open.insert(self.counts.begun.load(Ordering::Relaxed), tx);
            }
            "spin" => spin(tx),
            "abort" => process::abort(),
            "exit" => process::exit(3),
            // Fails when it is asked for the first time.
            "once" if !Path::new(how).exists() => {
                let _ = fs::write(how, "");
                process::abort();
            }
            "print" => {
                let _ = io::stdout().write_all(b"this is not a frame\n");
                let _ = io::stdout().flush();
                self.act("say 1", tx);
            }
            "allocate" => {
                let bytes = how.parse().unwrap_or(0);
                // Touched, so that it is really there.
                self.kept.lock().expect("nobody panics with it").memory = vec![1; bytes];
                self.act("say 1", tx);
            }
            "garbage" => {
                let _ = (&self.channel).write_all(&[0xff; 64]);
            }
            // A reply where there is no room for one.
            "flood" => {
                let mut frames = vec![];
                let id: u64 = how.parse().unwrap_or(1);
                for _ in 0..200 {
                    child::protocol::put_reply(&mut frames, id, text("x"));
                }
                let _ = (&self.channel).write_all(&frames);
            }
            "nan" => {
                let _ = tx.try_send(Reply::Scores(vec![f32::NAN]));
            }
            _ => {
                let _ = tx.try_send(text("again"));
                let _ = tx.try_send(done());
            }
        }
    }
}

/// Is busy in a step that nothing interrupts, in the runtime and beside it.
fn spin(tx: mpsc::Sender<Reply>) {
    let _ = tx.try_send(text("begun"));
    for _ in 0..2 {
        std::thread::spawn(|| {
            loop {
                std::hint::spin_loop();
            }
        });
    }
    tokio::spawn(async move {
        // Until the first reply is out.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let _tx = tx;
        loop {
            std::hint::spin_loop();
        }
    });
}
