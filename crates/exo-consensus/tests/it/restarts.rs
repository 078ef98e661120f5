//! A crash between any two effects: the replica comes back, contradicts nothing it said, and helps on.

use std::collections::BTreeMap;

use exo_consensus::{Digest, Message};

use crate::lab::{Lab, everything};

/// An ordinary run with a change of view in it: replica 0 falls silent for a while.
fn play(lab: &mut Lab, crashed: usize) {
    lab.submit(0);
    lab.submit(crashed);
    lab.deliver(everything);
    recover(lab, crashed);
    lab.submit(2);
    lab.submit(3);
    lab.pass(3_500, |from, to, _| from != 0 && to != 0);
    recover(lab, crashed);
    lab.submit(1);
    lab.pass(6_000, everything);
    recover(lab, crashed);
}

fn recover(lab: &mut Lab, n: usize) {
    if lab.nodes[n].core.is_none() {
        lab.restart(n);
    }
}

/// What a replica said at each place and view, if only one thing.
fn assert_consistent(sent: &[Message], context: &str) {
    let mut said: BTreeMap<(u8, u64, u64, u64), Digest> = BTreeMap::new();
    for message in sent {
        let (kind, vote) = match message {
            Message::Prepare(vote) => (1, vote),
            Message::Commit(vote) => (2, vote),
            _ => continue,
        };
        let place = (kind, vote.epoch.0, vote.view.0, vote.sequence.0);
        let before = said.insert(place, vote.digest);
        assert!(before.is_none_or(|d| d == vote.digest), "{context}: {message:?}");
    }
}

#[test]
fn a_replica_that_crashes_at_any_effect_never_contradicts_itself() {
    for crashed in [0, 1, 3] {
        let mut whole = Lab::new(4);
        play(&mut whole, crashed);
        let effects = whole.effects[crashed];
        assert!(effects > 40, "{effects}");
        for at in 0..effects {
            let mut lab = Lab::new(4);
            lab.crash_after = Some((crashed, at));
            play(&mut lab, crashed);
            let context = format!("replica {crashed} crashes after {at} effects");
            assert_consistent(&lab.nodes[crashed].sent, &context);
            lab.assert_agreement();
            let ticket = lab.submit(2);
            lab.pass(20_000, everything);
            assert!(lab.nodes[2].done.contains(&ticket), "{context}");
            let point = lab.core(2).point();
            assert_eq!(lab.core(crashed).point(), point, "{context}");
            lab.assert_agreement();
        }
    }
}

#[test]
fn a_journal_begun_anew_says_what_the_old_one_did() {
    use exo_consensus::sim::Tree;
    use exo_consensus::{Config, Effect, Input, Record, Replica};
    use std::time::Duration;

    use crate::lab::{FEDERATION, id};

    let mut lab = Lab::new(4);
    play(&mut lab, 1);
    // Leave something unfinished.
    lab.submit(0);
    lab.deliver(|_, _, m| !matches!(m, Message::Commit(_)));
    for n in 0..4 {
        let journal = lab.nodes[n].journal.clone();
        let mut config = Config::new(FEDERATION, id(n));
        let (old, first) =
            Replica::<Tree>::recover(config.clone(), Duration::ZERO, journal.clone()).expect("old");
        // The same replica again, which is to begin its journal anew at the next step.
        config.rotate_records = 0;
        let (mut turned, mut effects) =
            Replica::<Tree>::recover(config.clone(), Duration::ZERO, journal).expect("again");
        effects.extend(turned.step(Duration::ZERO, Input::Tick));
        let records = effects.into_iter().rev().find_map(|effect| match effect {
            Effect::Rotate { records, .. } => Some(records),
            _ => None,
        });
        let records: Vec<Record> = records.expect("begun anew");
        config.rotate_records = u64::MAX;
        let (new, again) = Replica::<Tree>::recover(config, Duration::ZERO, records).expect("new");
        assert_eq!(format!("{:?}", new.state()), format!("{:?}", old.state()));
        assert_eq!((new.point(), new.stable()), (old.point(), old.stable()));
        assert_eq!((new.view(), new.is_active()), (old.view(), old.is_active()));
        assert_eq!(new.load().slots, old.load().slots);
        assert_eq!(new.load().votes, old.load().votes);
        let signs = |e: &&Effect| matches!(e, Effect::Sign(_));
        assert_eq!(again.iter().filter(signs).count(), first.iter().filter(signs).count());
    }
}
