use arknet_types::ModelDigest;

/// The model that ships inside the program.
#[derive(Clone, Copy, Debug)]
pub struct EmbeddedModel {
    /// The GGUF file.
    pub bytes: &'static [u8],
    /// What requests call it.
    pub name: &'static str,
    /// SHA-256 of the file, as committed beside it.
    pub sha256: ModelDigest,
}

/// The model that ships inside the program. How it was made is written in `tools/tiny-model`.
#[must_use]
pub fn embedded_model() -> EmbeddedModel {
    let line = include_str!("../assets/arknet-tiny.gguf.sha256");
    let digits = line.split_whitespace().next().unwrap_or_default();
    EmbeddedModel {
        bytes: include_bytes!("../assets/arknet-tiny.gguf"),
        name: "arknet/tiny",
        sha256: digits.parse().expect("the committed digest is a digest"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    #[test]
    fn the_committed_digest_is_that_of_the_file() {
        let model = embedded_model();
        assert_eq!(ModelDigest(Sha256::digest(model.bytes).into()), model.sha256);
        assert!(model.bytes.len() <= 8 << 20);
    }
}
