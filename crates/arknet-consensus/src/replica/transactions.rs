//! Transactions at the door.

use std::collections::BTreeMap;

use arknet_chain::{SignedTransaction, StateView, VerifiedTransaction};
use arknet_types::Timestamp;

use super::{Now, Replica, misbehaved};
use crate::{
    Message, Misdeed, Output, Peer, Refused, Source,
    limits::{REPEAT_PEERS_MAX, TELL_AGAIN_MAX, TELL_AGAIN_MS},
};

impl Replica {
    pub(super) fn on_transactions<V: StateView>(
        &mut self,
        at: &Now<'_, V>,
        transactions: Vec<(Source, SignedTransaction)>,
        out: &mut Vec<Output>,
    ) {
        let (sources, all): (Vec<Source>, Vec<SignedTransaction>) =
            transactions.into_iter().unzip();
        let is_known = |id: &_| self.mempool.find(id).is_some();
        let checked = VerifiedTransaction::verify_all(all, is_known, self.options.which_hold);
        let mut told: Vec<SignedTransaction> = Vec::new();
        let mut passed: BTreeMap<Peer, Vec<SignedTransaction>> = BTreeMap::new();
        for (source, transaction) in sources.into_iter().zip(checked) {
            let peer = match source {
                Source::Local(_) => None,
                Source::Peer(peer) => Some(peer),
            };
            let id = transaction.as_ref().map(VerifiedTransaction::id);
            let signed = transaction.as_ref().map(|one| one.signed().clone());
            let result = transaction.ok_or(Refused::Signature).and_then(|transaction| {
                Ok(self.mempool.insert(at.view, transaction, peer, at.time)?)
            });
            if let (Ok(()), Some(signed)) = (&result, signed) {
                self.is_idle = false;
                match peer {
                    Some(peer) => passed.entry(peer).or_default().push(signed),
                    None => told.push(signed),
                }
            }
            match (source, result) {
                (Source::Local(ticket), result) => {
                    let result = result.map(|()| id.expect("what waits has a name"));
                    out.push(Output::Answer { ticket, result });
                }
                (Source::Peer(peer), Err(Refused::Signature)) => {
                    misbehaved(peer, Misdeed::Signature, out);
                }
                (Source::Peer(peer), Err(Refused::Rejected(why))) if !why.is_innocent() => {
                    misbehaved(peer, Misdeed::Transaction(why), out);
                }
                _ => {}
            }
        }
        out.extend(Message::of_transactions(told).into_iter().map(Output::Gossip));
        for (from, transactions) in passed {
            let messages = Message::of_transactions(transactions).into_iter();
            out.extend(messages.map(|message| Output::Forward { from, message }));
        }
    }

    /// Tells again what has waited for long: others may have been away, or what passed it on.
    pub(super) fn tell_again(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        if now < self.tell_at {
            return;
        }
        self.tell_at = now.plus_ms(TELL_AGAIN_MS);
        self.mempool.expire(now);
        let long = self.mempool.waiting_for(now, TELL_AGAIN_MS);
        let mut waiting: Vec<&VerifiedTransaction> = long.collect();
        // Others each time, where there are too many.
        let first = self.told.checked_rem(waiting.len()).unwrap_or_default();
        waiting.rotate_left(first);
        waiting.truncate(TELL_AGAIN_MAX);
        self.told = first.wrapping_add(waiting.len());
        let waiting: Vec<SignedTransaction> =
            waiting.into_iter().map(|one| one.signed().clone()).collect();
        let messages = Message::of_transactions(waiting).into_iter();
        let evidence = self.evidence.values().cloned().map(Message::Evidence);
        let messages: Vec<Message> = messages.chain(evidence).chain([self.status()]).collect();
        for peer in self.peers.next_ones(REPEAT_PEERS_MAX) {
            out.extend(messages.iter().cloned().map(|message| Output::Send(peer, message)));
        }
    }
}
