//! Conditions on metadata, evaluated against one record.
//!
//! A missing field fails every comparison but `Ne`. Values of different kinds are never equal and
//! never ordered, save that whole and fractional numbers compare by their exact value. Numbers are
//! ordered by value and texts by their bytes; truth values and lists have no order. A list field
//! equals a value when one of its items does.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use exo_types::codec::invalid;
use exo_types::{CodecError, Condition, Filter, FilterOp, MetadataValue};

/// Refuses a condition that can hold for no record because of its form: `In` without a list, or an
/// ordering by a value that has no order.
pub fn check(filter: &Filter) -> Result<(), CodecError> {
    for condition in &filter.all {
        let field = &condition.field;
        match (condition.op, &condition.value) {
            (FilterOp::In, MetadataValue::List(_)) => {}
            (FilterOp::In, _) => {
                return Err(invalid(format!("condition on {field:?}: `in` needs a list")));
            }
            (
                FilterOp::Lt | FilterOp::Le | FilterOp::Gt | FilterOp::Ge,
                MetadataValue::Bool(_) | MetadataValue::List(_),
            ) => {
                return Err(invalid(format!(
                    "condition on {field:?}: only numbers and texts have an order"
                )));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether a record's metadata meets every condition.
pub fn admits(filter: &Filter, metadata: &BTreeMap<String, MetadataValue>) -> bool {
    filter.all.iter().all(|condition| holds(condition, metadata.get(&condition.field)))
}

/// Whether one condition holds for a field's value.
pub fn holds(condition: &Condition, field: Option<&MetadataValue>) -> bool {
    let Some(field) = field else { return condition.op == FilterOp::Ne };
    let ordered = |wanted: fn(Ordering) -> bool| order(field, &condition.value).is_some_and(wanted);
    match condition.op {
        FilterOp::Eq => equal(field, &condition.value),
        FilterOp::Ne => !equal(field, &condition.value),
        FilterOp::Lt => ordered(Ordering::is_lt),
        FilterOp::Le => ordered(Ordering::is_le),
        FilterOp::Gt => ordered(Ordering::is_gt),
        FilterOp::Ge => ordered(Ordering::is_ge),
        FilterOp::In => match &condition.value {
            MetadataValue::List(items) => match field {
                MetadataValue::Text(text) => items.contains(text),
                MetadataValue::List(held) => held.iter().any(|item| items.contains(item)),
                _ => false,
            },
            _ => false,
        },
    }
}

/// Equality of a field and a condition's value. Two lists are equal item by item.
fn equal(field: &MetadataValue, value: &MetadataValue) -> bool {
    match (field, value) {
        (MetadataValue::Bool(a), MetadataValue::Bool(b)) => a == b,
        (MetadataValue::List(held), MetadataValue::Text(text)) => held.contains(text),
        (MetadataValue::List(a), MetadataValue::List(b)) => a == b,
        _ => order(field, value) == Some(Ordering::Equal),
    }
}

/// The order of two numbers or two texts; `None` where there is none.
fn order(field: &MetadataValue, value: &MetadataValue) -> Option<Ordering> {
    match (field, value) {
        (MetadataValue::Int(a), MetadataValue::Int(b)) => Some(a.cmp(b)),
        (MetadataValue::Float(a), MetadataValue::Float(b)) => a.partial_cmp(b),
        (MetadataValue::Int(a), MetadataValue::Float(b)) => order_int_float(*a, *b),
        (MetadataValue::Float(a), MetadataValue::Int(b)) => {
            order_int_float(*b, *a).map(Ordering::reverse)
        }
        (MetadataValue::Text(a), MetadataValue::Text(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

/// Compares by exact value: turning the whole number into a float would make neighbours past 2^53
/// equal.
fn order_int_float(int: i64, float: f64) -> Option<Ordering> {
    /// 2^63, the first float above every i64.
    const ABOVE: f64 = 9_223_372_036_854_775_808.0;
    if float.is_nan() {
        return None;
    }
    if float >= ABOVE {
        return Some(Ordering::Less);
    }
    if float < -ABOVE {
        return Some(Ordering::Greater);
    }
    let whole = float.trunc() as i64;
    let fraction = float - float.trunc();
    Some(int.cmp(&whole).then_with(|| 0.0_f64.partial_cmp(&fraction).unwrap_or(Ordering::Equal)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(op: FilterOp, value: MetadataValue) -> Condition {
        Condition { field: "f".into(), op, value }
    }

    fn text(text: &str) -> MetadataValue {
        MetadataValue::Text(text.into())
    }

    fn list(items: &[&str]) -> MetadataValue {
        MetadataValue::List(items.iter().map(|&item| item.into()).collect())
    }

    #[test]
    fn a_missing_field_fails_every_comparison_but_ne() {
        for op in [FilterOp::Eq, FilterOp::Lt, FilterOp::Le, FilterOp::Gt, FilterOp::Ge] {
            assert!(!holds(&condition(op, MetadataValue::Int(0)), None), "{op:?}");
        }
        assert!(!holds(&condition(FilterOp::In, list(&["a"])), None));
        assert!(holds(&condition(FilterOp::Ne, MetadataValue::Int(0)), None));
    }

    #[test]
    fn different_kinds_are_neither_equal_nor_ordered() {
        let number = MetadataValue::Int(1);
        for other in [text("1"), MetadataValue::Bool(true), list(&["1"])] {
            for op in [FilterOp::Eq, FilterOp::Lt, FilterOp::Le, FilterOp::Gt, FilterOp::Ge] {
                assert!(!holds(&condition(op, number.clone()), Some(&other)), "{op:?} {other:?}");
            }
            assert!(holds(&condition(FilterOp::Ne, number.clone()), Some(&other)));
        }
    }

    #[test]
    fn whole_and_fractional_numbers_compare_by_exact_value() {
        let large = (1_i64 << 53) + 1;
        let near = MetadataValue::Float((1_i64 << 53) as f64);
        assert!(holds(&condition(FilterOp::Gt, near.clone()), Some(&MetadataValue::Int(large))));
        assert!(!holds(&condition(FilterOp::Eq, near), Some(&MetadataValue::Int(large))));
        let one = MetadataValue::Int(1);
        assert!(holds(&condition(FilterOp::Eq, MetadataValue::Float(1.0)), Some(&one)));
        assert!(holds(&condition(FilterOp::Lt, MetadataValue::Float(1.5)), Some(&one)));
        assert!(holds(&condition(FilterOp::Gt, MetadataValue::Float(-1e300)), Some(&one)));
        assert!(holds(&condition(FilterOp::Lt, MetadataValue::Float(1e300)), Some(&one)));
        let minus = MetadataValue::Int(-1);
        assert!(holds(&condition(FilterOp::Gt, MetadataValue::Float(-1.5)), Some(&minus)));
        let least = MetadataValue::Int(i64::MIN);
        assert!(holds(
            &condition(FilterOp::Eq, MetadataValue::Float(-(2f64.powi(63)))),
            Some(&least)
        ));
    }

    #[test]
    fn a_list_field_matches_by_its_items() {
        let tags = list(&["red", "blue"]);
        assert!(holds(&condition(FilterOp::Eq, text("blue")), Some(&tags)));
        assert!(!holds(&condition(FilterOp::Ne, text("blue")), Some(&tags)));
        assert!(holds(&condition(FilterOp::In, list(&["green", "red"])), Some(&tags)));
        assert!(!holds(&condition(FilterOp::In, list(&["green"])), Some(&tags)));
        assert!(holds(&condition(FilterOp::In, list(&["a", "b"])), Some(&text("b"))));
    }

    #[test]
    fn a_condition_that_can_never_hold_is_refused() {
        let refused = |op, value| check(&Filter { all: vec![condition(op, value)] }).is_err();
        assert!(refused(FilterOp::In, text("a")));
        assert!(refused(FilterOp::Lt, MetadataValue::Bool(true)));
        assert!(refused(FilterOp::Ge, list(&["a"])));
        assert!(!refused(FilterOp::Ge, text("a")));
    }
}
