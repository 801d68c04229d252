//! What is large: written as clients of Azure's [block blobs](https://learn.microsoft.com/en-us/rest/api/storageservices/put-block)
//! write, and read as a whole. The signature in an address is all that is asked for.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path as Place;
use serde::Deserialize;

use super::error::Refusal;
use super::keep::Keep;
use super::ledger::Allowance;
use super::{Bearer, Services};

/// The longest list of blocks, in bytes.
const MAX_LIST: usize = 8 << 20;
/// How long it may take to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// What stands in the query of an upload.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    sig: String,
    comp: Option<String>,
    blockid: Option<String>,
}

/// What stands in the query of a download.
#[derive(Debug, Deserialize)]
pub(super) struct Signed {
    sig: String,
    /// The run whose job downloads it, and how many calls it may have at a time.
    #[serde(default)]
    run: String,
    #[serde(default)]
    calls: usize,
    /// What it is called, and of which kind it is, where that is known.
    name: Option<String>,
    kind: Option<String>,
}

/// `PUT /uploads/ID`: a block (`comp=block`), the list of blocks (`comp=blocklist`), or all of it.
pub(super) async fn write(
    State(services): State<Arc<Services>>,
    Path(id): Path<String>,
    Query(asked): Query<Asked>,
    body: Body,
) -> Result<Response, Refusal> {
    if !services.key.has_signed("upload", &id, &asked.sig) {
        return Err(Refusal::forbidden("the address of the upload is not signed"));
    }
    let allowance = services.uploads.known(&id)?.allowance;
    let _under_way = services.ledger.call(&allowance.run, allowance.calls)?;
    match asked.comp.as_deref() {
        Some("block") => {
            services.uploads.block(&id, &asked.blockid.unwrap_or_default(), body).await?;
        }
        Some("blocklist") => {
            let turn = services.turn(&allowance.run).await?;
            let list = tokio::time::timeout(PATIENCE, axum::body::to_bytes(body, MAX_LIST)).await;
            let list = list.map_err(|_| Refusal::invalid("the list of blocks took too long"))?;
            let list = list.map_err(|_| Refusal::invalid("the list of blocks was cut off"))?;
            let blocks = blocks(&String::from_utf8_lossy(&list));
            let its = Arc::clone(&services);
            let commit =
                async move { its.on_disk(move |uploads| uploads.commit(&id, &blocks)).await };
            services.in_turn(turn, commit).await?;
        }
        None => services.uploads.whole(&id, body).await?,
        Some(other) => return Err(Refusal::invalid(format!("`comp={other}` is not known here"))),
    }
    let mut headers = HeaderMap::new();
    // Azure's client wants them; nobody compares them.
    for (name, value) in [
        ("etag", "\"0x1\""),
        ("last-modified", "Thu, 01 Jan 1970 00:00:00 GMT"),
        ("x-ms-request-server-encrypted", "false"),
        ("x-ms-version", "2021-12-02"),
    ] {
        headers.insert(name, header::HeaderValue::from_static(value));
    }
    Ok((StatusCode::CREATED, headers).into_response())
}

/// Reads the names of blocks, in order, from a
/// [block list](https://learn.microsoft.com/en-us/rest/api/storageservices/put-block-list). They are Base64: nothing in
/// them is escaped.
fn blocks(list: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut rest = list;
    while let Some((_, after)) = rest.split_once('<') {
        let Some((tag, after)) = after.split_once('>') else { break };
        rest = after;
        if matches!(tag, "Latest" | "Uncommitted" | "Committed") {
            let Some((block, after)) = after.split_once("</") else { break };
            blocks.push(block.trim().to_owned());
            rest = after;
        }
    }
    blocks
}

/// `GET /artifacts/RUN/BLOB`
pub(super) async fn read_artifact(
    State(services): State<Arc<Services>>,
    Path((run, blob)): Path<(String, String)>,
    Query(signed): Query<Signed>,
) -> Result<Response, Refusal> {
    read(&services, &services.artifacts, "artifacts", &run, &blob, signed).await
}

