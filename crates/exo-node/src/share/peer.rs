//! What a node knows of one other member about shared collections: its lane, its sessions, its share.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use exo_crdt::StateRoot;
use exo_crdt::sync::{Session, SyncMessage};
use exo_types::limits::{
    SHARED_NEWS_PER_SECOND, SHARED_OPENS_PER_SECOND, SHARED_OUTBOX_MAX, SHARED_PAUSE_MILLIS_MAX,
    SHARED_PAUSE_MILLIS_MIN,
};
use exo_types::{CollectionName, PeerId};

use super::message::{Held, ShareMessage};
use crate::rate::Rate;

/// One other member.
pub(super) struct Peer {
    pub(super) lane: bool,
    /// Messages handed to the lane that have not left yet.
    pub(super) in_flight: usize,
    outbox: VecDeque<ShareMessage>,
    pub(super) talks: BTreeMap<u64, Talk>,
    /// The next number of a session that begins here.
    next: u64,
    /// The session whose turn it was last.
    pub(super) turn: u64,
    rate: Rate,
    opens: Rate,
    /// Until when it is not listened to.
    pub(super) cut_off: Option<Duration>,
    pub(super) links: BTreeMap<CollectionName, Link>,
}

/// What a peer and this node have told each other of one collection.
#[derive(Default)]
pub(super) struct Link {
    /// What it said last that it holds.
    pub(super) heard: Option<Held>,
    /// What it was told last, and when.
    pub(super) told: Option<(StateRoot, Duration)>,
    /// It is to be told.
    pub(super) due: bool,
    /// It said that it holds something else, and no session has followed yet.
    pub(super) ask: bool,
    /// Since when it holds something else; `None` while it holds the same.
    pub(super) apart: Option<Duration>,
    /// It is not asked before.
    pub(super) pause: Duration,
    /// How long the last pause was, milliseconds.
    pause_millis: u64,
    /// It was asked to erase what this member wants erased, since the lane is there.
    pub(super) erasures_told: bool,
    /// It was asked for values and has not answered yet.
    pub(super) asked_values: bool,
}

/// A session under way.
pub(super) struct Talk {
    pub(super) collection: CollectionName,
    pub(super) session: Session,
    /// It was begun here.
    pub(super) ours: bool,
    /// Much is to come by it.
    pub(super) much: bool,
    /// What it is still to be opened with.
    pub(super) opening: Option<[u8; 32]>,
    /// What its session is begun with.
    pub(super) hello: Option<SyncMessage>,
    pub(super) begun: Duration,
    /// When something came or left last.
    pub(super) moved: Duration,
    /// When something new came last, or it began.
    pub(super) brought: Duration,
    /// Items that were new.
    pub(super) fresh: usize,
    /// Items were sent.
    pub(super) gave: bool,
    /// Messages that brought nothing.
    pub(super) barren: usize,
    /// It is over when everything has left.
    pub(super) over: bool,
}

impl Peer {
    pub(super) fn new(me: PeerId, peer: PeerId, now: Duration) -> Self {
        Self {
            lane: false,
            in_flight: 0,
            outbox: VecDeque::new(),
            talks: BTreeMap::new(),
            next: u64::from(me > peer),
            turn: 0,
            rate: Rate::new(SHARED_NEWS_PER_SECOND, now),
            opens: Rate::new(SHARED_OPENS_PER_SECOND, now),
            cut_off: None,
            links: BTreeMap::new(),
        }
    }

    /// The lane is there, or gone: what was on it is forgotten.
    pub(super) fn lane(&mut self, there: bool) {
        self.lane = there;
        self.in_flight = 0;
        self.outbox.clear();
        self.talks.clear();
        for link in self.links.values_mut() {
            (link.told, link.due, link.pause) = (None, false, Duration::ZERO);
            (link.erasures_told, link.asked_values, link.ask) = (false, false, false);
        }
    }

    /// A number for a session begun here. The other end's are odd where these are even.
    pub(super) fn number(&mut self) -> u64 {
        let number = self.next;
        self.next = self.next.wrapping_add(2);
        number
    }

    /// Whether a number is one for sessions that the peer begins.
    pub(super) fn is_theirs(&self, session: u64) -> bool {
        session % 2 != self.next % 2
    }

    /// Lets a short message wait for room; what finds none is said again by who says such things.
    pub(super) fn post(&mut self, message: ShareMessage) {
        if self.lane && self.outbox.len() < SHARED_OUTBOX_MAX {
            self.outbox.push_back(message);
        }
    }

    pub(super) fn next_posted(&mut self) -> Option<ShareMessage> {
        self.outbox.pop_front()
    }

    /// Whether an answer of some size waits already: there is one at a time.
    pub(super) fn answers(&self) -> bool {
        let large =
            |m: &ShareMessage| matches!(m, ShareMessage::Live { .. } | ShareMessage::Values { .. });
        self.outbox.iter().filter(|message| large(message)).count() >= ANSWERS_MAX
    }

    /// Counts a message that is not of a session; `false` when it is one too many.
    pub(super) fn takes(&mut self, now: Duration) -> bool {
        self.rate.take(now)
    }

    /// Counts a session that it begins; `false` when it is one too many.
    pub(super) fn may_open(&mut self, now: Duration) -> bool {
        self.opens.take(now)
    }

    /// Whether it is listened to.
    pub(super) fn heard(&mut self, now: Duration) -> bool {
        if self.cut_off.is_some_and(|until| until <= now) {
            self.cut_off = None;
        }
        self.lane && self.cut_off.is_none()
    }

    /// Whether there is a session about a collection.
    pub(super) fn talks_about(&self, collection: &CollectionName) -> bool {
        self.talks.values().any(|talk| talk.collection == *collection)
    }

    pub(super) fn link(&mut self, collection: &CollectionName) -> &mut Link {
        if !self.links.contains_key(collection) {
            self.links.insert(collection.clone(), Link::default());
        }
        self.links.entry(collection.clone()).or_default()
    }
}

impl Link {
    /// It has said what it holds; `ours` is what is held here.
    pub(super) fn hear(&mut self, held: Held, ours: StateRoot, now: Duration) {
        self.heard = Some(held);
        if held.root == ours {
            (self.apart, self.ask) = (None, false);
            (self.pause, self.pause_millis) = (Duration::ZERO, 0);
        } else {
            self.ask = true;
            self.apart.get_or_insert(now);
        }
    }

    /// A session brought nothing: the next one waits.
    pub(super) fn wait(&mut self, now: Duration) {
        let next = (2 * self.pause_millis).clamp(SHARED_PAUSE_MILLIS_MIN, SHARED_PAUSE_MILLIS_MAX);
        self.pause_millis = next;
        self.pause = now + Duration::from_millis(next);
    }

    /// A session brought something.
    pub(super) fn go_on(&mut self) {
        self.pause_millis = 0;
    }
}

const ANSWERS_MAX: usize = 2;
