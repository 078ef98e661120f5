//! Who is told of news, and who is asked for what it has.

use std::time::Duration;

use exo_crdt::StateRoot;
use exo_types::limits::{
    SHARED_ASK_WAIT_MILLIS, SHARED_MUCH_BATCHES, SHARED_NEWS_MILLIS, SHARED_ROUND_MILLIS,
    SHARED_STALLED_MILLIS, SHARED_TALKS_PER_COLLECTION_MAX,
};
use exo_types::{CollectionName, PeerId};

use super::Shared;
use super::message::{Held, ShareMessage};
use super::peer::{Link, Peer, Talk};

impl Shared {
    /// A lane is there: its member is told what is held, and so it finds out what it lacks.
    pub(super) fn lane(&mut self, peer: PeerId) {
        let (me, now) = (self.me, self.now.mono);
        if peer == me {
            return;
        }
        self.peers.entry(peer).or_insert_with(|| Peer::new(me, peer, now)).lane(true);
        let names: Vec<_> = self.collections.keys().cloned().collect();
        for name in names.iter().filter(|name| self.rights.reads(name, &me)) {
            if self.rights.reads(name, &peer)
                && let Some(state) = self.peers.get_mut(&peer)
            {
                state.link(name).due = true;
            }
        }
        self.tell(&peer);
        self.pump(&peer);
    }

    /// The collection has changed: its readers are told soon.
    pub(super) fn spread(&mut self, name: &CollectionName) {
        if !self.rights.reads(name, &self.me) {
            return;
        }
        let rights = &self.rights;
        for (peer, state) in self.peers.iter_mut().filter(|(_, state)| state.lane) {
            if rights.reads(name, peer) {
                state.link(name).due = true;
            }
        }
        self.tell_due();
    }

    pub(super) fn tell_due(&mut self) {
        let now = self.now.mono;
        let due = |state: &Peer| {
            state.lane && state.links.values().any(|link| link.due && news_at(link) <= now)
        };
        let peers: Vec<_> = self.peers.iter().filter(|(_, s)| due(s)).map(|(p, _)| *p).collect();
        for peer in peers {
            self.tell(&peer);
            self.pump(&peer);
        }
    }

