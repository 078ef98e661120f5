//! Progress of long work: a bar on a terminal, otherwise a line every ten seconds.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::Output;

/// Progress towards a known end.
pub(crate) struct Progress {
    output: Output,
    what: String,
    total: u64,
    start_at: u64,
    began: Instant,
    last_line: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Starts at `at` of `total`.
    pub(crate) fn start(output: Output, what: &str, unit: &str, at: u64, total: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            let template =
                format!("{{prefix}} {{bar:32}} {{pos}}/{{len}} {unit}, {{per_sec}}, {{eta}} left");
            if let Ok(style) = ProgressStyle::with_template(&template) {
                bar.set_style(style);
            }
            bar.set_prefix(what.to_owned());
            bar.set_position(at);
            bar.reset_eta();
            bar
        });
        let now = Instant::now();
        Self {
            output,
            what: format!("{what}: {{}} {unit}"),
            total,
            start_at: at,
            began: now,
            last_line: now,
            bar,
        }
    }

    /// Moves to a position.
    pub(crate) fn at(&mut self, position: u64) {
        match &self.bar {
            Some(bar) => bar.set_position(position),
            None if self.last_line.elapsed() >= LINE_EVERY => {
                self.last_line = Instant::now();
                let done = format!("{position} of {}", self.total);
                let rate = rate(position.saturating_sub(self.start_at), self.began.elapsed());
                self.output
                    .note(&format!("{}, {rate:.0} a second", self.what.replace("{}", &done)));
            }
            None => {}
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Items a second.
pub(crate) fn rate(items: u64, elapsed: Duration) -> f64 {
    items as f64 / elapsed.as_secs_f64().max(1e-6)
}

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);
