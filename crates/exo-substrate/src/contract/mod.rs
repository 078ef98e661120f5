//! The behaviour every backend has: a backend's tests make fresh substrates and call [`all`].
//!
//! Behind the feature `contract`, for tests only: a behaviour that fails panics and says which.
//! Results are compared with a plain scan over the same records.

mod data;
mod search;
mod write;

use std::future::Future;
use std::pin::Pin;

pub use data::{Numbers, plain_scan};

use crate::instance::SubstrateInstance;

type Behaviour = for<'a> fn(&'a SubstrateInstance) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Names and behaviours, in order.
const BEHAVIOURS: &[(&str, Behaviour)] = &[
    ("collections are made once, listed by name, and dropped", |s| Box::pin(write::collections(s))),
    ("a record comes back as it went in", |s| Box::pin(write::round_trip(s))),
    ("a record of the same id is replaced everywhere", |s| Box::pin(write::replacement(s))),
    ("a refused record leaves nothing of its batch", |s| Box::pin(write::refusals(s))),
    ("a deleted record is found by nothing", |s| Box::pin(write::deletion(s))),
    ("a mark is there exactly when its batch is", |s| Box::pin(write::marks(s))),
    ("a search sees whole batches while they are written", |s| Box::pin(write::snapshots(s))),
    ("nearest by every metric, as a plain scan finds them", |s| Box::pin(search::metrics(s))),
    ("equal scores come by id", |s| Box::pin(search::ties(s))),
    ("a filter admits before the best are chosen", |s| Box::pin(search::filters(s))),
    ("text is found by any of its words", |s| Box::pin(search::words(s))),
    ("given statistics make text scores comparable", |s| Box::pin(search::global_text(s))),
    ("operators of a query language are text", |s| Box::pin(search::operators(s))),
    ("a mixed query has both legs, and hits carry what was asked", |s| {
        Box::pin(search::both_legs(s))
    }),
    ("a request out of bounds is refused", |s| Box::pin(search::bounds(s))),
];

/// Runs every behaviour, each on a fresh substrate.
///
/// # Panics
/// When the backend behaves otherwise.
pub async fn all<F: Future<Output = SubstrateInstance>>(fresh: impl Fn() -> F) {
    for (name, behaviour) in BEHAVIOURS {
        println!("{name}");
        behaviour(&fresh().await).await;
    }
}
