//! Logs: to standard error, for people or as JSON. They carry no user data and no secrets, and what
//! a peer says in one cannot pass for a line of its own or drive a terminal.

use std::io::{IsTerminal, Stderr, Write};

use tracing_subscriber::EnvFilter;

use crate::cli::LogFormat;
use crate::exit::Failure;

/// Starts logging with a filter such as `info` or `exo=debug,warn`.
pub(crate) fn start(filter: &str, format: LogFormat) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        Failure::new(
            exo_federation::ErrorCode::InvalidArgument,
            format!("the log filter {filter:?}: {error}"),
        )
    })?;
    let color = std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let escapes = color && format == LogFormat::Human;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || OneLine { inner: std::io::stderr(), escapes });
    let started = match format {
        LogFormat::Human => builder.with_ansi(color).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| {
        Failure::new(exo_federation::ErrorCode::Internal, format!("logging: {error}"))
    })
}

/// Writes one event a line: control characters within it are shown as escapes. The formatter hands
/// over an event whole, with the line end that is its own.
struct OneLine<W = Stderr> {
    inner: W,
    /// Whether ESC passes, because the formatter colours; it escapes those of values itself.
    escapes: bool,
}

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, event: &[u8]) -> std::io::Result<usize> {
        let (body, end) = match event.strip_suffix(b"\n") {
            Some(body) => (body, "\n"),
            None => (event, ""),
        };
        let mut line = String::with_capacity(event.len());
        for c in String::from_utf8_lossy(body).chars() {
            if c.is_control() && !(self.escapes && c == '\u{1b}') {
                line.extend(c.escape_default());
            } else {
                line.push(c);
            }
        }
        line.push_str(end);
        self.inner.write_all(line.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(escapes: bool, event: &str) -> String {
        let mut line = OneLine { inner: Vec::new(), escapes };
        line.write_all(event.as_bytes()).expect("writes");
        String::from_utf8(line.inner).expect("text")
    }

    #[test]
    fn an_event_stays_on_its_line_and_cannot_drive_the_terminal() {
        let event = "INFO peer left detail=bye\r\nERROR forged\u{1b}[2J\u{9b}1m é\n";
        let line = written(false, event);
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        assert!(
            line.ends_with('\n') && line.contains("\\r\\nERROR forged\\u{1b}[2J\\u{9b}1m é"),
            "{line}"
        );
        assert_eq!(
            written(true, "\u{1b}[32mINFO\u{1b}[0m x\ty\n"),
            "\u{1b}[32mINFO\u{1b}[0m x\\ty\n"
        );
    }
}
