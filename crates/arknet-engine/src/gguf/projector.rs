use std::{io::Read, path::Path};

use super::{GgufError, GgufInfo, Head, Purpose, metadata::Metadata, open};

/// What every projector says it is.
pub(super) const ARCHITECTURE: &str = "clip";
/// Patches of a picture that is read in its own size, when the file does not tell: those of the
/// largest that the native library takes then, 4,096 tokens of four patches each.
const PATCHES_MAX: u64 = 4 * 4096;

/// What a file says about itself that turns pictures into what a model reads.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProjectorInfo {
    /// Bytes of all tensors.
    pub tensor_bytes: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Numbers that one token of a picture has for the model.
    pub token_length: u64,
    /// Numbers that hold one picture between two layers and inside one, at most.
    pub picture_numbers: u64,
}

impl ProjectorInfo {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, GgufError> {
        let (file, length) = open(path)?;
        Self::parse(file, length)
    }

    /// Whether it makes what this model reads. One for other models would end a process in native code.
    #[must_use]
    pub fn fits(&self, model: &GgufInfo) -> bool {
        model.purpose == Purpose::Generate
            && self.token_length.is_multiple_of(u64::from(model.embedding_length.max(1)))
    }

    /// Reads a file of `length` bytes, as far as its description goes.
    pub fn parse(source: impl Read, length: u64) -> Result<Self, GgufError> {
        let Head { metadata, sizes, .. } = Head::read(source, length)?;
        let architecture = metadata.text("general.architecture").unwrap_or_default();
        let sees = metadata.integer("clip.has_vision_encoder") == Some(1);
        if architecture != ARCHITECTURE || !sees {
            let architecture =
                if architecture == ARCHITECTURE { "for sounds" } else { architecture };
            return Err(GgufError::NotProjector { architecture: architecture.to_owned() });
        }
        let need = |suffix: &str| {
            let key = format!("clip.vision.{suffix}");
            metadata.integer(&key).ok_or(GgufError::Missing { key })
        };
        let width = need("embedding_length")?;
        let inside = need("feed_forward_length")?;
        let per_patch = width.saturating_mul(8).saturating_add(inside.saturating_mul(3));
        let patches = patches(&metadata, need("image_size")?, need("patch_size")?)?;
        // Some models are given what several layers made of the picture, beside each other.
        let layers = metadata.sum("clip.vision.is_deepstack_layers").unwrap_or(0);
        Ok(Self {
            tensor_bytes: sizes.bytes,
            file_bytes: length,
            token_length: need("projection_dim")?.saturating_mul(layers.saturating_add(1)),
            picture_numbers: patches.saturating_mul(per_patch),
        })
    }
}

/// Patches of one picture.
fn patches(metadata: &Metadata, picture: u64, patch: u64) -> Result<u64, GgufError> {
    let side = picture
        .checked_div(patch)
        .filter(|side| *side > 0)
        .ok_or(GgufError::Absurd { what: "the size of a patch", found: patch })?;
    let fixed = side.saturating_mul(side);
    // Those that merge patches read pictures in their own size.
    let has_own_size = metadata.integer("clip.vision.spatial_merge_size").is_some();
    Ok(if has_own_size { fixed.max(PATCHES_MAX) } else { fixed })
}
