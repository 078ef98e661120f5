//! Running the node's searches in its substrate.

use std::sync::Arc;

use exo_node::effect::{Input, JobId, Search};
use exo_substrate::SearchRequest;
use exo_types::{CollectionName, TermStats};
use futures::future::try_join_all;

use super::core::Core;

impl Core {
    /// Searches every collection named and hands the node all their legs.
    pub(crate) async fn search(
        self: Arc<Self>,
        job: JobId,
        collections: Vec<CollectionName>,
        search: Search,
    ) {
        let request = SearchRequest {
            target: search.target,
            top_k: search.top_k,
            filter: search.filter,
            terms: search.terms,
            with_vectors: search.vectors,
        };
        let searches = collections.iter().map(|name| self.substrate.search(name, request.clone()));
        let result = match try_join_all(searches).await {
            Ok(answers) => Ok(answers.into_iter().flat_map(|answer| answer.legs).collect()),
            Err(error) => {
                tracing::warn!(%error, "a search of this node's data failed");
                Err(error.to_string())
            }
        };
        self.input(Input::SearchDone { job, result });
    }

    /// Counts a text's terms in every collection named.
    pub(crate) async fn terms(
        self: Arc<Self>,
        job: JobId,
        collections: Vec<CollectionName>,
        text: String,
    ) {
        let counts = collections.iter().map(|name| self.substrate.term_stats(name, &text));
        let result = match try_join_all(counts).await {
            Ok(parts) => {
                let mut sum = TermStats::default();
                parts.iter().for_each(|part| sum.add(part));
                Ok(sum)
            }
            Err(error) => {
                tracing::warn!(%error, "counting terms in this node's data failed");
                Err(error.to_string())
            }
        };
        self.input(Input::TermsDone { job, result });
    }
}
