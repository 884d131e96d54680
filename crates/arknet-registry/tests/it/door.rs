//! One registry behind its door.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
    sync::Arc,
};

use arknet_registry::{
    CertificateFiles, ClientError, Listing, Rate, RegistryClient, RegistryServer, ServerOptions,
    Sqlite, Store,
};
use arknet_types::{
    EntryBody, NetworkId, RegistryEntry, RegistryWithdrawal,
    limits::{CLOCK_SKEW_MS_MAX, REGISTRY_ENTRY_BYTES_MAX},
};
use serde_json::Value;
use tokio::{net::TcpListener, task::spawn_blocking};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::entries::{Clock, HOUR_MS, body, entry, key, model, name, network, withdrawal};

/// A running registry and a client of it.
pub(crate) struct Registry {
    pub(crate) client: Arc<RegistryClient>,
    pub(crate) url: String,
    pub(crate) certificate: PathBuf,
    clock: Clock,
    directories: Vec<tempfile::TempDir>,
    _stop: DropGuard,
}

impl Registry {
    pub(crate) async fn start(
        store: Arc<dyn Store>,
        clock: &Clock,
        change: impl FnOnce(&mut ServerOptions),
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let files = CertificateFiles {
            certificate: directory.path().join("cert.pem"),
            key: directory.path().join("key.pem"),
        };
        let names = vec![name("127.0.0.1")];
        files.make_missing(&names).unwrap();
        let certificate = files.certificate.clone();
        let now = clock.clone();
        let mut options = ServerOptions::new(network(), names, files, Arc::new(move || now.now()));
        change(&mut options);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = RegistryServer::start(listener, options, store).await.unwrap();
        let url = format!("https://{}", server.address());
        let stop = CancellationToken::new();
        tokio::spawn(server.run(stop.clone()));
        let client = RegistryClient::new(&url, Some(&certificate), network()).unwrap();
        Self {
            client: Arc::new(client),
            url,
            certificate,
            clock: clock.clone(),
            directories: vec![directory],
            _stop: stop.drop_guard(),
        }
    }

    /// A registry of its own with a file of its own.
    async fn alone(change: impl FnOnce(&mut ServerOptions)) -> (Self, Clock) {
        let directory = tempfile::tempdir().unwrap();
        let store = Sqlite::open(&directory.path().join("r.db")).unwrap();
        let clock = Clock::new();
        let mut registry = Self::start(Arc::new(store), &clock, change).await;
        registry.directories.push(directory);
        (registry, clock)
    }

    pub(crate) async fn register(&self, entry: RegistryEntry) -> Result<(), String> {
        let client = Arc::clone(&self.client);
        spawn_blocking(move || client.register(&entry)).await.unwrap().map_err(code)
    }

    pub(crate) async fn withdraw(&self, withdrawal: RegistryWithdrawal) -> Result<(), String> {
        let client = Arc::clone(&self.client);
        spawn_blocking(move || client.withdraw(&withdrawal)).await.unwrap().map_err(code)
    }

    pub(crate) async fn list(&self, wanted: Option<&str>) -> Result<Listing, String> {
        let (client, wanted) = (Arc::clone(&self.client), wanted.map(model));
        let now = self.clock.now();
        let listed = spawn_blocking(move || client.list(wanted.as_ref(), None, 1000, now));
        listed.await.unwrap().map_err(code)
    }

    /// A request as any program may make it; the status, and the answer.
    async fn ask(&self, method: &'static str, path: &str, body: Vec<u8>) -> (u16, Value) {
        self.ask_as(method, path, body, None).await
    }

    async fn ask_as(
        &self,
        method: &'static str,
        path: &str,
        body: Vec<u8>,
        forwarded: Option<&'static str>,
    ) -> (u16, Value) {
        let (agent, url) = (agent(&self.certificate), format!("{}{path}", self.url));
        let asked = spawn_blocking(move || {
            let mut request = ureq::http::Request::builder().method(method).uri(url);
            if let Some(forwarded) = forwarded {
                request = request.header("x-forwarded-for", forwarded);
            }
            let mut response = agent.run(request.body(body).unwrap()).unwrap();
            let answer = response.body_mut().read_to_string().unwrap();
            (response.status().as_u16(), serde_json::from_str(&answer).unwrap())
        });
        asked.await.unwrap()
    }
}

/// A client that knows this certificate and nothing of registries.
fn agent(certificate: &PathBuf) -> ureq::Agent {
    let pem = std::fs::read(certificate).unwrap();
    let root = ureq::tls::Certificate::from_pem(&pem).unwrap();
    let tls = ureq::tls::TlsConfig::builder().root_certs([root].into_iter().into()).build();
    let config = ureq::Agent::config_builder().http_status_as_error(false).tls_config(tls);
    config.allow_non_standard_methods(true).build().into()
}

