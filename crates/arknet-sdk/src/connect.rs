use std::{path::PathBuf, time::Duration};

use arknet_mesh::{MeshOptions, Multiaddr};
use arknet_types::KeyPair;

use crate::{Client, keyfile, seeds, session::SessionKey};

/// How to join the mesh.
#[derive(Debug)]
pub struct ConnectOptions {
    /// The session to sign with.
    pub session: Option<SessionKey>,
    /// Where to connect first; the seed file's when not given.
    pub seeds: Option<Vec<String>>,
    /// The directory of `seeds.json`; `~/.arknet` when not given.
    pub home: Option<PathBuf>,
    /// The key of this peer, where nodes have approved it; a new one each time when not given.
    pub peer_key: Option<KeyPair>,
    /// How long to try.
    pub timeout: Duration,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        let timeout = Duration::from_secs(10);
        Self { session: None, seeds: None, home: None, peer_key: None, timeout }
    }
}

/// Why the mesh cannot be joined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No key could be made.
    #[error(transparent)]
    Key(#[from] keyfile::KeyFileError),
    /// The mesh does not start.
    #[error(transparent)]
    Mesh(#[from] arknet_mesh::MeshError),
    /// Nowhere to begin.
    #[error("no seed is known; write one into seeds.json or pass it to connect")]
    NoSeeds,
    /// No session to sign with.
    #[error("no session; make one with SessionKey::create and set ConnectOptions::session")]
    NoSession,
    /// A seed's address is none.
    #[error("{address}: not a multiaddr that ends in /p2p/ and a peer id")]
    SeedAddress {
        /// The text.
        address: String,
    },
    /// The seed file cannot be read.
    #[error(transparent)]
    Seeds(#[from] seeds::SeedsError),
    /// No seed answered in time.
    #[error("none of the {} seeds answered within {} s: {}", seeds.len(), timeout.as_secs(), seeds.join(", "))]
    Unreachable {
        /// The seeds tried.
        seeds: Vec<String>,
        /// How long.
        timeout: Duration,
    },
}

impl Client {
    /// Joins the mesh as a light peer that serves nothing, and waits for a first seed.
    pub async fn connect(options: ConnectOptions) -> Result<Self, ConnectError> {
        let session = options.session.ok_or(ConnectError::NoSession)?;
        let seeds = match options.seeds {
            Some(seeds) => seeds,
            None => {
                let file = seeds::load(options.home.as_deref())?;
                file.seeds.into_iter().map(|seed| seed.multiaddr).collect()
            }
        };
        if seeds.is_empty() {
            return Err(ConnectError::NoSeeds);
        }
        // Its own key each time unless one is given: a client's peer key names nobody, its session
        // does.
        let key = options.peer_key.map_or_else(keyfile::generate, Ok)?;
        let mut mesh_options = MeshOptions::new(key, session.network().clone());
        mesh_options.seeds = parse_seeds(&seeds)?;
        let (mesh, _) = arknet_mesh::start(mesh_options)?;
        let client = Self::over(mesh, session);
        if !client.wait_connected(options.timeout).await {
            client.mesh().clone().shutdown().await;
            return Err(ConnectError::Unreachable { seeds, timeout: options.timeout });
        }
        Ok(client)
    }

    /// Waits for a first connection. Returns whether there is one.
    async fn wait_connected(&self, patience: Duration) -> bool {
        // What is known of peers changes with every connection, so this rings for them too.
        let mut changes = self.mesh().offers().changed();
        let wait = async {
            while self.mesh().connected().is_empty() {
                if changes.changed().await.is_err() {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(patience, wait).await.unwrap_or(false)
    }
}

/// The addresses in `seeds`, each of which must name its peer.
pub fn parse_seeds(seeds: &[String]) -> Result<Vec<Multiaddr>, ConnectError> {
    let parse = |text: &String| {
        let address = text.parse::<Multiaddr>().ok();
        let named = address.filter(|a| a.to_string().contains("/p2p/"));
        named.ok_or_else(|| ConnectError::SeedAddress { address: text.clone() })
    };
    seeds.iter().map(parse).collect()
}
