//! The client: tells a registry about a node, and reads what others told. It believes nothing that
//! is not signed.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use arknet_types::{
    ModelName, NetworkId, PublicKey, RegistryEntry, RegistryError, RegistryName, RegistryPage,
    RegistryWithdrawal, Timestamp,
    limits::{REGISTRY_ENTRIES_PER_PAGE_MAX, REGISTRY_PAGE_BYTES_MAX},
};
use serde::{Deserialize, Serialize};
use ureq::{
    Agent, Body,
    http::{Response, StatusCode, Uri, header},
    tls::{Certificate, RootCerts, TlsConfig},
};

use crate::{
    CertificateError, certificate,
    limits::{ANSWER_BYTES_MAX, ANSWER_TIME_MAX, PAGES_MAX},
};

/// Why a registry was not told, or did not say.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The certificates to compare with cannot be read.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// What it says is not an answer.
    #[error("the registry answers what no registry answers: {0}")]
    Nonsense(#[from] RegistryError),
    /// Not a URL of HTTPS.
    #[error("{url}: a registry is reached by https://HOST or https://HOST:PORT and nothing else")]
    Url {
        /// The URL.
        url: String,
    },
    /// It says no.
    #[error("the registry refuses: {words} ({code})")]
    Refused {
        /// The stable name of the reason.
        code: String,
        /// Its words.
        words: String,
        /// When to come again, where it says so.
        again: Option<Duration>,
    },
    /// No thread to ask on.
    #[error("the registry is not asked: {0}")]
    Thread(std::io::Error),
    /// It is not reached, or is not who it should be.
    #[error("the registry {name}: {source}")]
    Unreachable {
        /// Its name.
        name: RegistryName,
        /// What happened.
        source: Box<ureq::Error>,
    },
}

/// What a registry lists: each entry signed by its node, the newest of each.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Listing {
    /// The entries, by key.
    pub entries: Vec<RegistryEntry>,
    /// How many did not count: their signature, their time or their audience was wrong.
    pub refused: usize,
    /// Whether that is all there is.
    pub is_complete: bool,
}

/// A registry, as a node sees it. Waits for answers: for threads that may wait.
#[derive(Debug)]
pub struct RegistryClient {
    agent: Agent,
    url: String,
    name: RegistryName,
    network: NetworkId,
}

#[derive(Deserialize)]
struct Words {
    error: String,
    code: String,
}

impl RegistryClient {
    /// A client of the registry at `url`, which must have a certificate of a public authority or,
    /// where `ca` is given, one of the file's or one that these have signed.
    pub fn new(url: &str, ca: Option<&Path>, network: NetworkId) -> Result<Self, ClientError> {
        let name = registry_name(url).ok_or_else(|| ClientError::Url { url: url.to_owned() })?;
        let roots = match ca {
            None => RootCerts::WebPki,
            Some(path) => {
                let certificates = certificate::read(path)?;
                RootCerts::from(
                    certificates.iter().map(|one| Certificate::from_der(one).to_owned()),
                )
            }
        };
        let config = Agent::config_builder()
            .https_only(true)
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_global(Some(ANSWER_TIME_MAX))
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .build();
        let url = url.trim_end_matches('/').to_owned();
        Ok(Self { agent: config.into(), url, name, network })
    }

    /// Whom entries must be signed for, to be shown by this registry.
    #[must_use]
    pub const fn name(&self) -> &RegistryName {
        &self.name
    }

    /// The network that is asked for.
    #[must_use]
    pub const fn network(&self) -> &NetworkId {
        &self.network
    }

    /// Enters a node.
    pub fn register(&self, entry: &RegistryEntry) -> Result<(), ClientError> {
        self.tell("/v1/entries", entry)
    }

    /// Takes a node out.
    pub fn withdraw(&self, withdrawal: &RegistryWithdrawal) -> Result<(), ClientError> {
        self.tell("/v1/withdrawals", withdrawal)
    }

