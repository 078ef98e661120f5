//! Records: written in batches, read one by one.

use axum::extract::State;
use data_encoding::HEXLOWER_PERMISSIVE;
use exo_crypto::content_hash;
use exo_federation::ErrorCode;
use exo_substrate::{ImportId, ImportMark, NewRecord};
use exo_types::limits::BATCH_RECORDS_MAX;
use exo_types::{CollectionName, Record, RecordId};

use crate::api::Api;
use crate::api::dto::record::{
    NewRecordDoc, ProgressDoc, PutDoc, RecordDoc, RecordsRequest, metadata, metadata_doc,
};
use crate::api::error::ApiError;
use crate::api::extract::{Doc, LargeJson, One, Two};

/// Writes a batch: all of it or nothing, durable when answered.
pub(crate) async fn put(
    State(api): State<Api>,
    One(collection): One<CollectionName>,
    LargeJson { body, permit }: LargeJson<RecordsRequest>,
) -> Result<Doc<PutDoc>, ApiError> {
    if body.records.len() > BATCH_RECORDS_MAX {
        return Err(ApiError::new(
            ErrorCode::InvalidArgument,
            format!("a batch has at most {BATCH_RECORDS_MAX} records, not {}", body.records.len()),
        ));
    }
    let mark = body.import.map(|import| -> Result<_, ApiError> {
        Ok(ImportMark { import_id: import_id(&import.id)?, rows_done: import.rows_done })
    });
    let records = body.records.into_iter().map(record).collect::<Result<_, _>>()?;
    let outcome = api.mesh().put(&collection, records, mark.transpose()?).await?;
    drop(permit);
    let (inserted, replaced) = (outcome.inserted, outcome.replaced);
    Ok(Doc::new("exo.records/1", PutDoc { inserted, replaced }))
}

/// One record.
pub(crate) async fn get(
    State(api): State<Api>,
    Two(collection, id): Two<CollectionName, RecordId>,
) -> Result<Doc<RecordDoc>, ApiError> {
    let stored = api.mesh().record(&collection, &id).await?;
    let Record { id, title, text, metadata } = stored.record;
    let metadata = metadata_doc(&metadata);
    let doc = RecordDoc { collection, id, title, text, metadata, vector: stored.vector };
    Ok(Doc::new("exo.record/1", doc))
}

/// How far an import is.
pub(crate) async fn import_progress(
    State(api): State<Api>,
    Two(collection, id): Two<CollectionName, String>,
) -> Result<Doc<ProgressDoc>, ApiError> {
    let rows_done = api.mesh().import_progress(&collection, import_id(&id)?).await?;
    Ok(Doc::new("exo.import-progress/1", ProgressDoc { rows_done }))
}

fn record(doc: NewRecordDoc) -> Result<NewRecord, ApiError> {
    let at = |id: &RecordId, reason: String| {
        ApiError::new(ErrorCode::InvalidArgument, format!("record {:?}: {reason}", id.as_str()))
    };
    let metadata = metadata(doc.metadata).map_err(|reason| at(&doc.id, reason))?;
    let content = content_hash(&doc.title, &doc.text);
    let record = Record { id: doc.id, title: doc.title, text: doc.text, metadata };
    record.check().map_err(|error| at(&record.id, error.to_string()))?;
    Ok(NewRecord { record, vector: doc.vector, content })
}

fn import_id(text: &str) -> Result<ImportId, ApiError> {
    let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok();
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| {
        ApiError::new(ErrorCode::InvalidArgument, "an import id has 64 hexadecimal digits")
    })
}
