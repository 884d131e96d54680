//! Logs to standard error and, where an address is configured, traces by OTLP over HTTP.
//!
//! A trace holds what one request did and how long it took: ids, the door, the model, the status,
//! token counts. Never what a user wrote.

use std::{io::Read, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use opentelemetry::{global, trace::TracerProvider as _};
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tracing_subscriber::{
    EnvFilter, Layer, filter::Targets, layer::SubscriberExt, util::SubscriberInitExt,
};

/// What is logged when nothing is said. A first node knows no peers, which its routing table takes
/// for a failure.
const LOG_DEFAULT: &str = "warn,libp2p_kad=error,llama_cpp=error";
/// The spans that leave the machine; nothing else does.
const TRACED: &str = "arknet::request";
/// How long sending one batch may take.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a collector's answer that are read.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Sends what is left when the program ends.
pub(crate) struct Telemetry {
    traces: Option<SdkTracerProvider>,
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(traces) = self.traces.take() {
            // A collector that is not there any more must not hold the program up or fail it.
            let _ = traces.shutdown_with_timeout(SEND_TIMEOUT);
        }
    }
}

/// Starts the log, and the traces where `otlp_url` says where to.
pub(crate) fn start(filter: Option<&str>, otlp_url: Option<&str>) -> anyhow::Result<Telemetry> {
    let filter = EnvFilter::try_new(filter.unwrap_or(LOG_DEFAULT))
        .unwrap_or_else(|_| EnvFilter::new(LOG_DEFAULT));
    let log = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_filter(filter);
    let traces = otlp_url.map(provider).transpose()?;
    if traces.is_some() {
        // For requests that are part of a trace already.
        global::set_text_map_propagator(TraceContextPropagator::new());
    }
    let exported = traces.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("arknet"))
            .with_filter(Targets::new().with_target(TRACED, tracing::Level::INFO))
    });
    tracing_subscriber::registry().with(log).with(exported).init();
    Ok(Telemetry { traces })
}

fn provider(url: &str) -> anyhow::Result<SdkTracerProvider> {
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Sender::new())
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(format!("{}/v1/traces", url.trim_end_matches('/')))
        .with_timeout(SEND_TIMEOUT)
        .build()?;
    let resource = Resource::builder().with_service_name("arknet").build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

/// Sends batches. They come from a thread of their own, which may wait.
#[derive(Debug)]
struct Sender(ureq::Agent);

impl Sender {
    fn new() -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(SEND_TIMEOUT))
            .http_status_as_error(false)
            .max_redirects(0);
        Self(config.build().into())
    }
}

#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let response = self.0.run(Request::from_parts(parts, body.to_vec()))?;
        let (parts, body) = response.into_parts();
        let mut answer = Vec::new();
        body.into_reader().take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
        Ok(Response::from_parts(parts, answer.into()))
    }
}