/// `GET /caches/REPOSITORY/BLOB`
pub(super) async fn read_cache(
    State(services): State<Arc<Services>>,
    Path((repository, blob)): Path<(String, String)>,
    Query(signed): Query<Signed>,
) -> Result<Response, Refusal> {
    read(&services, &services.caches, "caches", &repository, &blob, signed).await
}

impl Services {
    /// Returns the address from which a job may download what lies at a path of the services.
    pub(super) fn download(&self, bearer: &Bearer, path: &str, more: &[(&str, &str)]) -> String {
        let Allowance { run, calls, .. } = bearer.allowance(&self.bounds);
        let sig = self.key.signature("download", &said(path, &run, calls));
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("sig", &sig).append_pair("run", &run);
        query.append_pair("calls", &calls.to_string()).extend_pairs(more);
        format!("{}{path}?{}", self.url, query.finish())
    }
}

/// Returns what is signed of an address from which something is downloaded.
fn said(path: &str, run: &str, calls: usize) -> String {
    format!("{path} {run} {calls}")
}

async fn read(
    services: &Services,
    keep: &Keep,
    kind: &str,
    of: &str,
    blob: &str,
    signed: Signed,
) -> Result<Response, Refusal> {
    let said = said(&format!("{kind}/{of}/{blob}"), &signed.run, signed.calls);
    if !services.key.has_signed("download", &said, &signed.sig) {
        return Err(Refusal::forbidden("the address of the download is not signed"));
    }
    let under_way = services.ledger.call(&signed.run, signed.calls)?;
    let place = place(of, blob);
    let found = answer(keep, &place, signed.name.as_deref(), signed.kind.as_deref());
    let found = found.await?.ok_or_else(|| Refusal::not_found("it is not there any more"))?;
    // The call is under way until all of it was sent, or nobody wants it any more.
    Ok(found.map(|body| {
        let pieces = body.into_data_stream();
        Body::from_stream(pieces.inspect(move |_| _ = &under_way))
    }))
}

/// Returns where a blob of a run or repository lies.
pub(super) fn place(of: &str, blob: &str) -> Place {
    Place::from_iter([of, "blobs", blob])
}

/// Returns whether it is a place where a blob lies.
pub(super) fn is_blob(place: &Place) -> bool {
    let parts: Vec<_> = place.parts().collect();
    matches!(parts.as_slice(), [_, folder, _] if folder.as_ref() == "blobs")
}

/// Returns an object as an answer; `None` where it is not.
pub(super) async fn answer(
    keep: &Keep,
    place: &Place,
    name: Option<&str>,
    kind: Option<&str>,
) -> anyhow::Result<Option<Response>> {
    let Some(found) = keep.read(place).await? else { return Ok(None) };
    let mut answer = Response::builder()
        .header(header::CONTENT_LENGTH, found.meta.size)
        .header(header::CONTENT_TYPE, kind.unwrap_or("application/octet-stream"));
    if let Some(name) = name {
        let name: String = name.bytes().fold(String::new(), |mut escaped, byte| {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
                escaped.push(char::from(byte));
            } else {
                // Writing to a string cannot fail.
                let _ = write!(escaped, "%{byte:02X}");
            }
            escaped
        });
        let disposition = format!("attachment; filename*=UTF-8''{name}");
        answer = answer.header(header::CONTENT_DISPOSITION, disposition);
    }
    let body = Body::from_stream(found.into_stream().map_err(std::io::Error::other));
    Ok(Some(answer.body(body)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_list_of_blocks_is_read_in_order() {
        let list = "<?xml version=\"1.0\"?><BlockList><Latest>YQ==</Latest>\n<Uncommitted> Yg== </Uncommitted><Latest>YQ==</Latest></BlockList>";
        assert_eq!(blocks(list), ["YQ==", "Yg==", "YQ=="]);
        assert_eq!(blocks("<BlockList/>"), Vec::<String>::new());
    }

    proptest! {
        #[test]
        fn no_list_of_blocks_makes_it_panic(list in "(<Latest>|</|>|<|[a-z=]|é){0,40}") {
            blocks(&list);
        }
    }
}
