//! How a command ends: its exit code, and failures with a stable code and a remedy.

use std::fmt;
use std::path::Path;

use exo_federation::{ErrorCode, FederationError};
use serde::Serialize;

/// The exit codes that scripts may rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything held.
    Ok = 0,
    /// A failure that no other code names.
    Failure = 1,
    /// The command line or an argument is wrong.
    Usage = 2,
    /// Fewer sources answered than asked for.
    TooFewSources = 3,
    /// What was named does not exist.
    NotFound = 4,
    /// Somebody refused.
    Denied = 5,
    /// No node, or a peer, could be reached.
    Unreachable = 6,
    /// A proof does not hold.
    ProofInvalid = 7,
    /// Too few voters take part to decide.
    NoQuorum = 8,
    /// Stopped by a signal.
    Interrupted = 130,
}

impl Exit {
    /// The exit code of a failure's stable code.
    pub(crate) fn of(code: ErrorCode) -> Self {
        use ErrorCode as C;
        match code {
            C::InvalidArgument | C::InvalidQuery | C::UpdateTooLong | C::ValueTooLong => {
                Self::Usage
            }
            C::TooFewSources => Self::TooFewSources,
            C::CollectionNotFound
            | C::RecordNotFound
            | C::PeerNotFound
            | C::InviteNotFound
            | C::WordsUnknown
            | C::DecisionNotFound
            | C::SharedNotFound
            | C::SharedKeyNotFound
            | C::RouteNotFound => Self::NotFound,
            C::Refused
            | C::JoinRefused
            | C::NotFounder
            | C::NoVote
            | C::Unauthorised
            | C::OriginRefused
            | C::SharedDenied
            | C::KeyPermissions => Self::Denied,
            C::Unreachable | C::NodeNotRunning => Self::Unreachable,
            C::ProofInvalid => Self::ProofInvalid,
            C::InsufficientPeers | C::NoQuorum => Self::NoQuorum,
            C::Interrupted => Self::Interrupted,
            _ => Self::Failure,
        }
    }
}

/// How a command ended well enough to say so itself, or why it failed.
pub(crate) type Outcome = Result<Exit, Failure>;

/// A failure as it is shown: stable code, what happened, what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Stable code in text; the node may be newer than this program and know codes it does not.
    pub(crate) code: String,
    /// What happened.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) remedy: String,
    /// Whether the same call may succeed later.
    pub(crate) retryable: bool,
    /// The exit code.
    pub(crate) exit: Exit,
    /// The reader of standard output went away: nothing is left to say, and nothing went wrong.
    pub(crate) silent: bool,
}

/// The failure as JSON, schema `exo.error/1`.
#[derive(Serialize)]
pub(crate) struct FailureDoc<'a> {
    schema: &'static str,
    code: &'a str,
    message: &'a str,
    remedy: &'a str,
    retryable: bool,
}

impl Failure {
    /// A failure of a known code.
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code: code.as_str().to_owned(),
            message: message.into(),
            remedy: code.remedy().to_owned(),
            retryable: code.retryable(),
            exit: Exit::of(code),
            silent: false,
        }
    }

    /// A failure that a node told, by the code's text.
    pub(crate) fn told(code: String, message: String, remedy: String, retryable: bool) -> Self {
        let known = ErrorCode::ALL.iter().find(|known| known.as_str() == code);
        let exit = known.map_or(Exit::Failure, |code| Exit::of(*code));
        Self { code, message, remedy, retryable, exit, silent: false }
    }

    /// An operation on a file failed.
    pub(crate) fn file(path: &Path, error: &std::io::Error) -> Self {
        Self::new(ErrorCode::Io, format!("{}: {error}", path.display()))
    }

    /// Writing to standard output failed.
    pub(crate) fn output(error: &std::io::Error) -> Self {
        let mut failure = Self::new(ErrorCode::Io, format!("standard output: {error}"));
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            failure.silent = true;
            failure.exit = Exit::Ok;
        }
        failure
    }

    /// The same failure with a remedy that fits better.
    pub(crate) fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }

    /// The failure as JSON.
    pub(crate) fn doc(&self) -> FailureDoc<'_> {
        FailureDoc {
            schema: "exo.error/1",
            code: &self.code,
            message: &self.message,
            remedy: &self.remedy,
            retryable: self.retryable,
        }
    }
}

impl From<FederationError> for Failure {
    fn from(error: FederationError) -> Self {
        Self::new(error.code, error.message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.code, self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_keep_their_exit_codes() {
        let exits = [
            (ErrorCode::InvalidQuery, 2),
            (ErrorCode::TooFewSources, 3),
            (ErrorCode::RecordNotFound, 4),
            (ErrorCode::Refused, 5),
            (ErrorCode::NodeNotRunning, 6),
            (ErrorCode::ProofInvalid, 7),
            (ErrorCode::NoQuorum, 8),
            (ErrorCode::InsufficientPeers, 8),
            (ErrorCode::NoVote, 5),
            (ErrorCode::DecisionNotFound, 4),
            (ErrorCode::SharedNotFound, 4),
            (ErrorCode::SharedKeyNotFound, 4),
            (ErrorCode::SharedDenied, 5),
            (ErrorCode::Interrupted, 130),
            (ErrorCode::Io, 1),
        ];
        for (code, exit) in exits {
            assert_eq!(Exit::of(code) as u8, exit, "{code}");
        }
    }

    #[test]
    fn a_code_from_a_newer_node_is_kept_and_exits_with_one() {
        let failure = Failure::told("brand-new".into(), "m".into(), "r".into(), true);
        assert_eq!((failure.exit, failure.code.as_str()), (Exit::Failure, "brand-new"));
        let failure = Failure::told("refused".into(), "m".into(), "r".into(), false);
        assert_eq!(failure.exit, Exit::Denied);
    }
}
