//! A node's own updates on their way: numbered, bundled, signed, sent until they are committed.
//!
//! Each bundle has one request number. It is journaled before it is sent, so that after a restart the
//! same bundle goes on under the same number. When somebody else's bundle was committed under the number
//! (one from before the journal was lost), this one can never be, and its updates are bundled anew.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use exo_crypto::Signed;
use exo_types::Sequence;
use exo_types::limits::{
    BUNDLE_BYTES_MAX, BUNDLE_UPDATES_MAX, BUNDLES_PENDING_PER_MEMBER_MAX, STATUS_BUSY_MILLIS,
    SUBMISSIONS_WAITING_MAX, UPDATE_BYTES_MAX,
};

use crate::effect::{Decline, Effect};
use crate::entry::LoggedBatch;
use crate::guard::{Record, Role};
use crate::ledger::Ledger;
use crate::message::Message;
use crate::replica::Replica;
use crate::update::{Bundle, BundleHead, CheckedBundle, Update, root_over};

/// See the [module](self).
#[derive(Clone, Debug, Default)]
pub(crate) struct Client {
    queue: VecDeque<(u64, Update)>,
    signing: Option<(BundleHead, Vec<(u64, Update)>)>,
    sent: BTreeMap<u64, Sent>,
    /// Carried out, not yet certified: ticket and leaf.
    committed: VecDeque<(u64, u64)>,
}

#[derive(Clone, Debug)]
struct Sent {
    bundle: CheckedBundle,
    tickets: Vec<u64>,
    at: Duration,
}

impl Client {
    /// Bundles that are on their way.
    pub(crate) fn outstanding(&self) -> impl Iterator<Item = (&Arc<Bundle>, &[u64])> {
        self.sent.values().map(|sent| (sent.bundle.bundle(), sent.tickets.as_slice()))
    }

    /// Whether anything is on its way.
    pub(crate) fn busy(&self) -> bool {
        !self.queue.is_empty()
            || self.signing.is_some()
            || !self.sent.is_empty()
            || !self.committed.is_empty()
    }

    /// How many updates are held.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
            + self.committed.len()
            + self.sent.values().map(|s| s.tickets.len()).sum::<usize>()
    }

    /// A bundle from the journal. Updates that an earlier bundle of the journal could not bring are in
    /// it again, and wait no more.
    pub(crate) fn recovered(&mut self, bundle: CheckedBundle, tickets: Vec<u64>) {
        for pair in tickets.iter().zip(&bundle.bundle().updates) {
            let same = |(ticket, update): &(u64, Update)| (ticket, update) == pair;
            if let Some(at) = self.queue.iter().position(same) {
                self.queue.remove(at);
            }
        }
        self.sent.insert(bundle.head().number, Sent { bundle, tickets, at: Duration::ZERO });
    }

    /// What is committed and not certified: ticket and leaf.
    pub(crate) fn owed(&self) -> Vec<(u64, u64)> {
        self.committed.iter().copied().collect()
    }

    pub(crate) fn owes(&mut self, owed: Vec<(u64, u64)>) {
        self.committed = owed.into();
    }

    /// The bundle that is to be signed.
    pub(crate) fn signing_head(&self) -> Option<&BundleHead> {
        self.signing.as_ref().map(|(head, _)| head)
    }

    fn wants_to_rejoin(&self, nonce: u64) -> bool {
        let is = |update: &Update| *update == Update::Rejoin { nonce };
        self.queue.iter().any(|(_, update)| is(update))
            || self.signing.iter().any(|(_, updates)| updates.iter().any(|(_, u)| is(u)))
            || self.sent.values().any(|sent| sent.bundle.bundle().updates.iter().any(is))
    }

    /// The next bundle's updates, as many as it takes.
    fn next_updates(&mut self) -> Vec<(u64, Update)> {
        let mut bytes = 0;
        let mut updates = Vec::new();
        while let Some((_, update)) = self.queue.front() {
            bytes += update.bytes();
            if bytes > BUNDLE_BYTES_MAX || updates.len() >= BUNDLE_UPDATES_MAX {
                break;
            }
            updates.extend(self.queue.pop_front());
        }
        updates
    }
}

impl<L: Ledger> Replica<L> {
    pub(crate) fn on_submit(&mut self, ticket: u64, update: Update) {
        let why = if update.bytes() > UPDATE_BYTES_MAX {
            Some(Decline::TooLong)
        } else if self.seat().is_none() {
            Some(Decline::NoVote)
        } else if self.client.len() >= SUBMISSIONS_WAITING_MAX {
            Some(Decline::Busy)
        } else {
            None
        };
        match why {
            Some(why) => self.outbox.emit_now(Effect::Declined { ticket, why }),
            None => self.client.queue.push_back((ticket, update)),
        }
    }

    /// Bundles what waits, one at a time, and asks for the signature.
    pub(crate) fn pump_client(&mut self) {
        if self.client.signing.is_some()
            || self.client.queue.is_empty()
            || self.client.sent.len() >= BUNDLES_PENDING_PER_MEMBER_MAX
        {
            return;
        }
        let Some(next) = self.state.next.get(&self.config.me).copied() else { return };
        let after = self.client.sent.last_key_value().map_or(0, |(number, _)| number + 1);
        let updates = self.client.next_updates();
        let root = root_over(updates.iter().map(|(_, update)| update));
        let head = BundleHead {
            federation: self.config.federation,
            member: self.config.me,
            number: next.max(after),
            count: updates.len() as u32,
            root,
        };
        self.client.signing = Some((head.clone(), updates));
        self.ask_bundle(head);
    }

