use std::fmt;

use borsh::{BorshDeserialize, BorshSerialize};

use crate::{codec, limits::REFUSAL_DETAIL_BYTES_MAX};

/// Why a request was not served. The numbers are part of the wire and never change meaning.
#[derive(BorshDeserialize, BorshSerialize, Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
#[non_exhaustive]
pub enum RefusalCode {
    /// The bytes are not a request.
    Malformed = 1,
    /// More bytes than allowed.
    TooLarge = 2,
    /// Signed for another network.
    WrongNetwork = 3,
    /// Signed for another peer.
    WrongAudience = 4,
    /// A signature does not match.
    BadSignature = 5,
    /// The request or its session is too old.
    Expired = 6,
    /// The request or its session lies in the future.
    FutureDated = 7,
    /// Seen before.
    Replayed = 8,
    /// This peer, wallet or session has no right to this.
    NotPermitted = 9,
    /// It would spend more than the session may.
    CapExceeded = 10,
    /// No such model here.
    UnknownModel = 11,
    /// No free slot and a full queue; come again after `retry_after_ms`.
    Busy = 12,
    /// Input and answer do not fit the context.
    ContextOverflow = 13,
    /// A parameter is out of its bounds.
    InvalidRequest = 14,
    /// The node is going away.
    ShuttingDown = 15,
    /// The provider failed.
    ProviderFailed = 16,
    /// Too many streams or requests from this peer.
    RateLimited = 17,
    /// The peer could not be reached, or went away. Never sent: the requester concludes it.
    PeerLost = 18,
    /// The price is above what the requester allows.
    PriceTooHigh = 19,
    /// The model cannot do this: it takes no pictures, embeds nothing, calls no tools.
    Unsupported = 20,
}

impl RefusalCode {
    /// The stable text form of the code.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::WrongNetwork => "wrong_network",
            Self::WrongAudience => "wrong_audience",
            Self::BadSignature => "bad_signature",
            Self::Expired => "expired",
            Self::FutureDated => "future_dated",
            Self::Replayed => "replayed",
            Self::NotPermitted => "not_permitted",
            Self::CapExceeded => "cap_exceeded",
            Self::UnknownModel => "unknown_model",
            Self::Busy => "busy",
            Self::ContextOverflow => "context_overflow",
            Self::InvalidRequest => "invalid_request",
            Self::ShuttingDown => "shutting_down",
            Self::ProviderFailed => "provider_failed",
            Self::RateLimited => "rate_limited",
            Self::PeerLost => "peer_lost",
            Self::PriceTooHigh => "price_too_high",
            Self::Unsupported => "unsupported",
        }
    }

    /// Whether another peer may well serve what this one refused.
    #[must_use]
    pub const fn is_worth_another_peer(self) -> bool {
        !matches!(self, Self::TooLarge | Self::ContextOverflow | Self::InvalidRequest)
    }
}

/// A refusal as a value: a stable code, words for a person, and when to come again.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub struct Refusal {
    /// The reason.
    pub code: RefusalCode,
    /// What happened and what to do, in words. Never holds what a user wrote.
    #[borsh(deserialize_with = "codec::text::<_, REFUSAL_DETAIL_BYTES_MAX>")]
    pub detail: String,
    /// Milliseconds after which it may go better.
    pub retry_after_ms: Option<u32>,
}

impl Refusal {
    /// A refusal with these words, cut to the limit.
    #[must_use]
    pub fn new(code: RefusalCode, detail: impl Into<String>) -> Self {
        let mut detail = detail.into();
        while detail.len() > REFUSAL_DETAIL_BYTES_MAX {
            detail.pop();
        }
        Self { code, detail, retry_after_ms: None }
    }

    /// The same, with a time to come again.
    #[must_use]
    pub fn retry_after_ms(self, ms: u64) -> Self {
        Self { retry_after_ms: Some(u32::try_from(ms).unwrap_or(u32::MAX)), ..self }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_cut_to_the_limit_and_longer_ones_do_not_decode() {
        let refusal = Refusal::new(RefusalCode::Busy, "\u{e9}".repeat(REFUSAL_DETAIL_BYTES_MAX));
        assert_eq!(refusal.detail.len(), REFUSAL_DETAIL_BYTES_MAX);
        assert_eq!(crate::decode::<Refusal>(&crate::encode(&refusal)).unwrap(), refusal);
        let long = Refusal { detail: "x".repeat(REFUSAL_DETAIL_BYTES_MAX + 1), ..refusal };
        assert!(crate::decode::<Refusal>(&crate::encode(&long)).is_err());
    }
}
