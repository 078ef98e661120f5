//! Reads what searches need of every collection when a store is opened.

use exo_types::limits::SEGMENT_RECORDS_MAX;
use exo_types::{CollectionName, CollectionSpec, Metric};
use rusqlite::Connection;

use super::collection::Collection;
use super::row;
use super::schema::Place;
use super::segment::{Segment, SegmentBuilder, SegmentRecord};
use super::state::{Shape, State};
use crate::error::SubstrateError;
use crate::metric;

/// Every collection of the store, with its state.
pub(super) fn collections(
    connection: &Connection,
    place: &Place,
    exact_max: usize,
) -> Result<Vec<Collection>, SubstrateError> {
    let failed = place.failed("reading its collections");
    let mut statement = connection
        .prepare(
            "SELECT number, name, dimensions, metric, embedder, generation, records
             FROM collection ORDER BY name",
        )
        .map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    let mut collections = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        let name: String = row.get(1).map_err(failed)?;
        let metric: String = row.get(3).map_err(failed)?;
        let spec = CollectionSpec {
            name: CollectionName::new(name).map_err(|e| place.damaged(e.to_string()))?,
            dimensions: row.get(2).map_err(failed)?,
            metric: parse_metric(&metric)
                .ok_or_else(|| place.damaged(format!("unknown metric {metric:?}")))?,
            embedder: row.get(4).map_err(failed)?,
        };
        spec.check().map_err(|error| place.damaged(error.to_string()))?;
        let number: i64 = row.get(0).map_err(failed)?;
        let generation: i64 = row.get(5).map_err(failed)?;
        let records: i64 = row.get(6).map_err(failed)?;
        let shape = shape(&spec, exact_max);
        let segments = segments(connection, place, number, shape)?;
        let state = State::loaded(shape, generation, segments);
        check_ids(connection, place, number, &state)?;
        if i64::try_from(state.records) != Ok(records) {
            return Err(place.damaged(format!(
                "collection {} should hold {records} records and holds {}",
                spec.name, state.records
            )));
        }
        collections.push(Collection::new(number, spec, state));
    }
    Ok(collections)
}

/// What a collection's states need of its declaration.
pub(super) fn shape(spec: &CollectionSpec, exact_max: usize) -> Shape {
    Shape { dimensions: spec.dimensions as usize, metric: spec.metric, exact_max }
}

/// A metric's name on disk.
pub(super) fn metric_name(metric: Metric) -> &'static str {
    match metric {
        Metric::Cosine => "cosine",
        Metric::Dot => "dot",
        Metric::L2 => "l2",
    }
}

fn parse_metric(name: &str) -> Option<Metric> {
    [Metric::Cosine, Metric::Dot, Metric::L2].into_iter().find(|m| metric_name(*m) == name)
}

fn segments(
    connection: &Connection,
    place: &Place,
    number: i64,
    shape: Shape,
) -> Result<Vec<Segment>, SubstrateError> {
    let failed = place.failed("reading its records");
    let mut statement = connection
        .prepare(&format!(
            "SELECT row, id, tokens, metadata, vector, vector_sum FROM record_{number} ORDER BY row"
        ))
        .map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    let mut segments = Vec::new();
    let mut builder = SegmentBuilder::default();
    let mut last = i64::MIN;
    while let Some(row) = rows.next().map_err(failed)? {
        let at: i64 = row.get(0).map_err(failed)?;
        if at <= last {
            return Err(place.damaged("its records are out of order"));
        }
        last = at;
        let id: String = row.get(1).map_err(failed)?;
        let vector = row::vector(row, 4, place, shape.dimensions)?;
        let vector = vector.map(|vector| metric::prepared(shape.metric, &vector));
        builder.push(&SegmentRecord {
            row: at,
            id: &id,
            tokens: row.get(2).map_err(failed)?,
            vector: vector.as_deref(),
            metadata: &row::decode_metadata(row::bytes(row, 3, place)?, place)?,
        });
        if builder.len() == SEGMENT_RECORDS_MAX {
            segments.push(std::mem::take(&mut builder).finish());
        }
    }
    if builder.len() > 0 {
        segments.push(builder.finish());
    }
    Ok(segments)
}

/// Compares the index of ids with the records: were it damaged, a record would be missed, or
/// written twice.
fn check_ids(
    connection: &Connection,
    place: &Place,
    number: i64,
    state: &State,
) -> Result<(), SubstrateError> {
    let failed = place.failed("reading its ids");
    let mut statement = connection
        .prepare(&format!(
            "SELECT id, row FROM record_{number} INDEXED BY sqlite_autoindex_record_{number}_1
             ORDER BY id"
        ))
        .map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    let mut last: Option<String> = None;
    let mut count = 0;
    while let Some(row) = rows.next().map_err(failed)? {
        let id: String = row.get(0).map_err(failed)?;
        let found = state.find(row.get(1).map_err(failed)?);
        let same = found.is_some_and(|(entry, at)| state.entries[entry].segment.id(at) == id);
        if !same || last.is_some_and(|last| last >= id) {
            return Err(place.damaged("its index of ids does not fit its records"));
        }
        last = Some(id);
        count += 1;
    }
    if count == state.records {
        Ok(())
    } else {
        Err(place.damaged("its index of ids lacks some of its records"))
    }
}
