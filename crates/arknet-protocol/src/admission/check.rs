//! What a request shows by itself, before anything is remembered of anybody.

use arknet_types::{
    DelegationError, PublicKey, Refusal, RefusalCode, Request, Timestamp, limits::CLOCK_SKEW_MS_MAX,
};

use super::{Policy, refuse};

/// A request that is what it claims to be; whether it may run is not decided yet.
#[derive(Debug)]
pub struct CheckedRequest {
    pub(super) from: PublicKey,
    pub(super) request: Request,
    pub(super) delegation_digest: [u8; 32],
}

impl CheckedRequest {
    /// Checks all that the request itself shows: network, audience, freshness, delegation, scope,
    /// parameters, signatures. `from` is the peer the transport has authenticated; `is_known` says
    /// of a delegation digest whether its signature was verified before
    /// ([`crate::Admission::knows_delegation`]).
    pub fn check(
        request: Request,
        from: PublicKey,
        policy: &Policy,
        now: Timestamp,
        is_known: impl FnOnce(&[u8; 32]) -> bool,
    ) -> Result<Self, Refusal> {
        let body = &request.body;
        let delegation = &request.delegation;
        if body.network != policy.network || delegation.body.network != policy.network {
            return Err(refuse(RefusalCode::WrongNetwork, "signed for another network"));
        }
        if body.audience != policy.me {
            return Err(refuse(RefusalCode::WrongAudience, "signed for another peer"));
        }
        if now.since_ms(body.sent_at) > CLOCK_SKEW_MS_MAX {
            return Err(refuse(RefusalCode::Expired, "signed over 30 s ago; check the clocks"));
        }
        if body.sent_at < policy.started_at {
            // Nonces from before the start are not remembered, so such a request could be a replay.
            let refusal =
                refuse(RefusalCode::Expired, "signed before this node started; try again");
            return Err(refusal.retry_after_ms(policy.started_at.since_ms(body.sent_at) + 1));
        }
        if body.sent_at.since_ms(now) > CLOCK_SKEW_MS_MAX {
            return Err(refuse(RefusalCode::FutureDated, "signed in the future; check the clocks"));
        }
        delegation.check_times(now).map_err(refuse_delegation)?;
        if delegation.body.peer_scope.is_some_and(|peer| peer != policy.me) {
            return Err(refuse(RefusalCode::NotPermitted, "the session is for another peer"));
        }
        if delegation.body.model_scope.as_ref().is_some_and(|model| *model != request.infer.model) {
            return Err(refuse(RefusalCode::NotPermitted, "the session is for another model"));
        }
        request.infer.check()?;
        if !request.is_signed() {
            return Err(refuse(
                RefusalCode::BadSignature,
                "the session's signature does not match",
            ));
        }
        let delegation_digest = body.delegation_digest;
        if !is_known(&delegation_digest) {
            delegation.check_signature().map_err(refuse_delegation)?;
        }
        Ok(Self { from, request, delegation_digest })
    }

    /// The request itself.
    #[must_use]
    pub const fn request(&self) -> &Request {
        &self.request
    }
}

fn refuse_delegation(error: DelegationError) -> Refusal {
    let code = match error {
        DelegationError::FutureDated => RefusalCode::FutureDated,
        DelegationError::Signature => RefusalCode::BadSignature,
        _ => RefusalCode::Expired,
    };
    Refusal::new(code, error.to_string())
}
