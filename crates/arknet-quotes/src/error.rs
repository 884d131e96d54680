/// Why a quote does not count.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum QuoteError {
    /// The quote or what it is checked with is larger than a claim may have.
    #[error("the quote or its collateral is too large")]
    Size,
    /// The collateral has another form than the platform's.
    #[error("the collateral is not of the form that belongs to this platform")]
    Collateral,
    /// The quote has another form than the platform's, or is of another one.
    #[error("the quote is not one of this platform")]
    Form,
    /// It does not lead to the vendor's root at that time.
    #[error("the quote does not lead to its vendor: {0}")]
    Unproven(String),
    /// The machine lacks fixes without which the vendor does not stand for it.
    #[error("the vendor calls the machine {0}")]
    Tcb(String),
    /// Its owner can look into the enclave, or move it where he can.
    #[error("the enclave can be looked into or moved")]
    Open,
    /// The certificate is of another chip, or of other versions on it.
    #[error("the certificate is not about the chip and the versions that the report names")]
    Chip,
}