    /// Reads at most `entries_max` entries, beginning after `start` and going round once. Who begins
    /// anywhere meets everybody in the end, also where somebody has entered thousands of keys.
    pub fn list(
        &self,
        model: Option<&ModelName>,
        start: Option<PublicKey>,
        entries_max: usize,
        now: Timestamp,
    ) -> Result<Listing, ClientError> {
        let mut listing = Listing::default();
        let mut newest: BTreeMap<PublicKey, RegistryEntry> = BTreeMap::new();
        let pages_max = (entries_max.div_ceil(REGISTRY_ENTRIES_PER_PAGE_MAX) + 2).min(PAGES_MAX);
        let (mut after, mut has_turned) = (start, start.is_none());
        let began = Instant::now();
        for _ in 0..pages_max {
            // One that takes its time for every page must not have all of ours.
            if began.elapsed() > ANSWER_TIME_MAX {
                break;
            }
            let page = self.page(model, after, now)?;
            listing.refused += page.refused;
            for entry in page.entries {
                let known = newest.get(&entry.body.public_key);
                if known.is_none_or(|known| known.body.sequence < entry.body.sequence) {
                    newest.insert(entry.body.public_key, entry);
                }
            }
            let is_round = has_turned && start.is_some() && page.next >= start;
            match page.next {
                // A registry that turns in circles would keep its readers for ever.
                Some(next) if after.is_some_and(|after| next <= after) => break,
                Some(next) if !is_round => after = Some(next),
                None if !has_turned => (after, has_turned) = (None, true),
                _ => {
                    listing.is_complete = newest.len() <= entries_max;
                    break;
                }
            }
            if newest.len() >= entries_max {
                break;
            }
        }
        listing.entries = newest.into_values().take(entries_max).collect();
        Ok(listing)
    }

    fn page(
        &self,
        model: Option<&ModelName>,
        after: Option<PublicKey>,
        now: Timestamp,
    ) -> Result<RegistryPage, ClientError> {
        let mut request = self.agent.get(format!("{}/v1/entries", self.url));
        if let Some(model) = model {
            request = request.query("model", model.as_str());
        }
        if let Some(after) = after {
            request = request.query("after", after.peer_id());
        }
        let mut response = self.granted(request.call())?;
        let body = response.body_mut().with_config().limit(REGISTRY_PAGE_BYTES_MAX as u64 + 1);
        let body = body.read_to_vec().map_err(|error| self.unreachable(error))?;
        Ok(RegistryPage::parse(&body, &self.network, &self.name, now)?)
    }

    fn tell(&self, path: &str, what: &impl Serialize) -> Result<(), ClientError> {
        let body = serde_json::to_vec(what).expect("what is signed has a form in JSON");
        let request = self.agent.post(format!("{}{path}", self.url));
        let answer = request.content_type("application/json").send(&body[..]);
        self.granted(answer).map(|_| ())
    }

    fn granted(
        &self,
        answer: Result<Response<Body>, ureq::Error>,
    ) -> Result<Response<Body>, ClientError> {
        let mut response = answer.map_err(|error| self.unreachable(error))?;
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        let again = response.headers().get(header::RETRY_AFTER);
        let again = again.and_then(|value| value.to_str().ok()?.parse().ok());
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
        let said: Option<Words> = body.ok().and_then(|body| serde_json::from_slice(&body).ok());
        let (code, words) = said.map_or_else(
            || ("unknown".into(), format!("status {}", response.status().as_u16())),
            |said| (shown(&said.code), shown(&said.error)),
        );
        Err(ClientError::Refused { code, words, again: again.map(Duration::from_secs) })
    }

    fn unreachable(&self, source: ureq::Error) -> ClientError {
        ClientError::Unreachable { name: self.name.clone(), source: Box::new(source) }
    }
}

/// Words of somebody else, fit for a terminal and a log.
fn shown(words: &str) -> String {
    words.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// Whom entries are signed for: the host in a URL of HTTPS that has nothing but a host, a port and
/// perhaps a path; nothing for any other text.
#[must_use]
pub fn registry_name(url: &str) -> Option<RegistryName> {
    let uri: Uri = url.parse().ok()?;
    let authority = uri.authority()?;
    let is_plain = uri.scheme_str() == Some("https")
        && !authority.as_str().contains('@')
        && uri.query().is_none()
        && !url.contains('#');
    RegistryName::new(authority.host().to_ascii_lowercase()).ok().filter(|_| is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_is_a_registry() {
        let name = |url: &str| {
            let network = NetworkId::new("test").unwrap();
            let client = RegistryClient::new(url, None, network);
            client.ok().map(|client| client.name().to_string())
        };
        assert_eq!(name("https://Registry.Example").as_deref(), Some("registry.example"));
        assert_eq!(
            name("https://registry.example:8443/grid/").as_deref(),
            Some("registry.example")
        );
        assert_eq!(name("https://[::1]:8443").as_deref(), Some("[::1]"));
        for url in [
            "http://registry.example",
            "registry.example",
            "https://",
            "https://user@registry.example",
            "https://registry.example?x=1",
            "https://registry.example/#x",
            "file:///etc/passwd",
            "",
        ] {
            assert_eq!(name(url), None, "{url}");
        }
    }
}
