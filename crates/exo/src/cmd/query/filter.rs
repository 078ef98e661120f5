//! Conditions as they are typed: `year>=1900`, `lang=in:en,de`, `draft!=true`.

use exo_types::FilterOp;
use serde_json::Value;

use crate::api::dto::query::ConditionDoc;

/// Parses one condition. The value is a number or a truth value where it reads as one; in quotes
/// it is a text.
pub(crate) fn parse(text: &str) -> Result<ConditionDoc, String> {
    let malformed = || {
        format!("{text:?} is not a condition; write field=value, with = != < <= > >= or =in:a,b")
    };
    let at = text.find(['=', '!', '<', '>']).ok_or_else(malformed)?;
    let (field, rest) = text.split_at(at);
    if field.trim().is_empty() {
        return Err(malformed());
    }
    let operators = [
        ("!=", FilterOp::Ne),
        ("<=", FilterOp::Le),
        (">=", FilterOp::Ge),
        ("<", FilterOp::Lt),
        (">", FilterOp::Gt),
        ("=", FilterOp::Eq),
    ];
    let (op, value) = operators
        .iter()
        .find_map(|(sign, op)| rest.strip_prefix(sign).map(|value| (*op, value)))
        .ok_or_else(malformed)?;
    let (op, value) = match (op, value.strip_prefix("in:")) {
        (FilterOp::Eq, Some(items)) => {
            (FilterOp::In, items.split(',').map(str::to_owned).collect::<Vec<_>>().into())
        }
        _ => (op, scalar(value)),
    };
    Ok(ConditionDoc { field: field.trim().to_owned(), op, value })
}

fn scalar(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value @ (Value::Bool(_) | Value::Number(_) | Value::String(_))) => value,
        _ => Value::from(text),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn conditions_are_read_with_their_operator_and_type() {
        let cases = [
            ("lang=en", "lang", FilterOp::Eq, json!("en")),
            ("a.b!=true", "a.b", FilterOp::Ne, json!(true)),
            ("year<1900", "year", FilterOp::Lt, json!(1900)),
            ("year<=1900", "year", FilterOp::Le, json!(1900)),
            ("weight>1.5", "weight", FilterOp::Gt, json!(1.5)),
            ("weight>=-2", "weight", FilterOp::Ge, json!(-2)),
            ("code=\"12\"", "code", FilterOp::Eq, json!("12")),
            ("tag=in:red,dark blue", "tag", FilterOp::In, json!(["red", "dark blue"])),
            ("expr=a=b", "expr", FilterOp::Eq, json!("a=b")),
            ("empty=", "empty", FilterOp::Eq, json!("")),
        ];
        for (text, field, op, value) in cases {
            let expected = ConditionDoc { field: field.into(), op, value };
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_condition_is_refused() {
        for text in ["", "lang", "=en", " =en", "a!b"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
