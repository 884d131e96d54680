use serde::{Deserialize, Serialize};

use crate::{NetworkId, limits::SEEDS_MAX};

/// The file `seeds.json`: the peers a node first connects to.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SeedFile {
    /// The format; 1.
    pub version: u32,
    /// The network these seeds belong to.
    pub chain_id: NetworkId,
    /// The seeds.
    pub seeds: Vec<Seed>,
}

/// One seed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Seed {
    /// Where it is, ending in `/p2p/` and its peer id.
    pub multiaddr: String,
    /// Who runs it, for people.
    pub operator: String,
}

/// Why a text is not a seed file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SeedsError {
    /// Not JSON of the right shape.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// More seeds than any node needs.
    #[error("{found} seeds where at most {SEEDS_MAX} are allowed")]
    TooMany {
        /// Seeds found.
        found: usize,
    },
    /// A format of another time.
    #[error("seed file version {found} where 1 is known; update arknet")]
    Version {
        /// Version found.
        found: u32,
    },
}

impl SeedFile {
    /// Reads the text of a seed file.
    pub fn parse(text: &str) -> Result<Self, SeedsError> {
        let file: Self = serde_json::from_str(text)?;
        if file.version != 1 {
            return Err(SeedsError::Version { found: file.version });
        }
        if file.seeds.len() > SEEDS_MAX {
            return Err(SeedsError::TooMany { found: file.seeds.len() });
        }
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_file_is_read_strictly() {
        let good = r#"{"version":1,"chain_id":"arknet-1","seeds":[{"multiaddr":"/ip4/1.2.3.4","operator":"x"}]}"#;
        assert_eq!(SeedFile::parse(good).unwrap().seeds.len(), 1);
        for bad in ["{}", "[]", &good.replace(":1,", ":2,"), &good.replace("operator", "operater")]
        {
            assert!(SeedFile::parse(bad).is_err(), "{bad}");
        }
    }
}
