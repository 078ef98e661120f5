//! Seven voters in network namespaces that are parted in every way that matters. The quorum is five.

use std::time::Duration;

use super::clients::{Clients, Load};
use super::log::{check_all, halted, refusal};
use super::spaces::Spaces;
use super::voters::Voters;

const COUNT: usize = 7;
/// Progress has to resume within two view-change timeouts.
const RESUME_WITHIN: Duration = Duration::from_secs(2);
/// What a busy machine may add.
const MARGIN: Duration = Duration::from_secs(2);

#[test]
fn parted_voters_commit_where_a_quorum_is_and_nowhere_else() {
    part(Duration::from_secs(4), 1);
}

#[test]
#[ignore = "long: each partition ten times"]
fn voters_parted_again_and_again_commit_where_a_quorum_is_and_nowhere_else() {
    part(Duration::from_secs(8), 10);
}

fn part(each: Duration, rounds: usize) {
    let Some(spaces) = Spaces::make_or_say(COUNT) else { return };
    let voters = Voters::start_in(&spaces, COUNT);
    let load = Load { clients: 1, pause: Duration::from_millis(50), ..Load::default() };
    let clients = Clients::start(&voters.doors(), load);
    let parted = Parted { spaces, voters, clients, each };
    parted.goes_on("whole");
    for round in 0..rounds {
        parted.minority(round);
        parted.no_quorum(round);
        parted.primary_alone();
        parted.primary_unheard();
        parted.primary_deaf();
    }
    let Parted { voters, clients, spaces, .. } = parted;
    assert!(voters.nodes.iter().all(|node| !halted(&node.door.consensus())));
    check_all(&voters, clients, &[]);
    // The processes end before the namespaces they are in.
    drop(voters);
    drop(spaces);
}

struct Parted {
    spaces: Spaces,
    voters: Voters,
    clients: Clients,
    /// How long each partition lasts.
    each: Duration,
}

impl Parted {
    /// 2|5: the five go on, the two claim nothing.
    fn minority(&self, round: usize) {
        let two = [round % COUNT, (round + 3) % COUNT];
        self.spaces.part(&two);
        let refused = refusal(&self.voters.nodes[two[0]].door, "of two", 1_500);
        assert_eq!(refused.as_deref(), Some("no-quorum"));
        self.goes_on("five of seven");
        self.heal();
    }

    /// 3|4: nobody goes on. Nothing that is asked for then is acknowledged before they meet again.
    fn no_quorum(&self, round: usize) {
        let three: Vec<usize> = (0..3).map(|at| (round + 2 * at) % COUNT).collect();
        self.spaces.part(&three);
        let parted = self.clients.now();
        for at in 0..2 {
            let refused = refusal(&self.voters.nodes[(round + at) % COUNT].door, "of few", 1_500);
            assert_eq!(refused.as_deref(), Some("no-quorum"));
        }
        std::thread::sleep(self.each);
        let met = self.clients.now();
        self.spaces.heal();
        let appends = self.clients.so_far();
        let claimed = appends.iter().find(|append| {
            append.invoked > parted && append.acknowledged.is_some_and(|answer| answer.at < met)
        });
        assert_eq!(claimed, None, "acknowledged without a quorum");
        self.goes_on("after three and four met again");
        self.voters.wait_whole();
    }

    /// The primary reaches nobody, and nobody reaches it.
    fn primary_alone(&self) {
        let primary = self.primary();
        self.spaces.part(&[primary]);
        self.goes_on("without the primary");
        self.heal();
    }

    /// The primary hears everybody, and nobody hears it.
    fn primary_unheard(&self) {
        let primary = self.primary();
        (0..COUNT).filter(|to| *to != primary).for_each(|to| self.spaces.lose(primary, to));
        self.goes_on("with a primary that is not heard");
        self.heal();
    }

    /// Everybody hears the primary, and it hears nobody.
    fn primary_deaf(&self) {
        let primary = self.primary();
        (0..COUNT).filter(|from| *from != primary).for_each(|from| self.spaces.lose(from, primary));
        self.goes_on("with a primary that hears nobody");
        self.heal();
    }

    fn primary(&self) -> usize {
        self.voters.primary().expect("somebody leads")
    }

    /// Time until the first acknowledgement of what was asked for from now on.
    fn goes_on(&self, how: &str) {
        let now = self.clients.now();
        let first = self.clients.first_after(now, Duration::from_secs(60));
        let took = first.map(|first| first - now);
        println!("{how}: on after {took:?}");
        let took = took.unwrap_or_else(|| panic!("{how}: deciding does not go on"));
        assert!(took < RESUME_WITHIN + MARGIN, "{how}: deciding went on only after {took:?}");
    }

    fn heal(&self) {
        std::thread::sleep(self.each);
        self.spaces.heal();
        self.voters.wait_whole();
        self.goes_on("whole again");
    }
}
