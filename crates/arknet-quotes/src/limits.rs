//! Bounds on what is read of a quote; those on a whole claim are in `arknet_chain::limits`.

/// How long an enclave of AMD counts, whose vendor says nothing of when a judgement ends.
pub const SEV_SNP_AGE_MS_MAX: u64 = 30 * 24 * 3_600_000;
/// Bytes of one certificate.
pub const CERTIFICATE_BYTES_MAX: usize = 4 * 1024;
/// Certificates between a machine's own and the vendor's root, its own among them.
pub const MACHINE_CERTIFICATES_MAX: usize = 2;
/// Bytes of a file that is packed into collateral.
pub const COLLATERAL_FILE_BYTES_MAX: usize = 128 * 1024;
