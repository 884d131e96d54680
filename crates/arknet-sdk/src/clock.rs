use arknet_mesh::Offers;
use arknet_types::Timestamp;

/// The wall clock, as offers and requests count it. The decisions themselves never ask for the
/// time; callers bring it.
#[must_use]
pub fn now() -> Timestamp {
    Offers::now()
}
