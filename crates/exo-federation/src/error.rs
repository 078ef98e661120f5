//! One error for the whole public interface: a stable code, what happened, and what to do about it.

use std::fmt;

/// Declares the stable codes with what each means, what to do, and whether trying again may help.
macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $retry:literal, $meaning:literal, $remedy:literal;)*) => {
        /// A stable name for a kind of failure; `exo errors CODE` explains it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $(#[doc = $meaning] $variant,)*
        }

        impl ErrorCode {
            /// Every code, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code as it is printed and sent.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// What it means.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)* }
            }

            /// What to do about it.
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$variant => $remedy,)* }
            }

            /// Whether the same call may succeed later without a change by the caller.
            pub const fn retryable(self) -> bool {
                match self { $(Self::$variant => $retry,)* }
            }
        }
    };
}

codes! {
    InvalidQuery = "invalid-query", false,
        "The query breaks a bound: no text and no vector, a component that is not finite, top_k out of range, or a deadline out of range.",
        "Correct the part that the message names.";
    InvalidArgument = "invalid-argument", false,
        "An argument is malformed or out of bounds.",
        "Correct the argument that the message names.";
    DimensionMismatch = "dimension-mismatch", false,
        "A vector does not have the collection's number of dimensions.",
        "Use vectors of the model the collection was made with; `exo collection show NAME` prints its dimensions.";
    ImportInvalid = "import-invalid", false,
        "A file to import has a fault; nothing of it was imported.",
        "Correct the row that the message names and import again.";
    CollectionNotFound = "collection-not-found", false,
        "This node has no collection of that name.",
        "`exo collection list` shows those there are; `exo collection add NAME` makes one.";
    CollectionExists = "collection-exists", false,
        "A collection of that name is there already, declared otherwise.",
        "Choose another name, or drop the collection first.";
    RecordNotFound = "record-not-found", false,
        "No record has that id in the collections asked.",
        "Check the id; `--collection` narrows where it is looked for.";
    PeerNotFound = "peer-not-found", false,
        "No member or joiner has that id or name.",
        "`exo peers list` shows them.";
    InviteNotFound = "invite-not-found", false,
        "No open invite has that id.",
        "`exo invite list` shows the open ones.";
    TooManyInvites = "too-many-invites", false,
        "The bound on open invites, pending joiners or members is reached.",
        "Revoke invites that are not needed, or approve or reject the joiners that wait.";
    NotAMember = "not-a-member", false,
        "This node belongs to no federation yet.",
        "Join one with `exo join`, or found one with `exo invite new`; `--scope local` asks this node alone.";
    AlreadyMember = "already-member", false,
        "This node belongs to a federation already.",
        "One data directory is one node in one federation: use another `--data-dir` for another.";
    NotFounder = "not-founder", false,
        "Until a federation has enough members to decide by consensus, its founder alone admits and removes members.",
        "Run the command on the founder's node; `exo status` names it.";
    NoVote = "no-vote", false,
        "The members decide together, and this node has no vote.",
        "Run the command on the node of a member with a vote; `exo status` names them.";
    TicketMalformed = "ticket-malformed", false,
        "The ticket does not decode: a character is missing, added or wrong.",
        "Copy the whole ticket again; it begins with `exo1`.";
    TicketExpired = "ticket-expired", false,
        "The ticket's time has passed.",
        "Ask for a new one: `exo invite new` at the inviting node.";
    JoinRefused = "join-refused", false,
        "The inviting node refused: the ticket is unknown, used, revoked or expired there, or the name is taken.",
        "Ask the inviter for a new ticket, or choose another name with `exo init --name`.";
    JoinInProgress = "join-in-progress", true,
        "This node waits for the approval of an earlier join.",
        "Tell the inviter your four words, or wait; `exo status` shows the state.";
    WordsUnknown = "words-unknown", false,
        "No joiner waits with these words: they were mistyped, or somebody stands between the two nodes.",
        "Ask the joiner to read their words again. If they are right and still unknown, revoke the invite.";
    Unreachable = "unreachable", true,
        "The peer could not be reached.",
        "Check that its node runs and that its UDP port is open; `exo doctor` helps.";
    Refused = "refused", false,
        "The peer refused this node.",
        "`exo peers show` on both sides: the membership may be pending or revoked.";
    TooFewSources = "too-few-sources", true,
        "Fewer sources answered than the query asked for.",
        "See each source's status; lower `--min-sources` or raise `--deadline`.";
    NoPath = "no-path", true,
        "There are too few relays for a path of so many members.",
        "Lower `--max-hops`, wait until more members are reached, or see `[onion]` in the configuration.";
    ProofInvalid = "proof-invalid", false,
        "The proof does not show that the entry was committed by the members that the policy names.",
        "The message begins with the reason's code; docs/protocol/proof.md lists them. Ask for the proof again.";
    InsufficientPeers = "insufficient-peers", false,
        "The federation does not decide by consensus yet: it takes four voters, so that one may fail.",
        "Admit more members; with the number in `founding_voters` of the founder's configuration, which is four unless set, they begin to decide together.";
    NoQuorum = "no-quorum", true,
        "Too few voters took part in time. Nothing is claimed: what was proposed may still be committed later.",
        "See which voters are active with `exo status`; look for the proposal with `exo commit list` before it is proposed again.";
    UpdateTooLong = "update-too-long", false,
        "The update is empty or longer than one entry of the log may be.",
        "Shorten it, or commit its hash and keep the content elsewhere.";
    DecisionNotFound = "decision-not-found", false,
        "The log has no decision at that index.",
        "`exo commit list` shows those there are.";
    NotCertified = "not-certified", true,
        "The decision is in the log here, but no quorum has cosigned it yet, or the part of the log is not here.",
        "Try again in a moment.";
    LogHalted = "log-halted", false,
        "This node has stopped deciding: its log and what a quorum certified contradict each other, or its journal cannot be written.",
        "Keep the data directory for examination. More voters are faulty than tolerated, or this node's disk is: see the log.";
    SharedNotFound = "shared-not-found", false,
        "There is no shared collection of that name, or it is not this member's to read.",
        "`exo shared list` shows those there are; the first write makes one that nobody has declared.";
    SharedKeyNotFound = "shared-key-not-found", false,
        "Nothing stands at that key of the shared collection, here and now.",
        "`exo shared list COLLECTION` shows the keys there are; `exo shared lag` whether others have something else.";
    SharedDenied = "shared-denied", false,
        "This member may not write to the shared collection.",
        "`exo shared list` shows whose it is; voters change that together.";
    SharedOnlyGrows = "shared-only-grows", false,
        "Nothing is removed from this shared collection: it was declared so.",
        "Erase the value instead, if its bytes have to go.";
    SharedFull = "shared-full", false,
        "This node holds as many shared collections as it may.",
        "Write to one that there is.";
    SharedCatchingUp = "shared-catching-up", true,
        "Batches that this member signed are missing here: with further ones it would have two histories.",
        "Wait until other members are reached and have given them back; `exo shared lag` shows how that stands.";
    ValueTooLong = "value-too-long", false,
        "The value is longer than one entry of a shared collection may be.",
        "Divide it, or share its hash and keep the content elsewhere.";
    Busy = "busy", true,
        "The node works at its bound.",
        "Try again in a moment.";
    DataLocked = "data-locked", false,
        "Another process holds the data directory.",
        "Stop the other node, or use another `--data-dir`.";
    DataCorrupt = "data-corrupt", false,
        "A file of the data directory is damaged or from a newer version.",
        "Restore it from a backup, or use the version that wrote it.";
    NotInitialised = "not-initialised", false,
        "The data directory holds no node.",
        "`exo init --name NAME` makes one.";
    AlreadyInitialised = "already-initialised", false,
        "The data directory holds a node already.",
        "Use it with `exo serve`, or choose another `--data-dir`.";
    KeyPermissions = "key-permissions", false,
        "A key file or its directory can be read by others.",
        "`chmod 0600` the file and `chmod 0700` the directory; if others read it, make a new identity.";
    ConfigInvalid = "config-invalid", false,
        "The configuration file has an unknown key or a wrong value.",
        "Correct the line that the message names.";
    AddressInUse = "address-in-use", false,
        "The address to listen on is taken or not one of this machine.",
        "Choose another with `--mesh-listen` or `--api-listen`.";
    NodeNotRunning = "node-not-running", true,
        "No node runs on this data directory, or its API does not answer.",
        "Start it with `exo serve`; `--data-dir` chooses another node.";
    Unauthorised = "unauthorised", false,
        "The request carries no API token, or a wrong one.",
        "Send `Authorization: Bearer TOKEN` with the token in `keys/api.token` of the data directory.";
    OriginRefused = "origin-refused", false,
        "The request's Host or Origin is not this API's own address: a web page may be speaking through a browser.",
        "Reach the API by 127.0.0.1, [::1] or localhost, and not from a page of another site.";
    BodyTooLarge = "body-too-large", false,
        "The request's body is longer than the route allows.",
        "Send less at once: records in smaller batches.";
    RouteNotFound = "route-not-found", false,
        "The API has no such path, or not with that method.",
        "The path and the method are listed in the API reference.";
    Interrupted = "interrupted", true,
        "The command was stopped before it had finished.",
        "Run it again; an import goes on where it stopped.";
    Io = "io", true,
        "The operating system refused a file or network operation.",
        "The message names the file and the cause.";
    Internal = "internal", false,
        "The node broke one of its own rules. This is a defect.",
        "Please report it with the message and the log.";
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What went wrong in a call of the public interface.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FederationError {
    /// The stable code.
    pub code: ErrorCode,
    /// What happened, with the culprit named; one line, no secrets.
    pub message: String,
}

impl FederationError {
    /// Builds an error.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// Whether the same call may succeed later without a change by the caller.
    pub const fn retryable(&self) -> bool {
        self.code.retryable()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_unique_and_explained() {
        let texts: BTreeSet<_> = ErrorCode::ALL.iter().map(|c| c.as_str()).collect();
        assert_eq!(texts.len(), ErrorCode::ALL.len());
        for code in ErrorCode::ALL {
            assert!(code.meaning().ends_with('.') && code.remedy().ends_with('.'), "{code}");
        }
    }
}
