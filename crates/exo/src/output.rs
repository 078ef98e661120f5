//! What a command prints: data on standard output, everything else on standard error.

use std::io::{IsTerminal, Write};

use serde::Serialize;

use crate::escape::{visible, visible_json};
use crate::exit::Failure;

/// Where and how a command prints.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// Whether data is JSON, one document a line.
    pub(crate) json: bool,
    /// Whether standard output takes colours.
    color: bool,
    /// Whether standard error takes colours.
    color_notes: bool,
}

impl Output {
    /// Looks at the terminal and at `NO_COLOR`.
    pub(crate) fn new(json: bool) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self {
            json,
            color: wanted && std::io::stdout().is_terminal(),
            color_notes: wanted && std::io::stderr().is_terminal(),
        }
    }

    /// Prints one JSON document on a line of its own.
    pub(crate) fn json<T: Serialize>(&self, value: &T) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(|error| {
            Failure::new(exo_federation::ErrorCode::Internal, format!("JSON: {error}"))
        })?;
        self.line(&visible_json(text))
    }

    /// Prints a line of data. Text of others must have gone through [`visible`].
    pub(crate) fn line(&self, text: &str) -> Result<(), Failure> {
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "{text}")
            .and_then(|()| stdout.flush())
            .map_err(|error| Failure::output(&error))
    }

    /// Prints a line for people on standard error; a failure to do so changes nothing.
    pub(crate) fn note(&self, text: &str) {
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    /// Prints a failure: readable on standard error and, with `--json`, as `exo.error/1` on
    /// standard output.
    pub(crate) fn failure(&self, failure: &Failure) {
        if failure.silent {
            return;
        }
        let label = self.note_style(&format!("error[{}]", failure.code), Style::Bad);
        self.note(&format!("{label}: {}", visible(&failure.message)));
        if !failure.remedy.is_empty() {
            self.note(&format!("  help: {}", visible(&failure.remedy)));
        }
        if self.json {
            // The exit code says it all the same when nobody reads any more.
            let _ = self.json(&failure.doc());
        }
    }

    /// Styles a text for standard output.
    pub(crate) fn style(&self, text: &str, style: Style) -> String {
        style.apply(text, self.color)
    }

    /// Styles a text for standard error.
    pub(crate) fn note_style(&self, text: &str, style: Style) -> String {
        style.apply(text, self.color_notes)
    }
}

/// What a piece of text means; the colour follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// A heading or the piece to look at.
    Strong,
    /// Beside the point.
    Dim,
    /// In order.
    Good,
    /// Worth a look.
    Warn,
    /// Wrong.
    Bad,
}

impl Style {
    fn apply(self, text: &str, color: bool) -> String {
        let code = match self {
            Self::Strong => "1",
            Self::Dim => "2",
            Self::Good => "32",
            Self::Warn => "33",
            Self::Bad => "31",
        };
        if color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Lines up columns: every cell but the last of a row is padded to its column's width.
pub(crate) fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let mut text = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            text.push_str(cell);
            let pad = width.saturating_sub(cell.chars().count()) + 2;
            text.extend(std::iter::repeat_n(' ', pad));
        }
        text.trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_by_characters() {
        let rows = vec![vec!["é".into(), "x".into()], vec!["abc".into(), "y".into()]];
        assert_eq!(table(&rows), ["é    x", "abc  y"]);
    }

    #[test]
    fn without_colour_a_style_adds_nothing() {
        assert_eq!(Style::Bad.apply("x", false), "x");
        assert_eq!(Style::Bad.apply("x", true), "\x1b[31mx\x1b[0m");
    }
}
