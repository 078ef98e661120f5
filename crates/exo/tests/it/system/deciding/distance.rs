//! Voters far from each other: every datagram is late, some overtake others, some are lost.

use std::time::Duration;

use super::clients::{Clients, Load, latencies};
use super::log::{check_all, halted, refusal};
use super::proxy::{Proxy, Way};
use super::voters::{Place, Voters};

#[test]
fn voters_far_apart_over_a_lossy_way_commit_in_one_order() {
    far_apart(4, Duration::from_secs(15));
}

#[test]
#[ignore = "long: seven voters far apart for three minutes"]
fn seven_voters_far_apart_over_a_lossy_way_commit_in_one_order() {
    far_apart(7, Duration::from_secs(180));
}

/// 200 ms from a node to another, up to 100 ms more so that datagrams overtake each other, 5 of 100 lost.
fn far_apart(count: usize, lasts: Duration) {
    let way =
        Way { delay: Duration::from_millis(200), jitter: Duration::from_millis(100), lost: 5 };
    let mut places: Vec<Place> = (0..count).map(|_| Place::local()).collect();
    let proxies: Vec<Proxy> =
        (5..).zip(&places).map(|(seed, place)| Proxy::to(place.mesh, way, seed)).collect();
    for (place, proxy) in places.iter_mut().zip(&proxies) {
        place.advertise = Some(proxy.at);
    }
    let voters = Voters::start_at(places);
    proxies.iter().for_each(Proxy::rough);
    let load = Load { clients: 1, deadline: Duration::from_secs(20), ..Load::default() };
    let clients = Clients::start(&voters.doors(), load);
    std::thread::sleep(lasts);

    // Nothing comes through any more: nothing is acknowledged that is asked for now.
    let parted = clients.now();
    proxies.iter().for_each(|proxy| proxy.cut(true));
    let refused = refusal(&voters.nodes[0].door, "cut off", 1_500);
    assert_eq!(refused.as_deref(), Some("no-quorum"));
    std::thread::sleep(Duration::from_secs(3));
    let whole_again = clients.now();
    let claimed = clients.so_far().into_iter().find(|append| {
        append.invoked > parted && append.acknowledged.is_some_and(|one| one.at < whole_again)
    });
    assert_eq!(claimed, None, "acknowledged without a quorum");
    proxies.iter().for_each(|proxy| proxy.cut(false));
    let first = clients.first_after(whole_again, Duration::from_secs(60));
    let first = first.expect("deciding goes on") - whole_again;
    assert!(voters.nodes.iter().all(|node| !halted(&node.door.consensus())));
    let appends = check_all(&voters, clients, &[]);
    let (acknowledged, median, _) = latencies(&appends);
    let (carried, lost) = proxies.iter().fold((0, 0), |(carried, lost), proxy| {
        let counts = proxy.counts();
        (carried + counts.0, lost + counts.1)
    });
    let epoch = voters.nodes[0].door.consensus();
    println!(
        "{count} voters: {acknowledged} acknowledged, {median:.0} ms (median); {carried} datagrams carried, \
         {lost} lost; cut off from {parted:?} to {whole_again:?}, then on after {first:?}; view {}",
        epoch["view"]
    );
    assert!(acknowledged > 0, "nothing was committed");
    // Four ways at the least: request or proposal, two votes, a cosignature.
    assert!(median > 400.0, "the way was not as long as it should be");
    assert!(lost > 0, "nothing was lost: nothing was shown");
}
