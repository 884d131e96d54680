use std::sync::Arc;

use anyhow::Context;
use arknet_node::{Config, DataDir, RegistryDatabase, RegistrySection};
use arknet_registry::{
    CertificateFiles, Postgres, PostgresOptions, Rate, RegistryServer, ServerOptions, Sqlite, Store,
};
use arknet_types::RegistryName;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{Serve, network};
use crate::out::{Out, table};

pub(super) fn run(data: &DataDir, config: Config, flags: Serve, out: &Out) -> anyhow::Result<()> {
    let network = network(data, &config)?;
    let mut section = config.registry;
    section.listen = flags.listen.unwrap_or(section.listen);
    section.names = flags.name.unwrap_or(section.names);
    section.certificate = flags.cert.or(section.certificate);
    section.key = flags.key.or(section.key);
    let database = section.database(flags.database.as_deref(), data.root())?;
    let names = names(&section)?;
    let certificate = certificate(data, &section, &names)?;
    let fingerprint = certificate.fingerprint()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let store = open(database, &section).await?;
        let kind = store.kind();
        let clock = Arc::new(arknet_sdk::now);
        let mut options = ServerOptions::new(network, names.clone(), certificate.clone(), clock);
        options.trusted_proxies = section.trusted_proxies;
        options.reads = Rate { per_minute: section.reads_per_minute };
        options.writes = Rate { per_minute: section.writes_per_minute };
        options.writes_of_key = Rate { per_minute: section.writes_of_key_per_minute };
        options.keys_max = section.keys_max;
        let listener = arknet_node::listen(section.listen);
        let listener = listener.with_context(|| section.listen.to_string())?;
        let server = RegistryServer::start(listener, options, store).await?;
        let port = server.address().port();
        let urls: Vec<_> = names.iter().map(|name| format!("https://{name}:{port}")).collect();
        let report = json!({
            "listen": server.address(),
            "urls": urls,
            "certificate": certificate.certificate,
            "fingerprint": fingerprint,
            "database": kind,
        });
        let mut rows = vec![vec!["listens at".into(), server.address().to_string()]];
        rows.extend(urls.iter().map(|url| vec!["URL".into(), url.clone()]));
        rows.extend([
            vec!["certificate".into(), certificate.certificate.display().to_string()],
            vec!["SHA-256".into(), fingerprint],
            vec!["database".into(), kind.into()],
        ]);
        out.result(&report, &format!("the registry is running\n{}", table(&rows)))?;
        let stop = CancellationToken::new();
        let served = tokio::spawn(server.run(stop.clone()));
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stop.cancel();
        served.await.context("the registry stopped")
    })
}

/// The names under which it is reached: as configured, or the address.
fn names(section: &RegistrySection) -> anyhow::Result<Vec<RegistryName>> {
    if !section.names.is_empty() {
        return Ok(section.names.clone());
    }
    let name = match section.listen {
        listen if listen.ip().is_unspecified() => "localhost".into(),
        listen if listen.is_ipv6() => format!("[{}]", listen.ip()),
        listen => listen.ip().to_string(),
    };
    Ok(vec![RegistryName::new(name)?])
}

fn certificate(
    data: &DataDir,
    section: &RegistrySection,
    names: &[RegistryName],
) -> anyhow::Result<CertificateFiles> {
    if let (Some(certificate), Some(key)) = (&section.certificate, &section.key) {
        return Ok(CertificateFiles { certificate: certificate.clone(), key: key.clone() });
    }
    anyhow::ensure!(
        section.certificate.is_none() && section.key.is_none(),
        "[registry] needs both certificate and key, or neither"
    );
    let files = CertificateFiles {
        certificate: data.root().join("registry-cert.pem"),
        key: data.root().join("registry-key.pem"),
    };
    files.make_missing(names)?;
    Ok(files)
}

async fn open(
    database: RegistryDatabase,
    section: &RegistrySection,
) -> anyhow::Result<Arc<dyn Store>> {
    Ok(match database {
        RegistryDatabase::File(path) => Arc::new(Sqlite::open(&path)?),
        RegistryDatabase::Postgres(url) => {
            let options = PostgresOptions { url, ca: section.database_ca.clone() };
            Arc::new(Postgres::open(&options).await?)
        }
    })
}
