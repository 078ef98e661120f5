//! Many members at once: what shows in numbers alone.

use exo_node::sim::crowd::{Crowd, CrowdOptions, Spread};

#[test]
fn in_a_crowd_everybody_answers_and_paths_spread_evenly_over_the_relays() {
    let (members, askers, hops) = (60, 3, 4);
    let options = CrowdOptions { members, askers, draws: 200, hops, seed: 7 };
    let report = Crowd::new(options).expect("a crowd").play().expect("plays");
    assert_eq!(report.answered, (askers * members, askers * members));
    // Every packet to every other passes hops - 1 relays; more only where one was sent again.
    let least = (askers * (members - 1) * (usize::from(hops) - 1)) as u64;
    assert_eq!(report.forwarded, least);
    assert_eq!(report.positions.len(), 3);
    let total = u32::try_from(members * 200).expect("few");
    for (at, counts) in report.positions.iter().enumerate() {
        assert_eq!(counts.iter().sum::<u32>(), total);
        let spread = Spread::of(counts);
        if at == 0 {
            // Each member keeps to its first relay, so this position is shared by chance alone.
            assert!(spread.chi_squared > 20.0, "the first relay changes: {spread:?}");
        } else {
            // 59 degrees of freedom: beyond 1.6 once in a thousand seeds.
            assert!(spread.chi_squared < 1.6, "position {at}: {spread:?}");
        }
    }
}
