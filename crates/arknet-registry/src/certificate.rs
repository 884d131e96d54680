//! Certificates and keys of TLS: read from files, or made at the first start.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use arknet_types::RegistryName;
use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use sha2::{Digest, Sha256};

use crate::limits::PEM_BYTES_MAX;

/// Why a certificate or its key cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// No certificate, or no key, in the file.
    #[error("{}: no {what} in PEM", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// The system says no.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
    /// A certificate cannot be made.
    #[error("a certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    /// Others can read the key.
    #[error("{} can be read by everybody; run: chmod 600 {}", path.display(), path.display())]
    Open {
        /// The file.
        path: PathBuf,
    },
    /// Certificate and key do not belong together, or are of a kind that is not used here.
    #[error("{}: {source}", path.display())]
    Tls {
        /// The certificate.
        path: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
}

/// Where the certificate of a registry and its key lie.
#[derive(Clone, Debug)]
pub struct CertificateFiles {
    /// The certificate, and those above it, in PEM.
    pub certificate: PathBuf,
    /// Its key, in PEM.
    pub key: PathBuf,
}

impl CertificateFiles {
    /// Makes a certificate that signs itself for these names, where there is neither file.
    pub fn make_missing(&self, names: &[RegistryName]) -> Result<(), CertificateError> {
        if self.certificate.exists() || self.key.exists() {
            return Ok(());
        }
        // Between brackets it is an address; certificates name it without.
        let names = names.iter().map(|name| name.as_str().trim_matches(['[', ']']).to_owned());
        let made = rcgen::generate_simple_self_signed(names.collect::<Vec<_>>())?;
        write_new(&self.key, made.key_pair.serialize_pem().as_bytes(), 0o600)?;
        write_new(&self.certificate, made.cert.pem().as_bytes(), 0o644)
    }

    /// The SHA-256 of the certificate, as other programs write it.
    pub fn fingerprint(&self) -> Result<String, CertificateError> {
        let certificates = read(&self.certificate)?;
        let digest = Sha256::digest(&certificates[0]);
        let octets: Vec<String> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
        Ok(octets.join(":"))
    }

    pub(crate) fn server_config(&self) -> Result<ServerConfig, CertificateError> {
        let certificates = read(&self.certificate)?;
        let key = read_key(&self.key)?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the library of ciphers has those of the default versions")
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .map_err(|source| CertificateError::Tls { path: self.certificate.clone(), source })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The certificates in a file: one at least.
pub(crate) fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let text = read_file(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.ok().filter(|found| !found.is_empty());
    found.ok_or_else(|| CertificateError::Content { path: path.into(), what: "certificate" })
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, CertificateError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // A group of services that use one key is common; everybody is not.
        let mode = fs::metadata(path).map_err(at(path))?.permissions().mode();
        if mode & 0o007 != 0 {
            return Err(CertificateError::Open { path: path.into() });
        }
    }
    let key = PrivateKeyDer::from_pem_slice(&read_file(path)?);
    key.map_err(|_| CertificateError::Content { path: path.into(), what: "private key" })
}

fn read_file(path: &Path) -> Result<Vec<u8>, CertificateError> {
    let mut text = Vec::new();
    let file = File::open(path).map_err(at(path))?;
    file.take(PEM_BYTES_MAX).read_to_end(&mut text).map_err(at(path))?;
    Ok(text)
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), CertificateError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    let written = options.open(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(at(path))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> CertificateError {
    move |source| CertificateError::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(directory: &Path) -> CertificateFiles {
        CertificateFiles { certificate: directory.join("c.pem"), key: directory.join("k.pem") }
    }

    #[test]
    fn a_certificate_is_made_once() {
        let directory = tempfile::tempdir().unwrap();
        let files = files(directory.path());
        let names = ["registry.example", "127.0.0.1", "[::1]"];
        let names = names.map(|name| RegistryName::new(name).unwrap());
        files.make_missing(&names).unwrap();
        let fingerprint = files.fingerprint().unwrap();
        assert_eq!(fingerprint.len(), 32 * 3 - 1);
        files.make_missing(&names).unwrap();
        assert_eq!(files.fingerprint().unwrap(), fingerprint);
        files.server_config().unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_everybody_can_read_and_files_without_content_are_refused() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let files = files(directory.path());
        files.make_missing(&[RegistryName::new("a").unwrap()]).unwrap();
        let mode = fs::metadata(&files.key).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        fs::set_permissions(&files.key, fs::Permissions::from_mode(0o644)).unwrap();
        let error = files.server_config().unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
        fs::set_permissions(&files.key, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&files.key, "nothing").unwrap();
        let error = files.server_config().unwrap_err().to_string();
        assert!(error.contains("k.pem: no private key"), "{error}");
        fs::write(&files.certificate, "").unwrap();
        let error = files.server_config().unwrap_err().to_string();
        assert!(error.contains("c.pem: no certificate"), "{error}");
    }
}
