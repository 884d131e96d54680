//! A registry that lies.

use std::{path::PathBuf, slice::from_ref, sync::Arc};

use arknet_registry::{CertificateFiles, ClientError, RegistryClient};
use arknet_types::{
    KeyPair, RegistryEntry,
    limits::{REGISTRY_ENTRIES_PER_PAGE_MAX, REGISTRY_PAGE_BYTES_MAX},
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::spawn_blocking,
};

use crate::entries::{NOW, body, entry, key, name, network};

/// Answers every request with the same words.
struct Liar {
    url: String,
    certificate: PathBuf,
    _directory: tempfile::TempDir,
}

impl Liar {
    async fn start(status: &'static str, answer: Vec<u8>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let files = CertificateFiles {
            certificate: directory.path().join("cert.pem"),
            key: directory.path().join("key.pem"),
        };
        files.make_missing(&[name("127.0.0.1")]).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_file(&files.certificate).unwrap()],
                PrivateKeyDer::from_pem_file(&files.key).unwrap(),
            );
        let tls = tokio_rustls::TlsAcceptor::from(Arc::new(config.unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = tls.accept(stream).await else { continue };
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let head = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    answer.len()
                );
                let _ = stream.write_all(head.as_bytes()).await;
                let _ = stream.write_all(&answer).await;
                let _ = stream.shutdown().await;
            }
        });
        Self { url, certificate: files.certificate, _directory: directory }
    }

    async fn client(&self) -> RegistryClient {
        let (url, certificate) = (self.url.clone(), self.certificate.clone());
        let made = spawn_blocking(move || RegistryClient::new(&url, Some(&certificate), network()));
        made.await.unwrap().unwrap()
    }

    async fn listed(
        &self,
        entries_max: usize,
    ) -> Result<(Vec<RegistryEntry>, usize, bool), ClientError> {
        let client = self.client().await;
        let listed = spawn_blocking(move || client.list(None, None, entries_max, NOW));
        let listing = listed.await.unwrap()?;
        Ok((listing.entries, listing.refused, listing.is_complete))
    }
}

async fn liar(page: serde_json::Value) -> Liar {
    Liar::start("200 OK", serde_json::to_vec(&page).unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_words_are_put_into_a_nodes_mouth() {
    let victim = entry(&key(1), 1, &["a"]);
    let mut moved = victim.clone();
    moved.body.endpoint = "192.0.2.66:26656".parse().unwrap();
    let mut renamed = victim.clone();
    renamed.body.node_id = "ark-mum".parse().unwrap();
    let mut taken = entry(&key(66), 1, &["a"]);
    taken.body.public_key = key(1).public();
    let elsewhere = {
        let mut body = body(&key(1), 9, &["a"]);
        body.registry = name("other.example");
        RegistryEntry::sign(body, &key(1))
    };
    let stale = {
        let mut body = body(&key(1), 9, &["a"]);
        body.expires_at = NOW;
        body.issued_at.0 -= 1000;
        RegistryEntry::sign(body, &key(1))
    };
    let page = json!({
        "entries": [moved, renamed, taken, elsewhere, stale, { "approved": true }, null],
        "next": null,
    });
    let (entries, refused, is_complete) = liar(page).await.listed(100).await.unwrap();
    assert_eq!((entries, refused, is_complete), (vec![], 7, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn old_words_beside_new_ones_do_not_count() {
    let (old, new) = (entry(&key(1), 1, &["a"]), entry(&key(1), 2, &["b"]));
    for entries in [[&old, &new, &old], [&new, &old, &new]] {
        let page = json!({ "entries": entries, "next": null });
        let (entries, ..) = liar(page).await.listed(100).await.unwrap();
        assert_eq!(entries, from_ref(&new));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_without_end_and_pages_without_measure_are_bounded() {
    let highest = KeyPair::from_seed(&[1; 32]).public();
    let circle = json!({ "entries": [entry(&key(1), 1, &[])], "next": highest.peer_id() });
    let (entries, _, is_complete) = liar(circle).await.listed(1000).await.unwrap();
    assert_eq!((entries.len(), is_complete), (1, false), "a circle is left");
    let many: Vec<_> = (0..REGISTRY_ENTRIES_PER_PAGE_MAX).map(|_| json!(0)).collect();
    let full = json!({ "entries": many, "next": null });
    assert_eq!(liar(full).await.listed(1000).await.unwrap().1, REGISTRY_ENTRIES_PER_PAGE_MAX);
    let many: Vec<_> = (0..=REGISTRY_ENTRIES_PER_PAGE_MAX).map(|_| json!(0)).collect();
    let over = json!({ "entries": many, "next": null });
    let error = liar(over).await.listed(1000).await.unwrap_err();
    assert!(matches!(error, ClientError::Nonsense(_)), "{error}");
    let huge = vec![b' '; REGISTRY_PAGE_BYTES_MAX + 2];
    let huge = Liar::start("200 OK", huge).await.listed(1000).await;
    assert!(huge.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_answer_is_an_error_and_its_words_do_no_harm() {
    for answer in [&b"<html>"[..], b"", b"[]", b"{\"entries\":{}}"] {
        let error = Liar::start("200 OK", answer.to_vec()).await.listed(10).await.unwrap_err();
        assert!(matches!(error, ClientError::Nonsense(_)), "{error}");
    }
    let words = json!({ "error": format!("\u{1b}[2J{}", "x".repeat(9000)), "code": "a\nb" });
    let words = serde_json::to_vec(&words).unwrap();
    let error = Liar::start("503 No", words).await.listed(10).await.unwrap_err().to_string();
    assert!(error.len() < 300 && !error.contains(['\u{1b}', '\n']), "{error:?}");
    let elsewhere = Liar::start("302 Found\r\nlocation: http://127.0.0.1:1/", vec![]).await;
    assert!(elsewhere.listed(10).await.is_err(), "nobody is sent elsewhere");
}
