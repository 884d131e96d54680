//! The whole state in parts, as others begin with it.

use arknet_chain::{Manifest, Part, PartBuilder, limits::SNAPSHOT_PARTS_MAX};

use super::{Reader, StoreError};

impl Reader {
    /// Gives each part of the state to `keep`, one at a time, and returns what they are. None
    /// before the first block, which nothing proves.
    pub fn export<E: From<StoreError>>(
        &self,
        mut keep: impl FnMut(usize, &[u8]) -> Result<(), E>,
    ) -> Result<Option<Manifest>, E> {
        let Some(block) = self.light_block(self.height())? else { return Ok(None) };
        let mut manifest = Manifest { block, parts: Vec::new(), entries: 0 };
        let mut builder = PartBuilder::default();
        let mut put = |bytes: Vec<u8>, manifest: &mut Manifest| {
            keep(manifest.parts.len(), &bytes)?;
            manifest.parts.push(Part::hash(&bytes));
            Ok::<(), E>(())
        };
        for entry in self.state()? {
            let (key, value) = entry?;
            manifest.entries = manifest.entries.saturating_add(1);
            if let Some(full) = builder.push(key, value) {
                put(full, &mut manifest)?;
            }
        }
        if let Some(last) = builder.finish() {
            put(last, &mut manifest)?;
        }
        assert!(manifest.parts.len() <= SNAPSHOT_PARTS_MAX, "a state of 64 GiB has other needs");
        Ok(Some(manifest))
    }
}
