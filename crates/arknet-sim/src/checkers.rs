//! What must hold after every step, computed in the plainest way, from facts and not from the
//! state machines under test.

mod grants;
mod offers;
mod requests;
mod rights;
mod slots;

use std::collections::BTreeMap;

use arknet_types::RefusalCode;

pub(crate) use requests::{Outcome, RequestId};
pub(crate) use rights::Seen;

/// The checkers, and the first thing they found.
#[derive(Debug, Default)]
pub(crate) struct Checkers {
    violation: Option<String>,
    rights: rights::Rights,
    grants: grants::Granted,
    slots: slots::Slots,
    offers: offers::Offers,
    requests: requests::Requests,
    /// How often serving nodes gave each refusal: shows that a run reached the states it should.
    pub(crate) refusals: BTreeMap<RefusalCode, u64>,
}

impl Checkers {
    /// Remembers a violation; the first one counts, as others may follow from it.
    fn hold(&mut self, holds: bool, violation: impl FnOnce() -> String) {
        if !holds && self.violation.is_none() {
            self.violation = Some(violation());
        }
    }

    /// A rule about the state of a node, whatever it is.
    pub(crate) fn rule(&mut self, holds: bool, violation: impl FnOnce() -> String) {
        self.hold(holds, violation);
    }

    pub(crate) fn refused(&mut self, code: RefusalCode) {
        *self.refusals.entry(code).or_default() += 1;
    }

    pub(crate) fn executed(&self) -> u64 {
        self.rights.executed()
    }

    pub(crate) fn take_violation(&mut self) -> Option<String> {
        self.violation.take()
    }

    /// A serving node lost its memory.
    pub(crate) fn server_crashed(&mut self, server: usize) {
        self.rights.crashed(server);
        self.grants.crashed(server);
        self.slots.crashed(server);
    }

    /// A client lost its memory, and the people who waited for it are gone.
    pub(crate) fn client_crashed(&mut self, client: usize) {
        self.offers.crashed(client);
        self.requests.crashed(client);
    }
}
