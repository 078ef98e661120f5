//! Refusals: what one node tells another when it does not do what was asked.
//!
//! A refusal names a rule, never a value: it tells nothing about data, members or keys.

use std::fmt;

use exo_types::SourceStatus;
use serde::{Deserialize, Serialize};

/// Declares the codes with their text and how an asker reports them.
macro_rules! refusals {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $status:ident, $says:literal;)*) => {
        /// Why a request was refused. The order of the variants is the wire encoding: append only.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Refusal {
            $(#[doc = $says] $variant,)*
        }

        impl Refusal {
            /// Every refusal.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable code.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// What it means, for a person.
            pub const fn says(self) -> &'static str {
                match self { $(Self::$variant => $says,)* }
            }

            /// How a source that refused so is reported.
            pub const fn status(self) -> SourceStatus {
                match self { $(Self::$variant => SourceStatus::$status,)* }
            }
        }
    };
}

refusals! {
    NotMember = "not-member", Refused, "this key is not a member's";
    MemberPending = "member-pending", Refused, "the membership waits for approval";
    MemberRevoked = "member-revoked", Refused, "the membership was revoked";
    WrongFederation = "wrong-federation", Refused, "the request is for another federation";
    HelloExpected = "hello-expected", Refused, "a session begins with a hello";
    NoCommonCapability = "no-common-capability", Refused, "the two versions have nothing in common";
    TokenUnknown = "token-unknown", Refused, "no such token was presented in this session";
    TokenAltered = "token-altered", Refused, "the token's signature does not hold";
    TokenForeign = "token-foreign", Refused, "the token is for another federation";
    TokenAudience = "token-audience", Refused, "the token was issued by or for another member";
    TokenHolder = "token-holder", Refused, "the token belongs to another member";
    TokenExpired = "token-expired", Refused, "the token has expired or is not yet valid";
    TokenEpoch = "token-epoch", Refused, "the token is from another membership epoch";
    TokenRevoked = "token-revoked", Refused, "the token was revoked";
    TokenOverreach = "token-overreach", Refused, "the token does not allow this request";
    Malformed = "malformed", Failed, "the request does not decode or is out of bounds";
    Busy = "busy", Declined, "the node works at its bound";
    Embedder = "embedder-mismatch", Declined, "the collections hold vectors of another model or dimension";
    SearchFailed = "search-failed", Failed, "the search failed at the source";
    TicketUnknown = "ticket-unknown", Refused, "the ticket is unknown, used, revoked or expired";
    NameTaken = "name-taken", Refused, "a member has that name";
    WordsMismatch = "commitment-mismatch", Refused, "the revealed nonce does not fit its commitment";
    JoinRejected = "join-rejected", Refused, "the inviter rejected the request";
    JoinFull = "join-full", Refused, "too many joiners wait";
    Anonymous = "anonymous-denied", Declined, "the collections are not for members that do not say who they are";
}

impl Refusal {
    /// Whether a fresh token from the same member may help.
    pub const fn wants_fresh_token(self) -> bool {
        matches!(
            self,
            Self::TokenUnknown | Self::TokenExpired | Self::TokenEpoch | Self::TokenRevoked
        )
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code(), self.says())
    }
}
