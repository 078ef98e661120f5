//! `exo errors`: what the stable error codes mean and what to do about them.

use exo_federation::ErrorCode;
use serde::Serialize;

use super::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{Style, table};

/// Arguments of `exo errors`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The code to explain; all are listed without it
    code: Option<String>,
}

/// One code, `exo.error-code/1`.
#[derive(Serialize)]
struct CodeDoc {
    schema: &'static str,
    code: &'static str,
    meaning: &'static str,
    remedy: &'static str,
    retryable: bool,
    exit: u8,
}

/// Lists the codes, or explains one.
pub(crate) fn run(context: &Context, args: &Args) -> Outcome {
    match &args.code {
        Some(text) => explain(context, text),
        None => list(context),
    }
}

fn explain(context: &Context, text: &str) -> Outcome {
    let output = &context.output;
    let Some(code) = ErrorCode::ALL.iter().copied().find(|code| code.as_str() == text) else {
        let mut failure = Failure::new(
            ErrorCode::InvalidArgument,
            format!("{text:?} is not an error code of this version"),
        )
        .with_remedy("`exo errors` lists the codes.");
        failure.exit = Exit::NotFound;
        return Err(failure);
    };
    let doc = doc(code);
    if output.json {
        output.json(&doc)?;
        return Ok(Exit::Ok);
    }
    let again = if doc.retryable { "the same call may succeed later" } else { "no" };
    output.line(&output.style(doc.code, Style::Strong))?;
    for row in table(&[
        vec!["  meaning".into(), doc.meaning.into()],
        vec!["  what to do".into(), doc.remedy.into()],
        vec!["  worth a retry".into(), again.into()],
        vec!["  exit code".into(), doc.exit.to_string()],
    ]) {
        output.line(&row)?;
    }
    Ok(Exit::Ok)
}

fn list(context: &Context) -> Outcome {
    let output = &context.output;
    if output.json {
        for code in ErrorCode::ALL {
            output.json(&doc(*code))?;
        }
        return Ok(Exit::Ok);
    }
    let mut rows = vec![vec!["CODE".to_owned(), "EXIT".to_owned(), "MEANING".to_owned()]];
    rows.extend(ErrorCode::ALL.iter().map(|code| {
        let doc = doc(*code);
        vec![doc.code.to_owned(), doc.exit.to_string(), doc.meaning.to_owned()]
    }));
    for row in table(&rows) {
        output.line(&row)?;
    }
    Ok(Exit::Ok)
}

fn doc(code: ErrorCode) -> CodeDoc {
    CodeDoc {
        schema: "exo.error-code/1",
        code: code.as_str(),
        meaning: code.meaning(),
        remedy: code.remedy(),
        retryable: code.retryable(),
        exit: Exit::of(code) as u8,
    }
}
