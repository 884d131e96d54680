use arknet_types::RefusalCode;
use serde::{Deserialize, Serialize};

const HOUR_MS: u64 = 3_600_000;

/// What a peer did.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Deed {
    /// It answered a request to the end.
    Answered,
    /// It let wait much longer than others do for the same model.
    Slow,
    /// It had no room, and said so.
    Busy,
    /// It refused what its offer says it does.
    Refused,
    /// It failed at the work.
    Failed,
    /// It went away in the middle, or could not be reached.
    Lost,
    /// It sent what is no answer: too much, something else, or a file that is not what was offered.
    Lied,
    /// A check of its work agreed with it.
    Verified,
    /// A check of its work showed it to be wrong.
    Refuted,
    /// It was connected, for a minute.
    Present,
    /// It was not connected, for a minute.
    Absent,
}

impl Deed {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Answered,
        Self::Slow,
        Self::Busy,
        Self::Refused,
        Self::Failed,
        Self::Lost,
        Self::Lied,
        Self::Verified,
        Self::Refuted,
        Self::Present,
        Self::Absent,
    ];

    /// What it counts when it is new: above zero for the peer, below zero against it.
    #[must_use]
    pub const fn weight(self) -> f64 {
        match self {
            Self::Answered => 1.0,
            Self::Slow => -1.5,
            Self::Busy => -0.05,
            Self::Refused => -0.5,
            Self::Failed => -1.0,
            Self::Lost => -1.5,
            Self::Lied => -8.0,
            Self::Verified => 4.0,
            Self::Refuted => -20.0,
            // A day of presence counts as about four answers.
            Self::Present => 0.003,
            Self::Absent => -0.003,
        }
    }

    /// After what time it counts half, in milliseconds.
    #[must_use]
    pub const fn half_life_ms(self) -> u64 {
        match self {
            Self::Busy => HOUR_MS,
            Self::Slow | Self::Refused | Self::Failed | Self::Lost => 6 * HOUR_MS,
            Self::Answered | Self::Present | Self::Absent => 24 * HOUR_MS,
            Self::Lied | Self::Verified => 7 * 24 * HOUR_MS,
            Self::Refuted => 30 * 24 * HOUR_MS,
        }
    }

    /// What it is in words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Answered => "answered to the end",
            Self::Slow => "began much later than usual",
            Self::Busy => "was busy",
            Self::Refused => "refused what it offers",
            Self::Failed => "failed at the work",
            Self::Lost => "was lost or could not be reached",
            Self::Lied => "sent what it should not have sent",
            Self::Verified => "was checked and right",
            Self::Refuted => "was checked and wrong",
            Self::Present => "was connected, in minutes",
            Self::Absent => "was not connected, in minutes",
        }
    }

    /// Whether it is a thing of its own, not a measure of time.
    #[must_use]
    pub(super) const fn is_single(self) -> bool {
        !matches!(self, Self::Present | Self::Absent)
    }

    /// What a refusal says of the peer; none where it says something of the request.
    #[must_use]
    pub const fn of_refusal(code: RefusalCode) -> Option<Self> {
        match code {
            RefusalCode::Busy | RefusalCode::RateLimited | RefusalCode::ShuttingDown => {
                Some(Self::Busy)
            }
            RefusalCode::ProviderFailed => Some(Self::Failed),
            RefusalCode::PeerLost => Some(Self::Lost),
            RefusalCode::NotPermitted
            | RefusalCode::UnknownModel
            | RefusalCode::Unsupported
            | RefusalCode::PriceTooHigh => Some(Self::Refused),
            // These are about the request, the session or the two clocks.
            _ => None,
        }
    }
}
