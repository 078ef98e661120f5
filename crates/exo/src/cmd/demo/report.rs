//! What the demo says: a line a step with `--json`, otherwise for people.

use std::time::Instant;

use serde::Serialize;
use serde_json::{Value, json};

use crate::escape::visible;
use crate::exit::Failure;
use crate::output::{Output, Style};
use crate::span;

/// Where steps are reported.
pub(crate) struct Report {
    /// Where to.
    pub(crate) output: Output,
    began: Instant,
}

/// One step, `exo.demo/1`.
#[derive(Debug, Serialize)]
struct StepDoc<'a> {
    schema: &'static str,
    step: &'a str,
    /// Null when this build cannot run the step: it has neither held nor failed.
    ok: Option<bool>,
    elapsed_ms: f64,
    detail: Value,
}

/// How a step went.
pub(crate) struct Step<T> {
    /// What was wrong; a step holds when nothing was.
    pub(crate) wrong: Vec<String>,
    /// For JSON.
    pub(crate) detail: Value,
    /// What happened, in a few words.
    pub(crate) headline: String,
    /// More to show below it.
    pub(crate) lines: Vec<String>,
    /// What later steps need.
    pub(crate) value: T,
}

impl Report {
    /// Reports to an output.
    pub(crate) fn new(output: Output) -> Self {
        Self { output, began: Instant::now() }
    }

    /// Says what is about to happen.
    pub(crate) fn banner(&self, nodes: usize) -> Result<(), Failure> {
        if self.output.json {
            return Ok(());
        }
        let output = &self.output;
        output.line(&output.style("exo demo", Style::Strong))?;
        output.line(&format!(
            "{nodes} organisations, each a process with its own keys and its own texts. They join by"
        ))?;
        output.line(
            "tickets over post-quantum connections and answer questions together. Everything stays",
        )?;
        output.line("on this machine: there is no telemetry.")?;
        output.line("")
    }

    /// Runs a step and reports it; `None` when it did not hold. An error is one of printing alone.
    pub(crate) fn step<T>(
        &self,
        name: &str,
        run: impl FnOnce() -> Result<Step<T>, Failure>,
    ) -> Result<Option<T>, Failure> {
        let began = Instant::now();
        let ran = run();
        let elapsed = began.elapsed();
        let (ok, detail, headline, lines, value) = match ran {
            Ok(step) if step.wrong.is_empty() => {
                (true, step.detail, step.headline, step.lines, Some(step.value))
            }
            Ok(step) => {
                let mut detail = step.detail;
                detail["wrong"] = json!(step.wrong);
                let mut lines = step.lines;
                lines.extend(step.wrong.iter().map(|wrong| format!("WRONG: {}", visible(wrong))));
                (false, detail, step.headline, lines, None)
            }
            Err(failure) => {
                let detail = json!({"code": failure.code, "message": failure.message});
                (false, detail, visible(&failure.to_string()), Vec::new(), None)
            }
        };
        if self.output.json {
            let elapsed_ms = span::millis(elapsed);
            let schema = "exo.demo/1";
            let ok = Some(ok);
            self.output.json(&StepDoc { schema, step: name, ok, elapsed_ms, detail })?;
        } else {
            let (mark, style) = if ok { ("✓", Style::Good) } else { ("✗", Style::Bad) };
            let output = &self.output;
            output.line(&format!(
                "{} {}  {headline} {}",
                output.style(mark, style),
                output.style(&format!("{name:<9}"), Style::Strong),
                output.style(&format!("({})", span::show(elapsed)), Style::Dim)
            ))?;
            for line in lines {
                output.line(&format!("             {line}"))?;
            }
        }
        Ok(value)
    }

    /// Reports a step that this build cannot run.
    pub(crate) fn skipped(&self, name: &str, detail: Value, text: &str) -> Result<(), Failure> {
        let output = &self.output;
        if output.json {
            let (schema, ok, elapsed_ms) = ("exo.demo/1", None, 0.0);
            return output.json(&StepDoc { schema, step: name, ok, elapsed_ms, detail });
        }
        let name = output.style(&format!("{name:<9}"), Style::Strong);
        output.line(&format!("{} {name}  {text}", output.style("-", Style::Dim)))
    }

    /// Says that every step held: every one, or every one that this build can run.
    pub(crate) fn summary(&self, whole: bool) -> Result<(), Failure> {
        if self.output.json {
            return Ok(());
        }
        let output = &self.output;
        let which = if whole { "Every step held" } else { "Every step that was run held" };
        let text = format!("{which}, in {}.", span::show(self.began.elapsed()));
        output.line("")?;
        output.line(&output.style(&text, Style::Strong))
    }
}
