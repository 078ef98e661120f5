//! Signals of a command that is not a node: it says that it was stopped and exits with 130.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use crate::exit::{Exit, Failure};
use crate::output::Output;

/// What must be done before the process ends by a signal.
pub(crate) type Cleanup = Arc<dyn Fn() -> Stopped + Send + Sync>;

/// What being stopped meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// The command had not finished.
    Early,
    /// The command had done everything and was waiting to be stopped.
    Done,
}

/// Watches for SIGINT and SIGTERM on a thread of its own; on the first, cleans up and exits.
pub(crate) fn exit_on_signal(output: Output, cleanup: Cleanup) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(exo_federation::ErrorCode::Io, format!("signals: {error}"))
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(failed)?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (
            signal(SignalKind::interrupt()).map_err(failed)?,
            signal(SignalKind::terminate()).map_err(failed)?,
        )
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            });
            if cleanup() == Stopped::Done {
                std::process::exit(i32::from(Exit::Ok as u8));
            }
            output.failure(&Failure::new(
                exo_federation::ErrorCode::Interrupted,
                "stopped before the end",
            ));
            std::process::exit(i32::from(Exit::Interrupted as u8));
        })
        .map_err(failed)?;
    Ok(())
}
