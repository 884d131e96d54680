//! The tables. A change of what lies in them is a new [`FORMAT`].

use redb::TableDefinition;

/// The form in which this version writes.
pub(super) const FORMAT: u64 = 2;

/// What there is one of, by its name.
pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
/// A number: [`FORMAT`].
pub(super) const META_FORMAT: &str = "format";
/// The name of the genesis.
pub(super) const META_GENESIS: &str = "genesis";
/// The last height, as a number.
pub(super) const META_HEIGHT: &str = "height";

/// The state: key to value.
pub(super) const VALUES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("values");
/// The tree over it: path to page.
pub(super) const PAGES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("pages");

/// Height to header.
pub(super) const HEADERS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("headers");
/// Height to the certificate that commits it.
pub(super) const CERTIFICATES: TableDefinition<'_, u64, &[u8]> =
    TableDefinition::new("certificates");
/// Height to block.
pub(super) const BLOCKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("blocks");
/// Height to what became of its transactions.
pub(super) const OUTCOMES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("outcomes");
/// The set that votes from this height on.
pub(super) const SETS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("validator-sets");

/// A block's name to its height.
pub(super) const HEIGHTS: TableDefinition<'_, &[u8; 32], u64> = TableDefinition::new("heights");
/// A transaction's name to height and place.
pub(super) const TRANSACTIONS: TableDefinition<'_, &[u8; 32], (u64, u32)> =
    TableDefinition::new("transactions");
/// Side, account and channel of each open channel.
pub(super) const CHANNELS: TableDefinition<'_, &[u8; 53], ()> = TableDefinition::new("channels");

/// A side of a channel.
#[derive(Clone, Copy, Debug)]
pub(super) enum Side {
    /// Who pays.
    Payer,
    /// Who is paid.
    Payee,
}

pub(super) fn channel_key(side: Side, account: &[u8; 20], channel: &[u8; 32]) -> [u8; 53] {
    let mut key = [0; 53];
    key[0] = match side {
        Side::Payer => 0,
        Side::Payee => 1,
    };
    key[1..21].copy_from_slice(account);
    key[21..].copy_from_slice(channel);
    key
}
