//! Logs: to standard error, for people or as JSON. They carry no user data and no secrets.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

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
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_span_events(FmtSpan::NONE)
        .with_target(true);
    let started = match format {
        LogFormat::Human => builder.with_ansi(color).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| {
        Failure::new(exo_federation::ErrorCode::Internal, format!("logging: {error}"))
    })
}
