//! Transactions at the door.

use std::collections::BTreeMap;

use arknet_chain::{Claim, SignedTransaction, StateView, VerifiedTransaction};
use arknet_types::Timestamp;

use super::{Now, Replica, misbehaved};
use crate::{
    Message, Misdeed, Output, Peer, Refused, Source, Verdict,
    limits::{REPEAT_PEERS_MAX, TELL_AGAIN_MAX, TELL_AGAIN_MS},
};

impl Replica {
    /// Lets transactions wait. All signatures are checked together, whoever sent them.
    pub(super) fn on_transactions<V: StateView>(
        &mut self,
        at: &Now<'_, V>,
        transactions: Vec<(Source, SignedTransaction)>,
        out: &mut Vec<Output>,
    ) {
        let (sources, all): (Vec<Source>, Vec<SignedTransaction>) =
            transactions.into_iter().unzip();
        let is_known = |id: &_| self.mempool.find(id).is_some();
        let which_hold = |claims: &[Claim]| (self.options.which_hold)(claims, &mut || {});
        let checked = VerifiedTransaction::verify_all(all, is_known, which_hold);
        let mut told: Vec<SignedTransaction> = Vec::new();
        let mut passed: BTreeMap<Peer, Vec<SignedTransaction>> = BTreeMap::new();
        let mut verdicts: BTreeMap<u64, Verdict> = BTreeMap::new();
        for (source, transaction) in sources.into_iter().zip(checked) {
            let id = transaction.as_ref().map(VerifiedTransaction::id);
            let signed = transaction.as_ref().map(|one| one.signed().clone());
            let result = self.let_wait(at, source, transaction);
            let is_new = result.is_ok();
            let verdict = match (source, result) {
                (Source::Local(ticket), result) => {
                    let result = result.map(|()| id.expect("what waits has a name"));
                    out.push(Output::Answer { ticket, result });
                    Verdict::Ignore
                }
                (Source::Peer(peer) | Source::Spread(peer, _), Err(why)) => {
                    let misdeed = misdeed(why);
                    let verdict = misdeed.as_ref().map_or(Verdict::Ignore, |_| Verdict::Reject);
                    misdeed.into_iter().for_each(|misdeed| misbehaved(peer, misdeed, out));
                    verdict
                }
                (Source::Peer(_) | Source::Spread(..), Ok(())) => Verdict::Accept,
            };
            match (source, signed.filter(|_| is_new)) {
                (Source::Local(_), Some(signed)) => told.push(signed),
                (Source::Peer(peer), Some(signed)) => passed.entry(peer).or_default().push(signed),
                (Source::Spread(_, tag), _) => {
                    let all = verdicts.entry(tag).or_insert(verdict);
                    *all = verdict.max(*all);
                }
                _ => {}
            }
        }
        out.extend(Message::of_transactions(told).into_iter().map(Output::Gossip));
        for (from, transactions) in passed {
            let messages = Message::of_transactions(transactions).into_iter();
            out.extend(messages.map(|message| Output::Forward { from, message }));
        }
        out.extend(verdicts.into_iter().map(|(tag, verdict)| Output::Judge { tag, verdict }));
    }

    fn let_wait<V: StateView>(
        &mut self,
        at: &Now<'_, V>,
        source: Source,
        transaction: Option<VerifiedTransaction>,
    ) -> Result<(), Refused> {
        let transaction = transaction.ok_or(Refused::Signature)?;
        let peer = match source {
            Source::Local(_) => None,
            Source::Peer(peer) | Source::Spread(peer, _) => Some(peer),
        };
        self.mempool.insert(at.view, transaction, peer, at.time)?;
        self.is_idle = false;
        Ok(())
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

/// What a peer did that sent such a transaction, where no honest one does.
fn misdeed(refused: Refused) -> Option<Misdeed> {
    match refused {
        Refused::Signature => Some(Misdeed::Signature),
        Refused::Rejected(why) => (!why.is_innocent()).then_some(Misdeed::Transaction(why)),
    }
}
