//! A filter from the wire against metadata from the wire: the laws of its comparisons.
#![no_main]

use std::collections::BTreeMap;

use exo_substrate::filter::{admits, check, holds};
use exo_types::{Condition, Filter, FilterOp, MetadataValue};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let decoded = postcard::from_bytes::<(Filter, BTreeMap<String, MetadataValue>)>(data);
    let Ok((filter, metadata)) = decoded else { return };
    if filter.check().is_err() || metadata.values().any(|value| value.check().is_err()) {
        return;
    }
    let formed = check(&filter).is_ok();
    let all = filter.all.iter().all(|condition| {
        let alone = Filter { all: vec![condition.clone()] };
        admits(&alone, &metadata)
    });
    assert_eq!(admits(&filter, &metadata), all, "every condition must hold");
    for condition in &filter.all {
        laws(condition, metadata.get(&condition.field), formed);
        // Also against values that stand under other names.
        for value in metadata.values() {
            laws(condition, Some(value), formed);
        }
    }
});

fn laws(condition: &Condition, field: Option<&MetadataValue>, formed: bool) {
    let with = |op| holds(&Condition { op, ..condition.clone() }, field);
    let [eq, ne, lt, le, gt, ge] =
        [FilterOp::Eq, FilterOp::Ne, FilterOp::Lt, FilterOp::Le, FilterOp::Gt, FilterOp::Ge]
            .map(with);
    assert_eq!(eq, !ne);
    let Some(field) = field else {
        assert!(ne && !lt && !le && !gt && !ge && !with(FilterOp::In));
        return;
    };
    assert!(!(lt && gt));
    assert!(!lt || le, "less is at most");
    assert!(!gt || ge);
    let ordered = lt || gt || (le && ge);
    assert_eq!(le && ge, ordered && !lt && !gt);
    if ordered {
        assert_eq!(eq, le && ge, "equal is neither less nor greater");
        // The other way round: the field and the value change places.
        let turned = Condition { field: String::new(), op: FilterOp::Lt, value: field.clone() };
        assert_eq!(holds(&turned, Some(&condition.value)), gt);
    }
    if formed && matches!(condition.op, FilterOp::Lt | FilterOp::Gt) {
        assert!(!matches!(condition.value, MetadataValue::Bool(_) | MetadataValue::List(_)));
    }
    if let (MetadataValue::List(items), FilterOp::In) = (&condition.value, condition.op)
        && matches!(field, MetadataValue::Text(_))
    {
        let any = items.iter().any(|item| {
            let value = MetadataValue::Text(item.clone());
            holds(&Condition { field: String::new(), op: FilterOp::Eq, value }, Some(field))
        });
        assert_eq!(holds(condition, Some(field)), any);
    }
}
