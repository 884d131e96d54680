/// A driver with one thing done wrong. The checkers must catch each of them: a checker that cannot
/// fail proves nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mutant {
    /// Starts the work of requests that should wait.
    Overbooks,
    /// Forgets every nonce at once.
    ForgetsNonces,
    /// After a restart, takes requests signed before it.
    ForgetsRestarts,
    /// After a restart, trusts its clock alone, and not what it has stored.
    ForgetsHorizon,
    /// Takes requests signed for other peers.
    SkipsAudience,
    /// Takes requests whatever their date.
    SkipsFreshness,
    /// Never says that an admitted request is over.
    NeverSettles,
    /// Says of every request that it cost nothing.
    SettlesForFree,
    /// Goes on routing to peers that were lost.
    RoutesToTheDead,
    /// Never tells the router that a request is over.
    NeverEnds,
    /// Believes offers without looking at the signature.
    BelievesOffers,
    /// Runs remote requests before local ones.
    PutsPeersFirst,
    /// Ends a request at the first refusal and goes on all the same.
    EndsTwice,
    /// Never drops what has expired.
    KeepsExpired,
    /// Serves whoever asks, approved or not.
    ServesAnyone,
    /// Goes on with what runs by a right that is gone.
    KeepsRevoked,
    /// Tells the gate nothing of the limits of a grant.
    LiftsLimits,
}

impl Mutant {
    /// All of them, each with the words by which it must be caught.
    pub const ALL: [(Self, &'static str); 17] = [
        (Self::Overbooks, "slots at"),
        (Self::ForgetsNonces, "executed one request twice"),
        (Self::ForgetsRestarts, "admitted at"),
        (Self::ForgetsHorizon, "executed one request twice"),
        (Self::SkipsAudience, "admitted a request to another peer"),
        (Self::SkipsFreshness, "admitted at"),
        (Self::NeverSettles, "the gate of node"),
        (Self::SettlesForFree, "atoms are owed"),
        (Self::RoutesToTheDead, "was lost and has not spoken since"),
        (Self::NeverEnds, "requests under way"),
        (Self::BelievesOffers, "never made"),
        (Self::PutsPeersFirst, "served before the owner"),
        (Self::EndsTwice, "ended twice"),
        (Self::KeepsExpired, "which is gone"),
        (Self::ServesAnyone, "which is not approved"),
        (Self::KeepsRevoked, "which lost its right"),
        (Self::LiftsLimits, "beyond the grant"),
    ];
}
