//! Bounds on what people write about their peers.

/// Bytes of the file of approved peers.
pub(super) const FILE_BYTES_MAX: u64 = 8 << 20;
/// Models that one grant can name.
pub(super) const SHARED_MODELS_MAX: usize = 256;
/// Characters of the name an owner gives a peer.
pub(super) const NAME_CHARS_MAX: usize = 128;
/// Times in a row that a change is made anew because somebody else wrote in between.
pub(super) const ROUNDS_MAX: usize = 8;
