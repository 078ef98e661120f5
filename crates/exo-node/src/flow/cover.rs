//! Cover traffic: packets that carry nothing, at times drawn at random, so that who watches a link does
//! not know when this node asks (Loopix, Piotrowska et al. 2017, section 4.1: loop and drop messages).

use std::time::Duration;

use exo_onion::ReplyClass;
use exo_types::Now;
use exo_types::limits::ONION_REPLY_WAIT_MILLIS;

use crate::Node;
use crate::flow::CallKind;
use crate::flow::route::Parcel;
use crate::node::Timer;

impl Node {
    /// Sets when the next cover packet leaves, where any are wanted: a Poisson process.
    pub(crate) fn next_cover(&mut self, now: Now) {
        if self.onion.cover_per_minute > 0 {
            let mean = MINUTE / self.onion.cover_per_minute;
            let at = now.mono + self.exponential(mean);
            self.set_timer(at, Timer::Cover);
        }
    }

    /// Sends a cover packet: half of them end at some member, half come back to this node.
    pub(crate) fn send_cover(&mut self, now: Now) {
        self.next_cover(now);
        let others = self.other_members();
        // One bit for the end of the path, the others for the member: the bias of the rest is below 2^-52.
        let drawn = u64::from_be_bytes(self.random());
        let (which, loops) = (drawn >> 1, drawn & 1 == 0);
        let Some(end) = others.get((which % others.len().max(1) as u64) as usize).copied() else {
            return;
        };
        let hops = if loops { HOPS - 1 } else { HOPS };
        let Ok(mut path) = self.path_to(now, end, hops, &Default::default()) else { return };
        if loops {
            path.push(self.me);
        }
        let parcel = Parcel {
            content: None,
            reply: ReplyClass::Medium,
            mix: Duration::ZERO,
            kind: CallKind::Cover,
            timeout: Duration::from_millis(ONION_REPLY_WAIT_MILLIS),
        };
        // One that cannot be sent now covers nothing; the next one may.
        let _ = self.send_packet(now, path, &parcel);
    }
}

const MINUTE: Duration = Duration::from_secs(60);
/// Members on the path of a cover packet.
const HOPS: usize = 3;
