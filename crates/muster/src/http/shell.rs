//! A shell in a job that has failed, over a connection that is upgraded.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use super::api::find_job;
use super::audit::note;
use super::error::Problem;
use crate::loops::Shared;
use crate::{shell, task};

/// Leads the caller into a job that is kept; what goes over the connection then is [`shell`]'s.
pub(super) async fn open(
    State(shared): State<Arc<Shared>>,
    Path(number): Path<i64>,
    mut request: Request,
) -> Result<Response, Problem> {
    let wanted = request.headers().get(header::UPGRADE);
    if wanted.is_none_or(|wanted| wanted != shell::PROTOCOL) {
        let text = format!("ask for an upgrade to `{}`, as `muster shell` does", shell::PROTOCOL);
        return Err(Problem::new(StatusCode::UPGRADE_REQUIRED, text));
    }
    let upgrade = request.extensions_mut().remove::<OnUpgrade>().ok_or_else(|| {
        Problem::new(StatusCode::BAD_REQUEST, "this connection cannot be upgraded")
    })?;
    drop(request);
    let (job, run) = find_job(&shared, number).await?;
    let attempts = shared.store.attempts_of(&job.ran_as).await?;
    let newest = attempts.last().map_or(0, |(attempt, _)| *attempt);
    let folder = shared.data.job(&job.ran_as, newest);
    let Ok(stream) = tokio::task::spawn_blocking(move || shell::connect(&folder))
        .await
        .map_err(anyhow::Error::from)?
    else {
        let minutes = shared.config.shell.keep_minutes;
        let why = match minutes {
            0 => "jobs that fail are not kept here: say for how long by `[shell] keep_minutes`, and run it again"
                .to_owned(),
            minutes => format!(
                "it is not kept: jobs are that have failed by themselves, for {minutes} min, the newest as many as run at once"
            ),
        };
        return Err(Problem::new(
            StatusCode::CONFLICT,
            format!("job `{}` of run {}: {why}", job.job.name, run.number),
        ));
    };
    stream.set_nonblocking(true)?;
    let mut inside = UnixStream::from_std(stream)?;
    let subject = format!("job {number} of run {}", run.number);
    note(&shared, "shell.open", &subject, &job.job.name).await?;
    let noted = Arc::clone(&shared);
    drop(task::spawn("shell", async move {
        if let Ok(upgraded) = upgrade.await {
            // However it ends: who looked has gone away, or what ran has ended.
            drop(tokio::io::copy_bidirectional(&mut TokioIo::new(upgraded), &mut inside).await);
        }
        if let Err(error) = note(&noted, "shell.close", &subject, "").await {
            tracing::warn!(?error, "the end of a shell is not noted");
        }
    }));
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(shell::PROTOCOL));
    Ok(answer)
}
