use std::collections::BTreeMap;

use arknet_types::RefusalCode;

use super::Checkers;
use crate::network::NodeId;

/// Names one request of one person.
pub(crate) type RequestId = u64;

/// How a request ended for the person who made it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    Answered,
    /// It broke off after the first token.
    BrokeOff,
    Refused(RefusalCode),
}

#[derive(Debug)]
struct Open {
    client: NodeId,
    /// It was made after healing, for a model that is served: it must be answered.
    must_answer: bool,
    outcome: Option<Outcome>,
}

/// The requests of people and how they ended.
#[derive(Debug, Default)]
pub(super) struct Requests {
    count: RequestId,
    all: BTreeMap<RequestId, Open>,
}

impl Requests {
    pub(super) fn crashed(&mut self, client: NodeId) {
        self.all.retain(|_, open| open.client != client || open.outcome.is_some());
    }
}

impl Checkers {
    /// A person makes a request.
    pub(crate) fn asked(&mut self, client: NodeId, must_answer: bool) -> RequestId {
        self.requests.count += 1;
        let id = self.requests.count;
        let open = Open { client, must_answer, outcome: None };
        self.requests.all.insert(id, open);
        id
    }

    /// A request ended for its person.
    pub(crate) fn ended(&mut self, id: RequestId, outcome: Outcome) {
        let open = self.requests.all.get_mut(&id);
        let before = open.map(|open| (open.must_answer, open.outcome.replace(outcome)));
        self.hold(matches!(before, Some((_, None))), || {
            format!("request {id} ended twice: {before:?}, then {outcome:?}")
        });
        let (must_answer, _) = before.unwrap_or_default();
        self.hold(!must_answer || outcome == Outcome::Answered, || {
            format!("request {id}, made after healing, ended as {outcome:?}")
        });
    }

    /// Nothing is left to happen: every request must have ended.
    pub(crate) fn all_ended(&mut self) {
        let open = self.requests.all.iter().find(|(_, o)| o.outcome.is_none());
        let open = open.map(|(id, open)| (*id, open.client));
        self.hold(open.is_none(), || format!("request (id, client) {open:?} never ended"));
    }

    /// Requests answered, broken off and refused.
    pub(crate) fn outcomes(&self) -> [u64; 3] {
        let mut counts = [0; 3];
        for outcome in self.requests.all.values().filter_map(|open| open.outcome) {
            counts[match outcome {
                Outcome::Answered => 0,
                Outcome::BrokeOff => 1,
                Outcome::Refused(_) => 2,
            }] += 1;
        }
        counts
    }
}
