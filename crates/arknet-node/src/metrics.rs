//! What a node counts, in the form Prometheus reads. `docs/metrics.md` is written from this file.
//!
//! Nothing here holds what a user wrote, and no label takes more values than [`LABEL_VALUES_MAX`]:
//! models and peers beyond that are counted together as `other`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write as _},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arknet_gateway::RequestRecord;
use arknet_types::{ModelName, PublicKey, Usage};
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::Histogram,
    },
    registry::{Registry, Unit},
};

/// Different models, and different peers, that are counted apart.
const LABEL_VALUES_MAX: usize = 256;
/// What is counted together beyond that.
const OTHER: &str = "other";

/// Seconds that a whole answer may take.
const ANSWER_BUCKETS: [f64; 14] =
    [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 300.0];
/// Seconds between two tokens.
const TOKEN_BUCKETS: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0];
/// Seconds the gateway itself takes.
const OVERHEAD_BUCKETS: [f64; 10] =
    [0.00001, 0.000025, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.005, 0.02, 0.1];

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct DoorLabels {
    door: &'static str,
    endpoint: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct StatusLabels {
    door: &'static str,
    endpoint: &'static str,
    status: u16,
    error: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ModelLabels {
    model: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct PeerLabels {
    model: String,
    peer: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct TokenLabels {
    model: String,
    peer: String,
    kind: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct OutcomeLabels {
    model: String,
    peer: String,
    outcome: &'static str,
}

/// Makes histograms with these buckets.
#[derive(Clone)]
struct Buckets(&'static [f64]);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

type Histograms<L> = Family<L, Histogram, Buckets>;

/// One model as the node serves it, at the moment of a scrape.
#[derive(Clone, Debug, Default)]
pub(crate) struct ModelGauges {
    pub(crate) model: String,
    pub(crate) slots: u32,
    pub(crate) slots_free: u32,
    pub(crate) waiting: u32,
    pub(crate) engine: Option<EngineGauges>,
}

/// What the process of a loaded model says.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct EngineGauges {
    pub(crate) resident_bytes: u64,
    pub(crate) restarts: u64,
    pub(crate) kv_tokens_used: u64,
    pub(crate) kv_tokens_max: u64,
    pub(crate) prefix_cache_bytes: u64,
    pub(crate) prompt_tokens: u64,
    pub(crate) cached_tokens: u64,
    pub(crate) generated_tokens: u64,
    pub(crate) draft_tokens: u64,
    pub(crate) draft_tokens_accepted: u64,
}

/// The node as a whole, at the moment of a scrape.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeGauges {
    pub(crate) models: Vec<ModelGauges>,
    pub(crate) peers_connected: usize,
    pub(crate) offers: usize,
    pub(crate) remote_requests: u32,
    pub(crate) streams_held: usize,
    pub(crate) streams_refused: u64,
    pub(crate) resident_bytes: Option<u64>,
}

/// Counts, and writes the counts down.
#[derive(Clone)]
pub(crate) struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    models: Mutex<BTreeSet<String>>,
    /// Their names, as writing one takes longer than all else here.
    peers: Mutex<BTreeMap<PublicKey, String>>,
    http_requests: Family<StatusLabels, Counter>,
    http_seconds: Histograms<DoorLabels>,
    overhead: Histograms<DoorLabels>,
    left: Family<DoorLabels, Counter>,
    first_token: Histograms<ModelLabels>,
    inter_token: Histograms<ModelLabels>,
    answers: Family<PeerLabels, Counter>,
    tokens: Family<TokenLabels, Counter>,
    served: Family<OutcomeLabels, Counter>,
    served_tokens: Family<TokenLabels, Counter>,
    served_first_token: Histograms<ModelLabels>,
    slots: Family<ModelLabels, Gauge>,
    slots_free: Family<ModelLabels, Gauge>,
    waiting: Family<ModelLabels, Gauge>,
    engine_resident: Family<ModelLabels, Gauge>,
    engine_restarts: Family<ModelLabels, Gauge>,
    kv_used: Family<ModelLabels, Gauge>,
    kv_max: Family<ModelLabels, Gauge>,
    prefix_cache: Family<ModelLabels, Gauge>,
    engine_prompt_tokens: Family<ModelLabels, Gauge>,
    engine_cached_tokens: Family<ModelLabels, Gauge>,
    engine_generated_tokens: Family<ModelLabels, Gauge>,
    engine_draft_tokens: Family<ModelLabels, Gauge>,
    engine_draft_tokens_accepted: Family<ModelLabels, Gauge>,
    peers_connected: Gauge,
    offers: Gauge,
    remote_requests: Gauge,
    streams_held: Gauge,
    streams_refused: Gauge,
    resident: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let histograms = |buckets: &'static [f64]| Buckets(buckets);
        let mut inner = Inner {
            registry: Registry::with_prefix("arknet"),
            models: Mutex::default(),
            peers: Mutex::default(),
            http_requests: Family::default(),
            http_seconds: Family::new_with_constructor(histograms(&ANSWER_BUCKETS)),
            overhead: Family::new_with_constructor(histograms(&OVERHEAD_BUCKETS)),
            left: Family::default(),
            first_token: Family::new_with_constructor(histograms(&ANSWER_BUCKETS)),
            inter_token: Family::new_with_constructor(histograms(&TOKEN_BUCKETS)),
            answers: Family::default(),
            tokens: Family::default(),
            served: Family::default(),
            served_tokens: Family::default(),
            served_first_token: Family::new_with_constructor(histograms(&ANSWER_BUCKETS)),
            slots: Family::default(),
            slots_free: Family::default(),
            waiting: Family::default(),
            engine_resident: Family::default(),
            engine_restarts: Family::default(),
            kv_used: Family::default(),
            kv_max: Family::default(),
            prefix_cache: Family::default(),
            engine_prompt_tokens: Family::default(),
            engine_cached_tokens: Family::default(),
            engine_generated_tokens: Family::default(),
            engine_draft_tokens: Family::default(),
            engine_draft_tokens_accepted: Family::default(),
            peers_connected: Gauge::default(),
            offers: Gauge::default(),
            remote_requests: Gauge::default(),
            streams_held: Gauge::default(),
            streams_refused: Gauge::default(),
            resident: Gauge::default(),
        };
        inner.register_gateway();
        inner.register_serving();
        inner.register_node();
        Self { inner: Arc::new(inner) }
    }

    /// A request of an app has ended.
    pub(crate) fn app_request_ended(&self, record: &RequestRecord) {
        let inner = &self.inner;
        let door = DoorLabels { door: record.door, endpoint: record.endpoint };
        let status = StatusLabels {
            door: record.door,
            endpoint: record.endpoint,
            status: record.status,
            error: record.error.unwrap_or(""),
        };
        inner.http_requests.get_or_create(&status).inc();
        inner.http_seconds.get_or_create(&door).observe(record.duration.as_secs_f64());
        if record.left {
            inner.left.get_or_create(&door).inc();
        }
        if let Some(overhead) = record.until_dispatch {
            inner.overhead.get_or_create(&door).observe(overhead.as_secs_f64());
        }
        let (Some(model), Some(peer)) = (&record.model, record.peer) else { return };
        let model = self.model_label(model);
        let peer = self.peer_label(peer);
        let labels = ModelLabels { model: model.clone() };
        if let Some(first) = record.first_piece {
            inner.first_token.get_or_create(&labels).observe(first.as_secs_f64());
            let between = record.usage.completion_tokens.saturating_sub(1);
            if let (Some(last), 1..) = (record.last_piece, between) {
                let each = last.saturating_sub(first).as_secs_f64() / f64::from(between);
                inner.inter_token.get_or_create(&labels).observe(each);
            }
        }
        inner.answers.get_or_create(&PeerLabels { model: model.clone(), peer: peer.clone() }).inc();
        count_tokens(&inner.tokens, &model, &peer, record.usage);
    }

    /// A request of another peer has ended here.
    pub(crate) fn peer_request_ended(
        &self,
        model: &ModelName,
        peer: PublicKey,
        outcome: &'static str,
        first_token: Option<Duration>,
        usage: Usage,
    ) {
        let model = self.model_label(model);
        let peer = self.peer_label(peer);
        let labels = OutcomeLabels { model: model.clone(), peer: peer.clone(), outcome };
        self.inner.served.get_or_create(&labels).inc();
        count_tokens(&self.inner.served_tokens, &model, &peer, usage);
        if let Some(first) = first_token {
            let labels = ModelLabels { model };
            self.inner.served_first_token.get_or_create(&labels).observe(first.as_secs_f64());
        }
    }

    /// All of it, with the state of this moment.
    pub(crate) fn write(&self, now: &NodeGauges) -> String {
        self.inner.set(now);
        let mut text = String::with_capacity(16 << 10);
        match text::encode(&mut text, &self.inner.registry) {
            Ok(()) => text,
            Err(fmt::Error) => String::new(),
        }
    }

    fn model_label(&self, model: &ModelName) -> String {
        bounded(&self.inner.models, model.as_str())
    }

    fn peer_label(&self, peer: PublicKey) -> String {
        let mut known = self.inner.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = known.get(&peer) {
            return name.clone();
        }
        if known.len() >= LABEL_VALUES_MAX {
            return OTHER.to_owned();
        }
        known.entry(peer).or_insert_with(|| peer.to_string()).clone()
    }
}

impl Inner {
    fn register_gateway(&mut self) {
        let r = &mut self.registry;
        r.register(
            "http_requests",
            "Requests of apps, by the response's status",
            self.http_requests.clone(),
        );
        r.register_with_unit(
            "http_request_duration",
            "From a request's head to the end of its answer",
            Unit::Seconds,
            self.http_seconds.clone(),
        );
        r.register_with_unit(
            "gateway_overhead",
            "From a request's head until it was passed on: reading, checking, mapping",
            Unit::Seconds,
            self.overhead.clone(),
        );
        r.register(
            "http_clients_left",
            "Clients that left before their answer was complete",
            self.left.clone(),
        );
        r.register_with_unit(
            "time_to_first_token",
            "From a request's head to the first piece of its answer",
            Unit::Seconds,
            self.first_token.clone(),
        );
        r.register_with_unit(
            "inter_token",
            "Time between two tokens, as the mean of each answer",
            Unit::Seconds,
            self.inter_token.clone(),
        );
        r.register("answers", "Answers to apps, by who gave them", self.answers.clone());
        r.register(
            "tokens",
            "Tokens of apps' requests: of the prompt, of these cached, of the answer, of these reasoning",
            self.tokens.clone(),
        );
    }

    fn register_serving(&mut self) {
        let r = &mut self.registry;
        r.register(
            "served_requests",
            "Requests of other peers, by how they ended",
            self.served.clone(),
        );
        r.register(
            "served_tokens",
            "Tokens of other peers' requests, as in arknet_tokens",
            self.served_tokens.clone(),
        );
        r.register_with_unit(
            "served_time_to_first_token",
            "From another peer's request to the first piece of its answer, waiting included",
            Unit::Seconds,
            self.served_first_token.clone(),
        );
        r.register("slots", "Requests a model serves at once", self.slots.clone());
        r.register("slots_free", "Of these, free", self.slots_free.clone());
        r.register("queue_waiting", "Requests that wait for a slot", self.waiting.clone());
        r.register_with_unit(
            "engine_resident",
            "Resident memory of a model's process",
            Unit::Bytes,
            self.engine_resident.clone(),
        );
        r.register(
            "engine_restarts",
            "Times a model's process was started again after a failure",
            self.engine_restarts.clone(),
        );
        r.register("kv_tokens_used", "Tokens in a model's cache", self.kv_used.clone());
        r.register(
            "kv_tokens_capacity",
            "Tokens a model's cache has room for",
            self.kv_max.clone(),
        );
        r.register_with_unit(
            "prefix_cache",
            "Memory of a model's kept conversations beyond its slots",
            Unit::Bytes,
            self.prefix_cache.clone(),
        );
        r.register(
            "engine_prompt_tokens",
            "Tokens of prompts since a model's process began",
            self.engine_prompt_tokens.clone(),
        );
        r.register(
            "engine_cached_tokens",
            "Of these, not computed again",
            self.engine_cached_tokens.clone(),
        );
        r.register(
            "engine_generated_tokens",
            "Tokens generated since a model's process began",
            self.engine_generated_tokens.clone(),
        );
        r.register(
            "engine_draft_tokens",
            "Tokens guessed from what was said before, and computed with others",
            self.engine_draft_tokens.clone(),
        );
        r.register(
            "engine_draft_tokens_accepted",
            "Of these, guessed rightly",
            self.engine_draft_tokens_accepted.clone(),
        );
    }

    fn register_node(&mut self) {
        let r = &mut self.registry;
        r.register("peers_connected", "Peers with a connection", self.peers_connected.clone());
        r.register("offers_known", "Peers whose offers are known", self.offers.clone());
        r.register(
            "remote_requests",
            "Requests of other peers, running or waiting",
            self.remote_requests.clone(),
        );
        r.register(
            "streams_held",
            "Streams other peers hold open, idle ones included",
            self.streams_held.clone(),
        );
        r.register(
            "streams_refused",
            "Streams reset because a limit was reached",
            self.streams_refused.clone(),
        );
        r.register_with_unit(
            "node_resident",
            "Resident memory of the node, without the models' processes",
            Unit::Bytes,
            self.resident.clone(),
        );
    }

    fn set(&self, now: &NodeGauges) {
        let families = [
            &self.slots,
            &self.slots_free,
            &self.waiting,
            &self.engine_resident,
            &self.engine_restarts,
            &self.kv_used,
            &self.kv_max,
            &self.prefix_cache,
            &self.engine_prompt_tokens,
            &self.engine_cached_tokens,
            &self.engine_generated_tokens,
            &self.engine_draft_tokens,
            &self.engine_draft_tokens_accepted,
        ];
        // A model that is gone must not go on with its last numbers.
        for family in families {
            family.clear();
        }
        for model in now.models.iter().take(LABEL_VALUES_MAX) {
            let labels = ModelLabels { model: model.model.clone() };
            let set = |family: &Family<ModelLabels, Gauge>, value: u64| {
                family.get_or_create(&labels).set(gauge(value));
            };
            set(&self.slots, model.slots.into());
            set(&self.slots_free, model.slots_free.into());
            set(&self.waiting, model.waiting.into());
            if let Some(engine) = model.engine {
                set(&self.engine_resident, engine.resident_bytes);
                set(&self.engine_restarts, engine.restarts);
                set(&self.kv_used, engine.kv_tokens_used);
                set(&self.kv_max, engine.kv_tokens_max);
                set(&self.prefix_cache, engine.prefix_cache_bytes);
                set(&self.engine_prompt_tokens, engine.prompt_tokens);
                set(&self.engine_cached_tokens, engine.cached_tokens);
                set(&self.engine_generated_tokens, engine.generated_tokens);
                set(&self.engine_draft_tokens, engine.draft_tokens);
                set(&self.engine_draft_tokens_accepted, engine.draft_tokens_accepted);
            }
        }
        self.peers_connected.set(gauge(now.peers_connected as u64));
        self.offers.set(gauge(now.offers as u64));
        self.remote_requests.set(gauge(now.remote_requests.into()));
        self.streams_held.set(gauge(now.streams_held as u64));
        self.streams_refused.set(gauge(now.streams_refused));
        self.resident.set(gauge(now.resident_bytes.unwrap_or(0)));
    }
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn count_tokens(family: &Family<TokenLabels, Counter>, model: &str, peer: &str, usage: Usage) {
    for (kind, tokens) in [
        ("prompt", usage.prompt_tokens),
        ("cached", usage.cached_tokens),
        ("completion", usage.completion_tokens),
        ("reasoning", usage.reasoning_tokens),
    ] {
        if tokens > 0 {
            let labels = TokenLabels { model: model.to_owned(), peer: peer.to_owned(), kind };
            family.get_or_create(&labels).inc_by(tokens.into());
        }
    }
}

/// The label itself while there is room for another, [`OTHER`] after that.
fn bounded(known: &Mutex<BTreeSet<String>>, label: &str) -> String {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    if known.contains(label) {
        return label.to_owned();
    }
    if known.len() >= LABEL_VALUES_MAX {
        return OTHER.to_owned();
    }
    known.insert(label.to_owned());
    label.to_owned()
}

/// The page `docs/metrics.md`: what is exported, read from an export.
#[must_use]
pub fn metrics_page() -> String {
    let mut page = String::from(PAGE_HEAD);
    for row in rows(&full_export()) {
        // Writing to a string cannot fail.
        let _ = writeln!(page, "| `{}` | {} | {} | {} |", row.name, row.kind, row.labels, row.help);
    }
    page
}

const PAGE_HEAD: &str = "\
# Metrics

A node writes these at `http://127.0.0.1:4000/metrics` (where the gateway asks for keys, to those that
are for all models) and at `http://127.0.0.1:8910/metrics`, in the OpenMetrics text format that
Prometheus reads. Nothing in them is what a user wrote. Models and peers beyond the first 256 are counted together
as `other`. Counters carry the suffix `_total`, histograms `_bucket`, `_sum` and `_count`.

This page is written from the export itself: `UPDATE=1 cargo test -p arknet-node metrics`.

| name | kind | labels | meaning |
|---|---|---|---|
";

struct Row {
    name: String,
    kind: String,
    labels: String,
    help: String,
}

/// An export in which everything has been counted once.
fn full_export() -> String {
    let metrics = Metrics::new();
    let model = ModelName::new("m").expect("a valid name");
    let peer = PublicKey([0; 32]);
    let usage =
        Usage { prompt_tokens: 1, completion_tokens: 2, cached_tokens: 1, reasoning_tokens: 1 };
    metrics.app_request_ended(&RequestRecord {
        door: "openai",
        endpoint: "chat",
        status: 200,
        error: None,
        model: Some(model.clone()),
        peer: Some(peer),
        duration: Duration::from_millis(2),
        until_dispatch: Some(Duration::from_micros(20)),
        first_piece: Some(Duration::from_millis(1)),
        last_piece: Some(Duration::from_millis(2)),
        request_bytes: 1,
        answer_bytes: 1,
        usage,
        streamed: true,
        left: true,
    });
    metrics.peer_request_ended(&model, peer, "done", Some(Duration::from_millis(1)), usage);
    let engine = Some(EngineGauges::default());
    let model = ModelGauges { model: "m".into(), engine, ..ModelGauges::default() };
    metrics.write(&NodeGauges { models: vec![model], ..NodeGauges::default() })
}

fn rows(export: &str) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for line in export.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap_or((rest, ""));
            rows.push(Row {
                name: name.to_owned(),
                kind: String::new(),
                labels: String::new(),
                help: help.trim_end_matches('.').to_owned(),
            });
        } else if let (Some(rest), Some(row)) = (line.strip_prefix("# TYPE "), rows.last_mut()) {
            row.kind = rest.rsplit(' ').next().unwrap_or_default().to_owned();
        } else if let (false, Some(row)) = (line.starts_with('#'), rows.last_mut())
            && row.labels.is_empty()
            && let Some((_, labels)) = line.split_once('{')
        {
            let names = labels
                .split(',')
                .filter_map(|label| label.split_once('='))
                .map(|(name, _)| name)
                .filter(|name| *name != "le");
            row.labels = names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_says_what_is_exported() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
        let page = metrics_page();
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, &page).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), page, "run with UPDATE=1");
        assert!(rows(&full_export()).len() >= 25);
    }

    #[test]
    fn counts_are_those_of_the_requests() {
        let export = full_export();
        for line in [
            r#"arknet_http_requests_total{door="openai",endpoint="chat",status="200",error=""} 1"#,
            r#"arknet_time_to_first_token_seconds_sum{model="m"} 0.001"#,
            r#"arknet_inter_token_seconds_sum{model="m"} 0.001"#,
            "arknet_peers_connected 0",
            "# EOF",
        ] {
            assert!(export.contains(line), "{line} is not in {export}");
        }
    }

    #[test]
    fn labels_are_bounded() {
        let metrics = Metrics::new();
        for n in 0..LABEL_VALUES_MAX {
            let name = ModelName::new(format!("m{n}")).unwrap();
            assert_eq!(metrics.model_label(&name), name.as_str());
        }
        assert_eq!(metrics.model_label(&ModelName::new("more").unwrap()), OTHER);
        assert_eq!(metrics.model_label(&ModelName::new("m0").unwrap()), "m0");
    }

    #[test]
    fn a_model_that_is_gone_has_no_numbers() {
        let metrics = Metrics::new();
        let model = ModelGauges { model: "gone".into(), slots: 4, ..ModelGauges::default() };
        let there = NodeGauges { models: vec![model], ..NodeGauges::default() };
        assert!(metrics.write(&there).contains(r#"arknet_slots{model="gone"} 4"#));
        assert!(!metrics.write(&NodeGauges::default()).contains("gone"));
    }
}
