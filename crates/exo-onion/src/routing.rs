//! The routing block: what one hop is told.

use exo_types::limits::{ONION_DELAY_MILLIS_MAX, ONION_EXPIRY_STEP_MILLIS};
use exo_types::{PeerId, Timestamp};

use crate::dropped::DropReason;
use crate::message::{ROUTING_BYTES, TAG_BYTES};
use crate::reply::ReplyClass;

/// What one hop is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Routing {
    /// What to do with the packet.
    pub(crate) action: Action,
    /// How long the reply is.
    pub(crate) reply: ReplyClass,
    /// How long to hold the packet back.
    pub(crate) delay_millis: u16,
    /// Until when to take it.
    pub(crate) expiry: Expiry,
}

/// What to do with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Send it on.
    Forward {
        /// To whom.
        next: PeerId,
        /// The authentication code of the packet that goes on.
        tag: [u8; TAG_BYTES],
        /// The sealing epoch of the next hop's key.
        epoch: u32,
    },
    /// Answer what it carries.
    Deliver,
    /// Answer with nothing: it only covers others.
    Cover,
}

impl Routing {
    pub(crate) fn encode(&self) -> [u8; ROUTING_BYTES] {
        let mut block = [0; ROUTING_BYTES];
        block[0] = match self.action {
            Action::Forward { .. } => FORWARD,
            Action::Deliver => DELIVER,
            Action::Cover => COVER,
        };
        block[1] = self.reply.to_wire();
        block[2..4].copy_from_slice(&self.delay_millis.to_be_bytes());
        block[4..8].copy_from_slice(&self.expiry.0.to_be_bytes());
        if let Action::Forward { next, tag, epoch } = &self.action {
            block[8..40].copy_from_slice(next.as_bytes());
            block[40..56].copy_from_slice(tag);
            block[56..60].copy_from_slice(&epoch.to_be_bytes());
        }
        block
    }

    /// Reads a block; one value has one form, and every other is refused.
    pub(crate) fn decode(block: &[u8; ROUTING_BYTES]) -> Result<Self, DropReason> {
        let [kind, reply, d0, d1, e0, e1, e2, e3, rest @ ..] = *block;
        let (next, rest) = rest.split_first_chunk::<32>().ok_or(DropReason::Routing)?;
        let (tag, rest) = rest.split_first_chunk::<TAG_BYTES>().ok_or(DropReason::Routing)?;
        let (epoch, reserved) = rest.split_first_chunk::<4>().ok_or(DropReason::Routing)?;
        let epoch = u32::from_be_bytes(*epoch);
        let unused = *next == [0; 32] && *tag == [0; TAG_BYTES] && epoch == 0;
        let action = match kind {
            FORWARD => Action::Forward { next: PeerId::new(*next), tag: *tag, epoch },
            DELIVER if unused => Action::Deliver,
            COVER if unused => Action::Cover,
            _ => return Err(DropReason::Routing),
        };
        if reserved != [0; 4] {
            return Err(DropReason::Routing);
        }
        let reply = ReplyClass::from_wire(reply).ok_or(DropReason::Routing)?;
        let delay_millis = u16::from_be_bytes([d0, d1]);
        if delay_millis > ONION_DELAY_MILLIS_MAX {
            return Err(DropReason::Delay);
        }
        let expiry = Expiry(u32::from_be_bytes([e0, e1, e2, e3]));
        Ok(Self { action, reply, delay_millis, expiry })
    }
}

/// A time in steps of [`ONION_EXPIRY_STEP_MILLIS`] since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expiry(pub(crate) u32);

impl Expiry {
    /// The first step at or after `time`; `None` past the last.
    pub(crate) fn at_or_after(time: Timestamp) -> Option<Self> {
        u32::try_from(time.0.div_ceil(ONION_EXPIRY_STEP_MILLIS)).ok().map(Self)
    }

    /// When the packet's time is over.
    pub(crate) fn time(self) -> Timestamp {
        Timestamp(u64::from(self.0) * ONION_EXPIRY_STEP_MILLIS)
    }
}

/// Where a forwarded packet's tag lies in the block.
pub(crate) const NEXT_TAG_AT: usize = 40;

const FORWARD: u8 = 1;
const DELIVER: u8 = 2;
const COVER: u8 = 3;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_block_that_decodes_encodes_to_itself(
            kind in 0u8..5,
            reply in 0u8..5,
            delay in any::<u16>(),
            rest in proptest::collection::vec(any::<u8>(), 60),
            zero in any::<bool>(),
        ) {
            let mut block = [0; ROUTING_BYTES];
            block[0] = kind;
            block[1] = reply;
            block[2..4].copy_from_slice(&delay.to_be_bytes());
            block[4..].copy_from_slice(&rest);
            block[60..].fill(0);
            if zero {
                block[8..].fill(0);
            }
            if let Ok(routing) = Routing::decode(&block) {
                prop_assert_eq!(routing.encode(), block);
            } else {
                let good = kind == 1 || zero && (2..4).contains(&kind);
                prop_assert!(!good || reply > 2 || delay > ONION_DELAY_MILLIS_MAX);
            }
        }
    }

    #[test]
    fn every_reserved_byte_must_be_zero() {
        let routing = Routing {
            action: Action::Deliver,
            reply: ReplyClass::Small,
            delay_millis: 0,
            expiry: Expiry(1),
        };
        let good = routing.encode();
        assert_eq!(Routing::decode(&good), Ok(routing));
        for at in 8..ROUTING_BYTES {
            let mut bad = good;
            bad[at] = 1;
            assert_eq!(Routing::decode(&bad), Err(DropReason::Routing), "byte {at}");
        }
    }

    #[test]
    fn an_expiry_is_rounded_up_to_its_step() {
        let at = |millis| Expiry::at_or_after(Timestamp(millis)).map(|expiry| expiry.time().0);
        assert_eq!(at(0), Some(0));
        assert_eq!(at(1), Some(10_000));
        assert_eq!(at(10_000), Some(10_000));
        assert_eq!(at(10_001), Some(20_000));
        assert_eq!(at(u64::MAX), None);
    }
}
