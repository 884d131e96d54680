//! Fetching a model from a URL: resumable, hashed at the end by the store.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::Duration,
};

use ureq::http::{StatusCode, header};

/// Largest file that is fetched: 1 TiB.
const BYTES_MAX: u64 = 1 << 40;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// A server that sends nothing for so long is given up; what is there is kept for the next try.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const CHUNK_BYTES: usize = 256 * 1024;

/// Why a download did not complete.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DownloadError {
    /// The connection broke; what came is kept.
    #[error("{url}: {source}; run the same command again to go on from {bytes} bytes")]
    Broken {
        /// From where.
        url: String,
        /// Bytes kept.
        bytes: u64,
        /// What happened.
        source: io::Error,
    },
    /// The system says no.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
    /// The request failed.
    #[error("{url}: {source}")]
    Request {
        /// From where.
        url: String,
        /// What happened.
        source: Box<ureq::Error>,
    },
    /// More than anything that could be a model.
    #[error("{url}: over 1 TiB")]
    TooLarge {
        /// From where.
        url: String,
    },
}

/// A file being fetched.
#[derive(Debug)]
pub struct Download {
    url: String,
    part: PathBuf,
    tag: PathBuf,
}

impl Download {
    /// A download from `url` whose unfinished part lies in `directory`.
    #[must_use]
    pub fn new(url: &str, directory: &Path) -> Self {
        let key = sha2::Digest::finalize(sha2::Digest::chain_update(
            <sha2::Sha256 as sha2::Digest>::new(),
            url,
        ));
        let stem: String = key.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Self {
            url: url.to_owned(),
            part: directory.join(format!("{stem}.part")),
            tag: directory.join(format!("{stem}.etag")),
        }
    }

    /// Fetches what is missing. `progress` hears of bytes done and, where known, of all, and may
    /// stop it. Returns the
    /// file, which lies there until [`Download::discard`].
    pub fn run(
        &self,
        mut progress: impl FnMut(u64, Option<u64>) -> ControlFlow<()>,
    ) -> Result<&Path, DownloadError> {
        let directory = self.part.parent().expect("the part lies in a directory");
        fs::create_dir_all(directory).map_err(at(directory))?;
        let present = fs::metadata(&self.part).map_or(0, |metadata| metadata.len());
        let response = self.request(present)?;
        let resumes = response.status() == StatusCode::PARTIAL_CONTENT;
        let mut done = if resumes { present } else { 0 };
        let length = response.headers().get(header::CONTENT_LENGTH);
        let rest = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let total = rest.and_then(|rest| rest.checked_add(done));
        if total.is_some_and(|total| total > BYTES_MAX) {
            return Err(DownloadError::TooLarge { url: self.url.clone() });
        }
        if let Some(tag) = response.headers().get(header::ETAG) {
            fs::write(&self.tag, tag.as_bytes()).map_err(at(&self.tag))?;
        }
        let mut options = OpenOptions::new();
        options.create(true).write(true).append(resumes).truncate(!resumes);
        let mut file = options.open(&self.part).map_err(at(&self.part))?;
        let mut body = response.into_body().into_reader();
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let read = body.read(&mut chunk).map_err(|source| self.broken(done, source))?;
            if read == 0 {
                break;
            }
            file.write_all(&chunk[..read]).map_err(at(&self.part))?;
            done += read as u64;
            if done > BYTES_MAX {
                return Err(DownloadError::TooLarge { url: self.url.clone() });
            }
            if progress(done, total).is_break() {
                let stopped = io::Error::new(io::ErrorKind::Interrupted, "it was stopped");
                return Err(self.broken(done, stopped));
            }
        }
        if total.is_some_and(|total| done < total) {
            let early = io::Error::new(io::ErrorKind::UnexpectedEof, "the server stopped early");
            return Err(self.broken(done, early));
        }
        File::sync_all(&file).map_err(at(&self.part))?;
        Ok(&self.part)
    }

    /// Removes what was fetched.
    pub fn discard(&self) {
        let _ = fs::remove_file(&self.part);
        let _ = fs::remove_file(&self.tag);
    }

    fn request(&self, present: u64) -> Result<ureq::http::Response<ureq::Body>, DownloadError> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(IDLE_TIMEOUT))
            .build()
            .into();
        let failed =
            |source| DownloadError::Request { url: self.url.clone(), source: Box::new(source) };
        let mut request = agent.get(&self.url);
        if present > 0 {
            request = request.header(header::RANGE, format!("bytes={present}-"));
            // A file that has changed since must not be continued.
            if let Ok(tag) = fs::read_to_string(&self.tag) {
                request = request.header(header::IF_RANGE, tag);
            }
        }
        match request.call() {
            // All of it is here already, or the rest does not exist any more: begin anew.
            Err(ureq::Error::StatusCode(416)) => agent.get(&self.url).call().map_err(failed),
            result => result.map_err(failed),
        }
    }

    fn broken(&self, bytes: u64, source: io::Error) -> DownloadError {
        DownloadError::Broken { url: self.url.clone(), bytes, source }
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> DownloadError {
    move |source| DownloadError::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