fn code(error: ClientError) -> String {
    match error {
        ClientError::Refused { code, .. } => code,
        error => error.to_string(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_enters_is_found_and_leaves() {
    let (registry, _) = Registry::alone(|_| {}).await;
    assert_eq!(
        registry.list(None).await.unwrap(),
        Listing { is_complete: true, ..Listing::default() }
    );
    let there = entry(&key(1), 1, &["a", "b"]);
    registry.register(there.clone()).await.unwrap();
    registry.register(entry(&key(2), 1, &["b"])).await.unwrap();
    assert_eq!(registry.list(Some("a")).await.unwrap().entries, [there]);
    assert_eq!(registry.list(Some("b")).await.unwrap().entries.len(), 2);
    registry.withdraw(withdrawal(&key(1), 2)).await.unwrap();
    assert_eq!(registry.list(Some("a")).await.unwrap().entries, []);
    assert_eq!(registry.list(None).await.unwrap().entries.len(), 1);
    let (status, health) = registry.ask("GET", "/health", vec![]).await;
    assert_eq!((status, &health["status"]), (200, &"ok".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_count_is_refused_by_its_code() {
    let (registry, clock) = Registry::alone(|_| {}).await;
    let key = key(1);
    let sign = |change: fn(&mut EntryBody)| {
        let mut body = body(&key, 5, &["a"]);
        change(&mut body);
        RegistryEntry::sign(body, &key)
    };
    let mut forged = sign(|_| {});
    forged.body.endpoint = "192.0.2.66:1".parse().unwrap();
    for (entry, expected) in [
        (forged, "forged"),
        (sign(|b| b.network = NetworkId::new("other").unwrap()), "wrong_network"),
        (sign(|b| b.registry = name("other.example")), "wrong_registry"),
        (sign(|b| b.expires_at = b.issued_at.plus_ms(24 * HOUR_MS + 1)), "lifetime"),
        (
            sign(|b| {
                b.issued_at = b.issued_at.plus_ms(CLOCK_SKEW_MS_MAX + 1);
            }),
            "future_dated",
        ),
    ] {
        assert_eq!(registry.register(entry).await.unwrap_err(), expected);
    }
    let good = sign(|_| {});
    registry.register(good.clone()).await.unwrap();
    assert_eq!(registry.register(good.clone()).await.unwrap_err(), "superseded");
    clock.pass_ms(60_000);
    let late = withdrawal(&key, 6);
    assert_eq!(registry.withdraw(late).await.unwrap_err(), "expired");
    clock.pass_ms(HOUR_MS);
    assert_eq!(registry.register(good).await.unwrap_err(), "expired");
    assert_eq!(registry.list(None).await.unwrap().entries, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_none_are_refused_by_their_code() {
    let (registry, _) = Registry::alone(|options| {
        options.writes = Rate { per_minute: 1000 };
    })
    .await;
    let long = vec![b' '; REGISTRY_ENTRY_BYTES_MAX + 1];
    for (method, path, body, status, code) in [
        ("POST", "/v1/entries", long, 413, "too_large"),
        ("POST", "/v1/entries", b"{}".to_vec(), 400, "malformed"),
        ("POST", "/v1/withdrawals", b"[".to_vec(), 400, "malformed"),
        ("GET", "/v1/entries?limit=0", vec![], 400, "invalid_query"),
        ("GET", "/v1/entries?limit=101", vec![], 400, "invalid_query"),
        ("GET", "/v1/entries?after=x", vec![], 400, "invalid_query"),
        ("GET", "/v1/entries?model=a%20b", vec![], 400, "invalid_query"),
        ("GET", "/v1/entries?color=red", vec![], 400, "invalid_query"),
        ("DELETE", "/v1/entries", vec![], 404, "not_found"),
        ("GET", "/", vec![], 404, "not_found"),
    ] {
        let (found, answer) = registry.ask(method, path, body).await;
        assert_eq!((found, &answer["code"]), (status, &code.into()), "{method} {path}");
        assert!(answer["error"].is_string());
    }
    let (status, page) = registry.ask("GET", "/v1/entries?model=a%2Fb&limit=1", vec![]).await;
    assert_eq!((status, page), (200, serde_json::json!({ "entries": [], "next": null })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_list_comes_in_pages_from_anywhere() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(Sqlite::open(&directory.path().join("r.db")).unwrap());
    for key in (0..=200).map(key) {
        store.put(&entry(&key, 1, &["m"])).await.unwrap();
    }
    let clock = Clock::new();
    let registry = Registry::start(store, &clock, |_| {}).await;
    let whole = registry.list(Some("m")).await.unwrap();
    assert!(whole.is_complete && whole.entries.len() == 201);
    for start in [key(7).public(), whole.entries[200].body.public_key] {
        let (client, now) = (Arc::clone(&registry.client), clock.now());
        let around = spawn_blocking(move || client.list(None, Some(start), 1000, now));
        let around = around.await.unwrap().unwrap();
        assert_eq!(around, whole, "whoever begins in the middle meets all");
    }
    let (client, now) = (Arc::clone(&registry.client), clock.now());
    let some = spawn_blocking(move || client.list(None, None, 120, now)).await.unwrap().unwrap();
    assert!(!some.is_complete && some.entries.len() == 120);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_and_a_key_have_their_turns() {
    let (registry, clock) = Registry::alone(|options| {
        options.writes = Rate { per_minute: 6 };
        options.writes_of_key = Rate { per_minute: 2 };
        options.reads = Rate { per_minute: 3 };
    })
    .await;
    for sequence in 1..=2 {
        registry.register(entry(&key(1), sequence, &[])).await.unwrap();
    }
    assert_eq!(registry.register(entry(&key(1), 3, &[])).await.unwrap_err(), "rate_limited");
    registry.register(entry(&key(2), 1, &[])).await.unwrap();
    // Forged words in the name of a key do not use up its turns, but those of the address.
    let mut forged = entry(&key(3), 1, &[]);
    forged.body.sequence = 2;
    for _ in 0..2 {
        assert_eq!(registry.register(forged.clone()).await.unwrap_err(), "forged");
    }
    assert_eq!(registry.register(entry(&key(3), 1, &[])).await.unwrap_err(), "rate_limited");
    clock.pass_ms(20_000);
    registry.register(entry(&key(3), 1, &[])).await.unwrap();
    for _ in 0..3 {
        registry.list(None).await.unwrap();
    }
    assert_eq!(registry.list(None).await.unwrap_err(), "rate_limited");
    clock.pass_ms(60_000);
    registry.list(None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn forwarded_addresses_count_where_the_balancer_is_trusted() {
    for (trusted, expected) in [(vec![], 429), (vec!["127.0.0.1".parse().unwrap()], 200)] {
        let (registry, _) = Registry::alone(|options| {
            options.reads = Rate { per_minute: 1 };
            options.trusted_proxies = trusted;
        })
        .await;
        let ask = |from| registry.ask_as("GET", "/v1/entries", vec![], Some(from));
        assert_eq!(ask("192.0.2.1").await.0, 200);
        assert_eq!(ask("192.0.2.2").await.0, expected);
        assert_eq!(ask("192.0.2.1").await.0, 429);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_registry_takes_no_new_keys_and_serves_the_old_ones() {
    let (registry, _) = Registry::alone(|options| options.keys_max = 2).await;
    registry.register(entry(&key(1), 1, &[])).await.unwrap();
    registry.withdraw(withdrawal(&key(2), 1)).await.unwrap();
    assert_eq!(registry.register(entry(&key(3), 1, &[])).await.unwrap_err(), "full");
    assert_eq!(registry.withdraw(withdrawal(&key(3), 1)).await.unwrap_err(), "full");
    registry.register(entry(&key(1), 2, &[])).await.unwrap();
    registry.register(entry(&key(2), 2, &[])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_speak_tls_learns_nothing() {
    let (registry, _) = Registry::alone(|_| {}).await;
    registry.register(entry(&key(1), 1, &["m"])).await.unwrap();
    let address = registry.url.strip_prefix("https://").unwrap().to_owned();
    let plain = spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /v1/entries HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        // It may end in a reset: what matters is what came before.
        let _ = stream.read_to_end(&mut answer);
        answer
    });
    let answer = plain.await.unwrap();
    assert!(answer.len() <= 7, "an alert at most: {answer:?}");
    assert!(answer.is_empty() || answer[0] == 21, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_believes_only_the_certificate_it_knows() {
    let (registry, clock) = Registry::alone(|_| {}).await;
    let (other, _) = Registry::alone(|_| {}).await;
    let now = clock.now();
    let attempts = [
        (registry.url.clone(), Some(other.certificate.clone())),
        (registry.url.clone(), None),
        // The certificate is good, but not for this name.
        (registry.url.replace("127.0.0.1", "localhost"), Some(registry.certificate.clone())),
    ];
    for (url, ca) in attempts {
        let asked = spawn_blocking(move || {
            let client = RegistryClient::new(&url, ca.as_deref(), network()).unwrap();
            client.list(None, None, 10, now)
        });
        let error = asked.await.unwrap().unwrap_err();
        assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    }
}
