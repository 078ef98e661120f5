//! Maps and sets beside models that are too simple to be wrong.

use std::collections::{BTreeMap, BTreeSet};

use exo_crdt::{GSet, LWWMap, Merge, Stamp};

use crate::support::{Numbers, hlc, peer};

/// All writes ever made; what stands at a key is found by sorting them.
#[derive(Clone, Default)]
struct ModelMap(BTreeSet<(u64, Stamp, bool, Option<Vec<u8>>)>);

impl ModelMap {
    fn get(&self, key: u64) -> Option<&Vec<u8>> {
        let at_key = self.0.iter().filter(|write| write.0 == key);
        // The set sorts by stamp, then removals over values, then by value.
        at_key.max_by_key(|write| (write.1, write.2, &write.3)).and_then(|write| write.3.as_ref())
    }
}

/// A map and a set, each followed by its model.
type Beside = (LWWMap<u64, Vec<u8>>, ModelMap, GSet<u64>, BTreeSet<u64>);

#[test]
fn maps_and_sets_agree_with_their_models_over_random_histories() {
    for seed in 0..300 {
        let mut numbers = Numbers(seed);
        let mut replicas: Vec<Beside> = (0..3)
            .map(|_| (LWWMap::new(), ModelMap::default(), GSet::new(), BTreeSet::new()))
            .collect();
        for _ in 0..120 {
            let at = numbers.below(3) as usize;
            let key = numbers.below(10);
            let stamp = Stamp::new(hlc(numbers.below(6), 0), peer(numbers.below(3) as u8));
            match numbers.below(8) {
                0..4 => {
                    let value = vec![numbers.below(3) as u8];
                    replicas[at].0.put(key, value.clone(), stamp);
                    replicas[at].1.0.insert((key, stamp, false, Some(value)));
                }
                4 => {
                    replicas[at].0.remove(key, stamp);
                    replicas[at].1.0.insert((key, stamp, true, None));
                }
                5 => {
                    replicas[at].2.insert(key);
                    replicas[at].3.insert(key);
                }
                _ => {
                    let other = replicas[numbers.below(3) as usize].clone();
                    replicas[at].0.merge(other.0);
                    replicas[at].1.0.extend(other.1.0);
                    replicas[at].2.merge(other.2);
                    replicas[at].3.extend(other.3);
                }
            }
            let (map, model, set, model_set) = &replicas[at];
            for key in 0..10 {
                assert_eq!(map.get(&key), model.get(key), "seed {seed}, key {key}");
            }
            let live: BTreeMap<_, _> = map.iter().collect();
            assert_eq!((live.len(), set.len()), (map.len(), model_set.len()));
            assert!(model_set.iter().all(|item| set.contains(item)));
        }
    }
}
