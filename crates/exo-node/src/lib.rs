//! The node as a state machine: sessions, membership, tokens and query flow, without I/O.
//!
//! A driver feeds [`Node`] with [`effect::Input`]s and carries out its [`effect::Effect`]s. Time and
//! randomness are arguments; the crate never touches a socket, a disk or a clock.
//!
//! # Requirements
//! Sessions are authenticated: the key given with a session is the one that the other end proved to
//! hold, in a channel whose content nobody else reads or alters.
//!
//! # Provided
//! Only active members get answers; every request is checked against a token that this node signed
//! for its asker; a joiner gets nothing before it is approved; what a policy keeps back does not
//! leave; a query ends by its deadline with one status per source.
//!
//! A question through relays tells the member that answers what is asked and who brought it, never who
//! asks; the answer proves who gave it.
//!
//! # Not provided
//! A member that is asked directly learns who asks and what. A member that answers may withhold or
//! invent records. Who watches all links, or is the first relay and the target at once, finds out who
//! asks by comparing times. While a federation has fewer members than decide together ([`decide`]), its
//! founder alone decides who is one.

pub mod capability;
pub mod decide;
pub mod descriptor;
pub mod effect;
mod flow;
pub mod invite;
pub mod merge;
mod node;
pub mod policy;
pub mod question;
mod rate;
pub mod refusal;
pub mod roster;
pub mod share;
#[cfg(feature = "sim")]
pub mod sim;
pub mod state;
pub mod ticket;
pub mod token;
mod trim;
pub mod wire;

pub use flow::join::JoinError;
pub use flow::membership::{MemberChange, MembershipError};
pub use flow::query::QueryError;
pub use flow::show::{FederationView, JoinStatus, Load, PeerState, PeerView};
pub use node::{Entropy, Node, Settings, StateError};
