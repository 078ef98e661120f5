//! Many queries from one file of vectors: several under way, answers in the order of the rows.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use exo_federation::ErrorCode;
use exo_types::limits::{COMMAND_QUERIES_IN_FLIGHT_MAX, QUERY_ROWS_MAX};

use super::show::Printer;
use super::within;
use crate::api::dto::query::{QueryDoc, QueryRequest};
use crate::client::Client;
use crate::exit::Failure;

/// Asks a query a row; the fewest sources that answered one of them.
pub(crate) fn ask(
    client: &Client,
    printer: &Printer,
    request: &QueryRequest,
    path: &Path,
) -> Result<usize, Failure> {
    let rows = crate::npy::read(path, QUERY_ROWS_MAX)?;
    if rows.is_empty() {
        return Err(Failure::new(
            ErrorCode::InvalidQuery,
            format!("{} holds no query", path.display()),
        ));
    }
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let workers = rows.len().min(COMMAND_QUERIES_IN_FLIGHT_MAX);
    // The bound keeps the workers from running ahead of a row that is slow.
    let (sender, receiver) = mpsc::sync_channel(2 * COMMAND_QUERIES_IN_FLIGHT_MAX);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            let sender = sender.clone();
            let (rows, next, stop) = (&rows, &next, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let row = next.fetch_add(1, Ordering::Relaxed);
                    let Some(vector) = rows.get(row) else { break };
                    let request = QueryRequest { vector: vector.to_vec(), ..request.clone() };
                    let answer = client.post_within("/v1/queries", &request, within(&request));
                    if sender.send((row, answer)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let printed = in_order(printer, &receiver);
        stop.store(true, Ordering::Relaxed);
        drop(receiver);
        printed
    })
}

/// Prints answers in the order of their rows, as soon as those before them are printed.
fn in_order(
    printer: &Printer,
    receiver: &mpsc::Receiver<(usize, Result<QueryDoc, Failure>)>,
) -> Result<usize, Failure> {
    let mut fewest = usize::MAX;
    let mut early = BTreeMap::new();
    let mut due = 0;
    while let Ok((row, answer)) = receiver.recv() {
        early.insert(row, answer);
        while let Some(answer) = early.remove(&due) {
            let mut answer = answer.map_err(|mut failure| {
                failure.message = format!("row {due}: {}", failure.message);
                failure
            })?;
            answer.query = due;
            fewest = fewest.min(answer.answered());
            printer.row(&answer)?;
            due += 1;
        }
    }
    Ok(fewest)
}
