//! How long a registry of 100,000 entries on SQLite takes to list the nodes of one model: in the
//! database, and over HTTPS. Fails where the 99th percentile is not below 50 ms.
//!
//! `cargo run --release -p arknet-registry --example list_latency [ENTRIES]`

use std::{
    io::{self, Write},
    sync::Arc,
    time::{Duration, Instant},
};

use arknet_registry::{
    CertificateFiles, Query, Rate, RegistryServer, ServerOptions, Sqlite, Store,
};
use arknet_types::{
    Endpoint, EntryBody, KeyPair, ModelName, NetworkId, NodeId, PublicKey, RegistryEntry,
    RegistryName, Timestamp,
};
use tokio::{net::TcpListener, task::spawn_blocking};
use tokio_util::sync::CancellationToken;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const MODELS: u64 = 500;
const QUESTIONS: u64 = 2_000;
const P99_MAX: Duration = Duration::from_millis(50);

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let entries = std::env::args().nth(1).map_or(Ok(100_000), |count| count.parse())?;
    let directory = tempfile::tempdir()?;
    let store = Arc::new(Sqlite::open(&directory.path().join("registry.db"))?);
    let began = Instant::now();
    for number in 0..entries {
        store.put(&entry(number)?).await?;
    }
    let each = began.elapsed() / u32::try_from(entries)?.max(1);
    say(&format!("{entries} entries with 4 of {MODELS} models each, {each:.0?} to enter one"))?;
    let mut times = Vec::new();
    for number in 0..QUESTIONS {
        let query = Query { model: Some(model(number)?), after: after(number), limit: 101 };
        let began = Instant::now();
        let found = store.list(&query, NOW).await?;
        times.push(began.elapsed());
        drop(found);
    }
    report("database", &mut times)?;
    let p99 = over_https(directory.path(), store).await?;
    if p99 >= P99_MAX {
        return Err(format!("{p99:?} is not below {P99_MAX:?}").into());
    }
    Ok(())
}

async fn over_https(folder: &std::path::Path, store: Arc<Sqlite>) -> Result<Duration, Failure> {
    let name = RegistryName::new("127.0.0.1")?;
    let files =
        CertificateFiles { certificate: folder.join("cert.pem"), key: folder.join("key.pem") };
    files.make_missing(std::slice::from_ref(&name))?;
    let pem = std::fs::read(&files.certificate)?;
    let mut options =
        ServerOptions::new(NetworkId::new("bench")?, vec![name], files, Arc::new(|| NOW));
    options.reads = Rate { per_minute: 1_000_000 };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let server = RegistryServer::start(listener, options, store).await?;
    let url = format!("https://{}/v1/entries", server.address());
    let stop = CancellationToken::new();
    let served = tokio::spawn(server.run(stop.clone()));
    let asked = spawn_blocking(move || {
        let root = ureq::tls::Certificate::from_pem(&pem)?;
        let tls = ureq::tls::TlsConfig::builder().root_certs([root].into_iter().into()).build();
        let agent: ureq::Agent = ureq::Agent::config_builder().tls_config(tls).build().into();
        let (mut times, mut bytes) = (Vec::new(), 0);
        for number in 0..QUESTIONS {
            let model = model(number)?;
            let mut request = agent.get(&url).query("model", model.as_str());
            if let Some(after) = after(number) {
                request = request.query("after", after.peer_id());
            }
            let began = Instant::now();
            bytes += request.call()?.body_mut().read_to_vec()?.len() as u64;
            times.push(began.elapsed());
        }
        say(&format!("{} bytes in a page on average", bytes / QUESTIONS))?;
        report("over HTTPS", &mut times)
    });
    let p99 = asked.await?;
    stop.cancel();
    served.await?;
    p99
}

fn entry(number: u64) -> Result<RegistryEntry, Failure> {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    let key = KeyPair::from_seed(&seed);
    let mut models = (0..4).map(|n| model(number * 7 + n * 113)).collect::<Result<Vec<_>, _>>()?;
    models.sort();
    models.dedup();
    let body = EntryBody {
        network: NetworkId::new("bench")?,
        registry: RegistryName::new("127.0.0.1")?,
        public_key: key.public(),
        node_id: NodeId::new(format!("ark-{number}"))?,
        endpoint: Endpoint::new("192.0.2.7:26656")?,
        models,
        sequence: 1,
        issued_at: NOW,
        expires_at: NOW.plus_ms(3_600_000),
    };
    Ok(RegistryEntry::sign(body, &key))
}

fn model(number: u64) -> Result<ModelName, Failure> {
    Ok(ModelName::new(format!("models/example-{}:8b", number % MODELS))?)
}

/// Every other question begins somewhere in the middle.
fn after(number: u64) -> Option<PublicKey> {
    let first = u8::try_from(number % 200).unwrap_or(0);
    (number % 2 == 1).then_some(PublicKey([first; 32]))
}

fn report(what: &str, times: &mut [Duration]) -> Result<Duration, Failure> {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    let (p50, p99, most) = (at(50), at(99), at(100));
    say(&format!("{what:12} p50 {p50:>9.2?}  p99 {p99:>9.2?}  most {most:>9.2?}"))?;
    Ok(p99)
}

fn say(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}