    pub(crate) fn on_bundle_signed(&mut self, signed: Signed<BundleHead>) {
        let Some((head, updates)) = self.client.signing.take() else { return };
        if signed.claimed().ok().as_ref() != Some(&head) {
            self.client.signing = Some((head, updates));
            return;
        }
        let next = self.state.next.get(&self.config.me).copied();
        let (tickets, updates): (Vec<u64>, Vec<Update>) = updates.into_iter().unzip();
        if next.is_none_or(|next| head.number < next) {
            // While it was being signed the number was used up, or the vote was lost.
            self.requeue(tickets, updates);
            return;
        }
        let bundle = Arc::new(Bundle { head: signed, updates });
        // The root is of these very updates: it was made when the signature was asked for.
        let bundle = CheckedBundle::own(head, bundle);
        self.outbox.record(Record::Submitted {
            bundle: Arc::clone(bundle.bundle()),
            tickets: tickets.clone(),
        });
        let number = bundle.head().number;
        let message = Message::Request(Arc::clone(bundle.bundle()));
        self.keep_request(bundle.clone());
        self.client.sent.insert(number, Sent { bundle, tickets, at: self.now });
        match self.primary() {
            Some(primary) if primary != self.config.me => {
                self.outbox.emit(Effect::Send { to: primary, message });
            }
            _ => {}
        }
    }

    /// Sends again what has waited, to everybody: now the backups watch the primary, too.
    pub(crate) fn retransmit_requests(&mut self) {
        let due = Duration::from_millis(STATUS_BUSY_MILLIS);
        let mut again = Vec::new();
        for sent in self.client.sent.values_mut() {
            if self.now >= sent.at + due || sent.at.is_zero() {
                sent.at = self.now;
                again.push(sent.bundle.clone());
            }
        }
        for bundle in again {
            let message = Message::Request(Arc::clone(bundle.bundle()));
            self.outbox.emit(Effect::Broadcast(message));
            self.keep_request(bundle);
        }
    }

    /// A batch was carried out; its first leaf has this index.
    pub(crate) fn client_executed(&mut self, first: u64, batch: &LoggedBatch) {
        let ours = |(_, logged): &(usize, &crate::entry::Logged)| logged.member == self.config.me;
        for (at, logged) in batch.updates.iter().enumerate().filter(ours) {
            let sent = self.client.sent.get(&logged.number);
            // Under our number only our own content counts as ours.
            let same = sent.filter(|s| {
                s.bundle.bundle().updates.get(logged.index as usize) == Some(&logged.update)
            });
            let ticket = same.and_then(|s| s.tickets.get(logged.index as usize)).copied();
            if let Some(ticket) = ticket {
                self.client.committed.push_back((ticket, first + at as u64));
            }
        }
        self.settle_sent(batch);
    }

    /// Forgets bundles whose number is used up; updates that were not committed go back.
    fn settle_sent(&mut self, batch: &LoggedBatch) {
        let Some(next) = self.state.next.get(&self.config.me).copied() else { return };
        let live = self.client.sent.split_off(&next);
        let over = std::mem::replace(&mut self.client.sent, live);
        for (number, sent) in over {
            let ours = batch
                .updates
                .iter()
                .filter(|logged| logged.member == self.config.me && logged.number == number);
            let logged: Vec<&Update> = ours.map(|logged| &logged.update).collect();
            let updates = &sent.bundle.bundle().updates;
            if logged.len() != updates.len() || logged.iter().zip(updates).any(|(a, b)| *a != b) {
                self.client.committed.retain(|(ticket, _)| !sent.tickets.contains(ticket));
                self.requeue(sent.tickets, updates.clone());
            }
        }
    }

    /// Tells of what is certified by now.
    pub(crate) fn client_certified(&mut self) {
        while let Some((ticket, leaf)) = self.client.committed.front().copied()
            && leaf < self.stable.size
        {
            self.client.committed.pop_front();
            let certified: Sequence = self.stable.sequence;
            self.outbox.emit(Effect::Done { ticket, leaf, certified });
        }
    }

    /// A new epoch: who lost its vote asks for nothing any more.
    pub(crate) fn client_epoch(&mut self) {
        if self.seat().is_some() {
            return;
        }
        let sent = std::mem::take(&mut self.client.sent);
        let queue = std::mem::take(&mut self.client.queue);
        let signing = self.client.signing.take();
        let tickets = sent.into_values().flat_map(|s| s.tickets);
        let tickets = tickets.chain(queue.into_iter().map(|(ticket, _)| ticket));
        let signing = signing.into_iter().flat_map(|(_, u)| u).map(|(ticket, _)| ticket);
        for ticket in tickets.chain(signing) {
            self.outbox.emit(Effect::Declined { ticket, why: Decline::NoVote });
        }
    }

    /// A replica that lost its journal asks for an epoch in which it may vote, once it knows the log.
    pub(crate) fn ask_to_rejoin(&mut self) {
        let Role::Wiped { nonce } = self.role else { return };
        let current = self.stable.sequence <= self.state.executed;
        if current
            && self.state.turn.is_none()
            && self.seat().is_some()
            && self.state.may_rejoin(&self.config.me)
            && !self.client.wants_to_rejoin(nonce)
        {
            self.client.queue.push_front((REJOIN_TICKET, Update::Rejoin { nonce }));
        }
    }

    fn requeue(&mut self, tickets: Vec<u64>, updates: Vec<Update>) {
        for pair in tickets.into_iter().zip(updates).rev() {
            self.client.queue.push_front(pair);
        }
    }
}

/// The ticket of a request to rejoin, which no caller made.
pub const REJOIN_TICKET: u64 = u64::MAX;
