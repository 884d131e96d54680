//! The section `[registry]`: what `arknet registry serve` does.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use arknet_types::RegistryName;
use serde::{Deserialize, Serialize};

use crate::secrets::{self, SecretError};

/// The variable that may hold the connection string of the database.
const DATABASE_VARIABLE: &str = "ARKNET_REGISTRY_DATABASE";

/// The section `[registry]`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegistrySection {
    /// Address and port of a registry that runs here.
    pub listen: SocketAddr,
    /// The host names under which it is reached; the address it listens on, or `localhost`, when
    /// empty. Entries are signed for one of these.
    pub names: Vec<RegistryName>,
    /// Its certificate in PEM; one that signs itself is made in the data directory when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// The key of the certificate in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// A file of SQLite, or `postgres://` without a password; `registry.db` in the data directory
    /// when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// A file that holds the connection string of PostgreSQL, with its password, and that only its
    /// owner may read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database_file: Option<PathBuf>,
    /// The certificates that count for the database; those of public authorities when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database_ca: Option<PathBuf>,
    /// Balancers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// Questions of one address in a minute (1 to 1000000).
    pub reads_per_minute: u32,
    /// Entries and withdrawals from one address in a minute (1 to 1000000).
    pub writes_per_minute: u32,
    /// Entries and withdrawals of one key in a minute (1 to 1000000).
    pub writes_of_key_per_minute: u32,
    /// Keys that are remembered (1 to 1000000000).
    pub keys_max: u64,
}

impl Default for RegistrySection {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 8443)),
            names: vec![],
            certificate: None,
            key: None,
            database: None,
            database_file: None,
            database_ca: None,
            trusted_proxies: vec![],
            reads_per_minute: 240,
            writes_per_minute: 30,
            writes_of_key_per_minute: 6,
            keys_max: 1_000_000,
        }
    }
}

/// Where the entries of a registry lie.
#[derive(Clone, Eq, PartialEq)]
pub enum RegistryDatabase {
    /// A file of SQLite.
    File(PathBuf),
    /// A connection string of PostgreSQL, perhaps with a password.
    Postgres(String),
}

impl fmt::Debug for RegistryDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Postgres(_) => f.write_str("Postgres(..)"),
        }
    }
}

/// Why it is not clear where the entries lie.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryDatabaseError {
    /// The file with the connection string cannot be used.
    #[error(transparent)]
    File(#[from] SecretError),
    /// A secret where others can see it.
    #[error(
        "{from} holds a password, which others can see there: put the connection string into a file \
         for its owner alone and name it as database_file in [registry], or into the variable \
         {DATABASE_VARIABLE}"
    )]
    Password {
        /// Where it stands.
        from: &'static str,
    },
}

impl RegistrySection {
    /// Where the entries lie: as the flag says, the variable, the file with the connection string,
    /// the configuration, or in `data`.
    pub fn database(
        &self,
        flag: Option<&str>,
        data: &Path,
    ) -> Result<RegistryDatabase, RegistryDatabaseError> {
        let variable = std::env::var_os(DATABASE_VARIABLE).and_then(|text| text.into_string().ok());
        let variable = variable.filter(|text| !text.is_empty());
        if let Some(text) = flag {
            return public(text, "--database");
        }
        if let Some(text) = variable {
            return Ok(database(&text));
        }
        if let Some(path) = &self.database_file {
            return Ok(RegistryDatabase::Postgres(secrets::read_file(path)?));
        }
        match &self.database {
            Some(text) => public(text, "database in [registry]"),
            None => Ok(RegistryDatabase::File(data.join("registry.db"))),
        }
    }

    /// The values that must lie within bounds.
    pub(super) fn ranges(&self) -> [(&'static str, u64, u64, u64); 4] {
        [
            ("registry.reads_per_minute", self.reads_per_minute.into(), 1, 1_000_000),
            ("registry.writes_per_minute", self.writes_per_minute.into(), 1, 1_000_000),
            (
                "registry.writes_of_key_per_minute",
                self.writes_of_key_per_minute.into(),
                1,
                1_000_000,
            ),
            ("registry.keys_max", self.keys_max, 1, 1_000_000_000),
        ]
    }
}

fn database(text: &str) -> RegistryDatabase {
    if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        return RegistryDatabase::Postgres(text.to_owned());
    }
    RegistryDatabase::File(text.into())
}

/// A place that is written where others can read it.
fn public(text: &str, from: &'static str) -> Result<RegistryDatabase, RegistryDatabaseError> {
    let database = database(text);
    if let RegistryDatabase::Postgres(url) = &database {
        let rest = url.split_once("://").map_or("", |(_, rest)| rest);
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
        // Also as a parameter, and also where the string is malformed: rather too often.
        if user.contains(':') || rest.to_ascii_lowercase().contains("password") {
            return Err(RegistryDatabaseError::Password { from });
        }
    }
    Ok(database)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section() -> RegistrySection {
        RegistrySection::default()
    }

    #[test]
    fn a_file_in_the_data_directory_holds_the_entries_unless_somebody_says_otherwise() {
        let data = Path::new("/data");
        let file = |path: &str| RegistryDatabase::File(path.into());
        assert_eq!(section().database(None, data).unwrap(), file("/data/registry.db"));
        let configured = RegistrySection { database: Some("/r.db".into()), ..section() };
        assert_eq!(configured.database(None, data).unwrap(), file("/r.db"));
        assert_eq!(configured.database(Some("x.db"), data).unwrap(), file("x.db"));
        let url = "postgres://registry@/arknet?host=/run/postgresql";
        let postgres = RegistryDatabase::Postgres(url.into());
        assert_eq!(configured.database(Some(url), data).unwrap(), postgres);
        assert!(!format!("{postgres:?}").contains("registry@"));
    }

    #[test]
    fn a_password_is_refused_where_others_see_it() {
        for url in [
            "postgres://u:p@h/d",
            "postgresql://u:p@h/d",
            "postgres://u@h/d?password=p",
            "postgres://u:p@h",
            "postgres://u:p@h?x=@y",
        ] {
            let flag = section().database(Some(url), Path::new("/")).unwrap_err().to_string();
            assert!(flag.contains("database_file") && !flag.contains(url), "{flag}");
            let configured = RegistrySection { database: Some(url.into()), ..section() };
            assert!(configured.database(None, Path::new("/")).is_err(), "{url}");
        }
        assert!(section().database(Some("postgres://u@h:5432/d"), Path::new("/")).is_ok());
    }

    #[cfg(unix)]
    #[test]
    fn the_file_with_the_password_is_its_owners_alone() {
        use std::{fs, os::unix::fs::PermissionsExt};
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("database");
        fs::write(&path, "postgres://u:p@h/d\n").unwrap();
        let section = RegistrySection { database_file: Some(path.clone()), ..section() };
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = section.database(None, directory.path()).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let found = section.database(None, directory.path()).unwrap();
        assert_eq!(found, RegistryDatabase::Postgres("postgres://u:p@h/d".into()));
    }
}
