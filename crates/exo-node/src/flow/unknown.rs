//! Answering whoever does not say who it is: its packet came through relays, and its answer goes back as
//! it came, signed, and as long as the asker wanted it.

use std::time::Duration;

use exo_crypto::{SIGNATURE_BYTES, Signed};
use exo_onion::{Delivery, ReplyFailure, ReplySealer};
use exo_types::{CollectionName, Leg, Now, PeerId, TermStats, Wire};

use crate::Node;
use crate::effect::{Effect, ExchangeId, PacketFate};
use crate::flow::answer::{Answering, Reader, search_effect};
use crate::policy::Readers;
use crate::question::{AnswerSet, Question, Reply};
use crate::refusal::Refusal;
use crate::trim::fit;
use crate::wire::{SearchFor, TermsOf};

/// A question that is being answered.
#[derive(Debug)]
pub(crate) struct Asked {
    /// The stream that it came by.
    exchange: ExchangeId,
    /// When the answer may go back.
    due: Duration,
    sealer: ReplySealer,
    hash: [u8; 32],
    top_k: usize,
}

impl Node {
    /// A packet's content is for this node.
    pub(crate) fn delivered(
        &mut self,
        now: Now,
        neighbour: PeerId,
        exchange: ExchangeId,
        delivery: Delivery,
    ) {
        self.fate(PacketFate::Delivered);
        let Delivery { content, delay, reply } = delivery;
        let asked = Asked {
            exchange,
            due: now.mono + delay,
            sealer: reply,
            hash: Question::hash(&content),
            top_k: 0,
        };
        match Question::from_wire(&content) {
            Ok(Question::Terms(of)) => self.unknown_terms(now, neighbour, asked, of),
            Ok(Question::Search(search)) => self.unknown_search(now, neighbour, asked, *search),
            Err(_) => self.fail_unknown(now, asked, ReplyFailure::Malformed),
        }
    }

    fn unknown_terms(&mut self, now: Now, neighbour: PeerId, asked: Asked, of: TermsOf) {
        let collections = self.readable(Reader::Unknown, of.collection.as_ref());
        if collections.is_empty() {
            let reply = match self.denies_unknown(of.collection.as_ref()) {
                true => Reply::Refused(Refusal::Anonymous),
                false => Reply::Terms(TermStats::default()),
            };
            return self.answer_unknown(now, asked, &reply);
        }
        if !self.has_room_for(Some(neighbour)) {
            return self.answer_unknown(now, asked, &Reply::Refused(Refusal::Busy));
        }
        let job = self.begin_job(Answering::Unknown { neighbour, asked: Box::new(asked) });
        self.effect(Effect::Terms { job, collections, text: of.text });
    }

    fn unknown_search(&mut self, now: Now, neighbour: PeerId, mut asked: Asked, search: SearchFor) {
        asked.top_k = search.top_k as usize;
        let searched = match self.searched(Reader::Unknown, &search) {
            Ok(searched) => searched,
            Err(refusal) => return self.answer_unknown(now, asked, &Reply::Refused(refusal)),
        };
        if searched.is_empty() {
            return match self.denies_unknown(search.collection.as_ref()) {
                true => self.answer_unknown(now, asked, &Reply::Refused(Refusal::Anonymous)),
                false => self.unknown_searched(now, asked, Ok(Vec::new())),
            };
        }
        if !self.has_room_for(Some(neighbour)) {
            return self.answer_unknown(now, asked, &Reply::Refused(Refusal::Busy));
        }
        let job = self.begin_job(Answering::Unknown { neighbour, asked: Box::new(asked) });
        self.effect(search_effect(job, searched, search));
    }

    /// Whether the only reason for an empty answer is that nobody said who asks.
    fn denies_unknown(&self, wanted: Option<&CollectionName>) -> bool {
        let asked = |name: &&CollectionName| wanted.is_none_or(|wanted| wanted == *name);
        self.collections.keys().filter(asked).any(|name| {
            let policy = self.policy(name);
            policy.readers == Readers::Members && !policy.anonymous
        })
    }

    /// A search for somebody unknown has ended.
    pub(crate) fn unknown_searched(
        &mut self,
        now: Now,
        asked: Asked,
        result: Result<Vec<Leg>, String>,
    ) {
        let Ok(legs) = result else {
            return self.answer_unknown(now, asked, &Reply::Refused(Refusal::SearchFailed));
        };
        let room = asked.sealer.class().answer_bytes_max().saturating_sub(ANSWER_SET_BYTES);
        let (legs, trimmed) = fit(self.released(legs, asked.top_k), room);
        let set = AnswerSet { peer: self.me, question: asked.hash, at: now.wall, trimmed, legs };
        match Signed::sign(set, &self.keypair) {
            Ok(signed) => {
                let reply = Reply::Answer(Box::new(signed.into_signed()));
                self.answer_unknown(now, asked, &reply);
            }
            Err(_) => self.fail_unknown(now, asked, ReplyFailure::Failed),
        }
    }

    /// Terms have been counted for somebody unknown.
    pub(crate) fn unknown_counted(
        &mut self,
        now: Now,
        asked: Asked,
        result: Result<TermStats, String>,
    ) {
        let reply = match result {
            Ok(stats) => Reply::Terms(stats),
            Err(_) => Reply::Refused(Refusal::SearchFailed),
        };
        self.answer_unknown(now, asked, &reply);
    }

    fn answer_unknown(&mut self, now: Now, asked: Asked, reply: &Reply) {
        let Asked { exchange, due, sealer, .. } = asked;
        let sealed = match reply.to_wire() {
            Ok(bytes) => sealer
                .answer(&bytes)
                .unwrap_or_else(|too_long| too_long.sealer.failure(ReplyFailure::Failed)),
            Err(_) => sealer.failure(ReplyFailure::Failed),
        };
        self.reply_at(now, due, exchange, sealed.concat());
    }

    fn fail_unknown(&mut self, now: Now, asked: Asked, failure: ReplyFailure) {
        let Asked { exchange, due, sealer, .. } = asked;
        self.reply_at(now, due, exchange, sealer.failure(failure).concat());
    }
}

/// Upper bound of what a signed answer takes beside its lists.
const ANSWER_SET_BYTES: usize = SIGNATURE_BYTES + 128;