    /// Tells a peer what is due.
    fn tell(&mut self, peer: &PeerId) {
        let now = self.now.mono;
        let Some(state) = self.peers.get_mut(peer) else { return };
        let due = |link: &Link| link.due && news_at(link) <= now;
        let names: Vec<_> = state
            .links
            .iter()
            .filter(|(_, link)| due(link))
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            let Some(collection) = self.collections.get_mut(&name) else { continue };
            // What is not on the disk yet is no news: it is told when it is.
            if collection.unsaved(self.saved) {
                continue;
            }
            let held = collection.held();
            let link = state.link(&name);
            link.due = false;
            if link.told.is_some_and(|(root, _)| root == held.root) {
                continue;
            }
            link.told = Some((held.root, now));
            state.post(ShareMessage::News { collection: name, state: held });
        }
    }

    /// A peer says what it holds.
    pub(super) fn news(&mut self, peer: PeerId, name: &CollectionName, held: Held) {
        if !self.rights.reads(name, &peer) || !self.has(name, Some(peer)) {
            return;
        }
        let now = self.now.mono;
        let Some(collection) = self.collections.get_mut(name) else { return };
        let ours = collection.held();
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let link = state.link(name);
        link.hear(held, ours.root, now);
        if held.root != ours.root {
            // It is told in turn what is held here, once: it may lack that.
            link.due = true;
            self.tell(&peer);
            self.ask_if_due(peer, name);
        } else {
            self.in_step(peer, name);
        }
    }

    /// Begins a session if the peer holds something else and nothing speaks against it.
    pub(super) fn ask_if_due(&mut self, peer: PeerId, name: &CollectionName) {
        let now = self.now.mono;
        let full = self.talks_going_on(name, true) >= SHARED_TALKS_PER_COLLECTION_MAX;
        let Some(collection) = self.collections.get_mut(name) else { return };
        let (epoch, ours) = (collection.replica.checkpoint().epoch, collection.held().root);
        let Some(state) = self.peers.get_mut(&peer) else { return };
        if !state.heard(now) || state.talks_about(name) || full {
            return;
        }
        if self.comes_from_another(&peer, name, ours) || self.much_comes_already(&peer, name) {
            return;
        }
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let link = state.link(name);
        let other = link.heard.is_some_and(|held| held.root != ours && held.epoch == epoch);
        if other && link.pause <= now {
            self.ask(peer, name);
        }
    }

    /// Whether what a peer holds is coming from another one that said the same root: a second session would
    /// bring everything twice. It is begun when the first has ended, or has brought nothing for a while.
    pub(super) fn comes_from_another(
        &self,
        peer: &PeerId,
        name: &CollectionName,
        ours: StateRoot,
    ) -> bool {
        let root_of = |of: &Peer| of.links.get(name)?.heard.map(|held| held.root);
        let Some(root) = self.peers.get(peer).and_then(root_of).filter(|root| *root != ours) else {
            return false;
        };
        let (wait, now) = (Duration::from_millis(SHARED_ASK_WAIT_MILLIS), self.now.mono);
        let silent = Duration::from_millis(SHARED_STALLED_MILLIS);
        let goes_on = |talk: &Talk| talk.moved + silent > now && talk.brought + wait > now;
        let brings = |talk: &Talk| talk.collection == *name && !talk.over && goes_on(talk);
        let others = self.peers.iter().filter(|(other, _)| *other != peer);
        let mut same = others.filter(|(_, state)| root_of(state) == Some(root));
        same.any(|(_, state)| state.talks.values().any(brings))
    }

    /// Whether a peer holds much that this member lacks, by its count of batches.
    pub(super) fn holds_much(&self, peer: &PeerId, name: &CollectionName) -> bool {
        let heard = self.peers.get(peer).and_then(|state| state.links.get(name)?.heard);
        let ours = self.collections.get(name).map(|of| of.replica.batches() as u64);
        match (heard, ours) {
            (Some(heard), Some(ours)) => heard.batches > ours + SHARED_MUCH_BATCHES,
            _ => false,
        }
    }

    /// Whether a peer holds much that this member lacks while much is coming from another one. Members that
    /// have been apart for long differ from the others all alike: several would bring the same.
    pub(super) fn much_comes_already(&self, peer: &PeerId, name: &CollectionName) -> bool {
        let stalled = Duration::from_millis(SHARED_STALLED_MILLIS);
        let brings = |talk: &Talk| {
            let goes_on = talk.moved + stalled > self.now.mono;
            talk.much && talk.collection == *name && goes_on && !talk.over
        };
        let mut talks = self.peers.values().flat_map(|state| state.talks.values());
        self.holds_much(peer, name) && talks.any(brings)
    }

    /// Asks the peers that hold something else, those first that have waited longest, and from time to time
    /// one at random, whatever it said.
    pub(super) fn rounds(&mut self) {
        let now = self.now.mono;
        let names: Vec<_> = self.collections.keys().cloned().collect();
        for name in names {
            self.ask_about(&name);
            let Some(collection) = self.collections.get_mut(&name) else { continue };
            if now < collection.round {
                continue;
            }
            let jitter = u64::from(u16::from_le_bytes(self.random())) % SHARED_ROUND_MILLIS;
            let Some(collection) = self.collections.get_mut(&name) else { continue };
            collection.round = now + Duration::from_millis(SHARED_ROUND_MILLIS / 2 + jitter);
            let ours = collection.held().root;
            let draw = u64::from_le_bytes(self.random());
            let readers = self.readers_with_lane(&name);
            let free = |peer: &&PeerId| {
                self.peers.get(peer).is_some_and(|state| {
                    let paused = state.links.get(&name).is_some_and(|link| link.pause > now);
                    let free = !paused && state.cut_off.is_none() && !state.talks_about(&name);
                    let comes = self.comes_from_another(peer, &name, ours);
                    free && !comes && !self.much_comes_already(peer, &name)
                })
            };
            let free: Vec<_> = readers.iter().filter(free).copied().collect();
            let at = draw.checked_rem(free.len() as u64).unwrap_or(0) as usize;
            if let Some(peer) = free.get(at) {
                self.ask(*peer, &name);
            }
        }
    }

    /// Asks those that hold something else.
    pub(super) fn ask_about(&mut self, name: &CollectionName) {
        let mut apart: Vec<_> = self
            .readers_with_lane(name)
            .into_iter()
            .filter_map(|peer| {
                let link = self.peers.get(&peer)?.links.get(name).filter(|link| link.ask)?;
                Some((link.apart?, peer))
            })
            .collect();
        apart.sort_unstable();
        for (_, peer) in apart {
            self.ask_if_due(peer, name);
        }
    }

    /// Sessions about a collection, begun here or by others, in which something happens. Two that bring the same
    /// take twice as long, so there are few at once. What is begun here does not keep others from being
    /// answered: where all ask at once nobody would be. Those of which nothing is heard for a while may be on ways that are gone.
    pub(super) fn talks_going_on(&self, name: &CollectionName, ours: bool) -> usize {
        let now = self.now.mono;
        let stalled = Duration::from_millis(SHARED_STALLED_MILLIS);
        let talks = self.peers.values().flat_map(|state| state.talks.values());
        let goes_on = |talk: &&Talk| {
            talk.ours == ours && talk.collection == *name && talk.moved + stalled > now
        };
        talks.filter(goes_on).count()
    }

    /// The other readers that can be sent something, if this member is a reader.
    pub(super) fn readers_with_lane(&self, name: &CollectionName) -> Vec<PeerId> {
        if !self.rights.reads(name, &self.me) {
            return Vec::new();
        }
        let lanes = self.peers.iter().filter(|(_, state)| state.lane);
        lanes.map(|(peer, _)| *peer).filter(|peer| self.rights.reads(name, peer)).collect()
    }

    /// Both hold the same: what goes beside it is said.
    pub(super) fn in_step(&mut self, peer: PeerId, name: &CollectionName) {
        self.tell_erasures(peer, name);
        self.ask_for_values(peer, name);
    }
}

/// When a peer may be told of news again.
pub(super) fn news_at(link: &Link) -> Duration {
    link.told.map_or(Duration::ZERO, |(_, at)| at + Duration::from_millis(SHARED_NEWS_MILLIS))
}
