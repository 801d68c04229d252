//! Webhooks as they came, each with exactly one current outcome.

use std::borrow::Cow;

use base64::Engine as _;
use muster_core::change::Change;
use muster_core::id::RepoId;
use muster_core::outcome::Outcome;
use muster_core::run::Reason;
use sqlx::AnyConnection;

use super::{Page, Store, StoreError, events, new_id, next_number, pull_requests, repositories};

/// So many bytes of bodies are judged at once, but for a body that has more alone.
const BYTES_TOGETHER: i64 = 32 << 20;

/// A webhook to be stored.
#[derive(Debug)]
pub(crate) struct NewDelivery {
    /// Which hook it came through.
    pub(crate) hook: &'static str,
    /// The id that the code host gave it, which it keeps when it is sent again.
    pub(crate) delivery_id: String,
    pub(crate) event: String,
    pub(crate) content_type: String,
    /// The body: text, or base64 where it is not.
    pub(crate) body: String,
    pub(crate) body_is_base64: bool,
    pub(crate) body_sha256: String,
}

/// A webhook that waits for its outcome.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct PendingDelivery {
    pub(crate) id: String,
    pub(crate) number: i64,
    pub(crate) hook: String,
    pub(crate) event: String,
    pub(crate) body_sha256: String,
    #[sqlx(flatten)]
    pub(crate) body: StoredBody,
}

/// The body of a webhook as it came, stored as text where it is text.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct StoredBody {
    pub(crate) content_type: String,
    body: String,
    body_is_base64: i64,
}

impl StoredBody {
    /// Returns the bytes that came.
    pub(crate) fn bytes(&self) -> Result<Cow<'_, [u8]>, StoreError> {
        if self.body_is_base64 == 0 {
            return Ok(Cow::Borrowed(self.body.as_bytes()));
        }
        let bytes = base64::engine::general_purpose::STANDARD.decode(&self.body);
        bytes.map(Cow::Owned).map_err(StoreError::unreadable("body of a webhook"))
    }
}

/// A webhook as people see it.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct DeliveryRow {
    pub(crate) number: i64,
    pub(crate) delivery_id: String,
    pub(crate) event: String,
    pub(crate) received_at: i64,
    pub(crate) times: i64,
    pub(crate) outcome: String,
    pub(crate) reason_text: Option<String>,
}

/// Which webhooks of a list are meant.
#[derive(Debug, Clone, Default)]
pub(crate) struct DeliveriesOf {
    /// Those with this outcome.
    pub(crate) outcome: Option<String>,
    /// Those of this event.
    pub(crate) event: Option<String>,
}

/// All that is known of a webhook.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct DeliveryDetail {
    #[sqlx(flatten)]
    pub(crate) row: DeliveryRow,
    pub(crate) hook: String,
    #[sqlx(flatten)]
    pub(crate) body: StoredBody,
    /// The commit that it has told of, where it was accepted.
    pub(crate) sha: Option<String>,
    /// What was said of that, such as a ref.
    pub(crate) subject: Option<String>,
}

/// What became of a webhook.
#[derive(Debug, Clone)]
pub(crate) enum DeliveryOutcome {
    /// It told of this.
    Accepted(RepoId, Box<Change>),
    Ignored(Reason),
    Dead(Reason),
}

impl Store {
    /// Stores a webhook. One that is there already is left as it is, unless its first try ended dead or
    /// its repository was not known then.
    pub(crate) async fn receive(&self, new: NewDelivery, now: i64) -> Result<(), StoreError> {
        self.write(move |db| {
            Box::pin(async move {
                let number = next_number(db, "deliveries").await?;
                let stored = sqlx::query(
                    "INSERT INTO deliveries (id, number, hook, delivery_id, event, content_type, body, \
                     body_is_base64, body_sha256, received_at, times, outcome) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 1, 'pending') \
                     ON CONFLICT (hook, delivery_id) DO NOTHING",
                )
                .bind(new_id())
                .bind(number)
                .bind(new.hook)
                .bind(new.delivery_id.as_str())
                .bind(new.event)
                .bind(new.content_type)
                .bind(new.body)
                .bind(i64::from(new.body_is_base64))
                .bind(new.body_sha256)
                .bind(now)
                .execute(&mut *db)
                .await?;
                if stored.rows_affected() > 0 {
                    return Ok(());
                }
                receive_again(db, new.hook, &new.delivery_id).await
            })
        })
        .await
    }

    /// Returns the webhooks that wait, the oldest first: at most `limit`, and no more bytes at once than memory
    /// should hold.
    pub(crate) async fn pending_deliveries(
        &self,
        limit: i64,
    ) -> Result<Vec<PendingDelivery>, StoreError> {
        let query = sqlx::query_as(
            "SELECT number, CAST(OCTET_LENGTH(body) AS BIGINT) FROM deliveries WHERE outcome = 'pending' \
             ORDER BY number LIMIT $1",
        );
        let sizes: Vec<(i64, i64)> = query.bind(limit).fetch_all(self.reads()).await?;
        let mut bytes = 0;
        let fitting = sizes.iter().enumerate().take_while(|(place, (_, size))| {
            bytes += size;
            *place == 0 || bytes <= BYTES_TOGETHER
        });
        let Some((_, (last, _))) = fitting.last() else { return Ok(Vec::new()) };
        let query = sqlx::query_as(
            "SELECT id, number, hook, event, content_type, body, body_is_base64, body_sha256 \
             FROM deliveries WHERE outcome = 'pending' AND number <= $1 ORDER BY number",
        );
        Ok(query.bind(last).fetch_all(self.reads()).await?)
    }

    /// Forgets webhooks that came before a time, but for those that still wait for something, at most
    /// `limit`; returns how many.
    pub(crate) async fn forget_deliveries(
        &self,
        before: i64,
        limit: i64,
    ) -> Result<u64, StoreError> {
        self.write(move |db| {
            Box::pin(async move {
                // The event stays, and its change with it; the body is not needed once it is decided.
                sqlx::query(
                    "UPDATE events SET delivery_id = NULL WHERE outcome NOT IN ('pending', 'waiting') \
                     AND delivery_id IN (SELECT id FROM deliveries WHERE received_at < $1 \
                     ORDER BY number LIMIT $2)",
                )
                .bind(before)
                .bind(limit)
                .execute(&mut *db)
                .await?;
                let gone = sqlx::query(
                    "DELETE FROM deliveries WHERE id IN (SELECT d.id FROM deliveries d \
                     WHERE d.received_at < $1 AND d.outcome <> 'pending' AND NOT EXISTS \
                     (SELECT 1 FROM events e WHERE e.delivery_id = d.id) ORDER BY d.number LIMIT $2)",
                )
                .bind(before)
                .bind(limit)
                .execute(db)
                .await?;
                Ok(gone.rows_affected())
            })
        })
        .await
    }

    /// Returns how many webhooks are stored.
    pub(crate) async fn count_deliveries(&self) -> Result<i64, StoreError> {
        let query = sqlx::query_scalar("SELECT COUNT(*) FROM deliveries");
        Ok(query.fetch_one(self.reads()).await?)
    }

    /// Returns a page of webhooks, the newest first.
    pub(crate) async fn newest_deliveries(
        &self,
        page: Page,
        of: &DeliveriesOf,
    ) -> Result<Vec<DeliveryRow>, StoreError> {
        let query = sqlx::query_as(
            "SELECT number, delivery_id, event, received_at, times, outcome, reason_text \
             FROM deliveries WHERE number < $1 AND ($3 = '' OR outcome = $3) AND ($4 = '' OR event = $4) \
             ORDER BY number DESC LIMIT $2",
        );
        let query = query.bind(page.before).bind(page.limit);
        let query = query.bind(of.outcome.as_deref().unwrap_or_default());
        let query = query.bind(of.event.as_deref().unwrap_or_default());
        Ok(query.fetch_all(self.reads()).await?)
    }

    /// Returns all that is known of a webhook.
    pub(crate) async fn delivery(&self, number: i64) -> Result<Option<DeliveryDetail>, StoreError> {
        let query = sqlx::query_as(
            "SELECT d.number, d.delivery_id, d.event, d.received_at, d.times, d.outcome, d.reason_text, d.hook, \
             d.content_type, d.body, d.body_is_base64, e.sha, e.subject \
             FROM deliveries d LEFT JOIN events e ON e.delivery_id = d.id WHERE d.number = $1",
        );
        Ok(query.bind(number).fetch_optional(self.reads()).await?)
    }

    /// Has a webhook judged once more that led to nothing; `false` where there is none of this number.
    ///
    /// # Errors
    ///
    /// [`StoreError::Refused`] when it led to something, or waits already.
    pub(crate) async fn replay(&self, number: i64) -> Result<bool, StoreError> {
        self.write(move |db| {
            Box::pin(async move {
                let again = sqlx::query(
                    "UPDATE deliveries SET outcome = 'pending', reason_code = NULL, reason_text = NULL \
                     WHERE number = $1 AND outcome IN ('ignored', 'dead')",
                );
                if again.bind(number).execute(&mut *db).await?.rows_affected() > 0 {
                    return Ok(true);
                }
                let query = sqlx::query_scalar("SELECT outcome FROM deliveries WHERE number = $1");
                let outcome: Option<String> = query.bind(number).fetch_optional(&mut *db).await?;
                match outcome.as_deref() {
                    None => Ok(false),
                    Some("pending") => {
                        Err(StoreError::Refused(format!("delivery {number} waits for its turn already")))
                    }
                    Some(_) => Err(StoreError::Refused(format!(
                        "delivery {number} was accepted: `muster rerun` runs again what it has started"
                    ))),
                }
            })
        })
        .await
    }

    /// Returns the body of the webhook that told of an event: its text, and its content type.
    pub(crate) async fn delivery_of_event(
        &self,
        event: &str,
    ) -> Result<Option<StoredBody>, StoreError> {
        let query = sqlx::query_as(
            "SELECT d.body, d.body_is_base64, d.content_type FROM deliveries d \
             JOIN events e ON e.delivery_id = d.id WHERE e.id = $1",
        );
        Ok(query.bind(event).fetch_optional(self.reads()).await?)
    }

    /// Returns the number of an earlier webhook of the same event with the very same body.
    pub(crate) async fn earlier_same(
        &self,
        delivery: &PendingDelivery,
    ) -> Result<Option<i64>, StoreError> {
        let earlier: Vec<(i64, String, Option<String>)> = sqlx::query_as(
            "SELECT number, outcome, reason_code FROM deliveries \
             WHERE body_sha256 = $1 AND hook = $2 AND event = $3 AND number < $4 ORDER BY number",
        )
        .bind(delivery.body_sha256.as_str())
        .bind(delivery.hook.as_str())
        .bind(delivery.event.as_str())
        .bind(delivery.number)
        .fetch_all(self.reads())
        .await?;
        let first = earlier
            .into_iter()
            .find(|(_, word, code)| !Outcome::parse(word, code.clone(), None).is_reopened());
        Ok(first.map(|(number, ..)| number))
    }

    /// Stores what became of webhooks and, together with each, the event that it tells of: all of it, or
    /// nothing.
    pub(crate) async fn settle_deliveries(
        &self,
        settled: Vec<(String, DeliveryOutcome)>,
        now: i64,
    ) -> Result<(), StoreError> {
        self.write(move |db| {
            Box::pin(async move {
                let changed = settled.iter().filter_map(|(_, outcome)| match outcome {
                    DeliveryOutcome::Accepted(repository, _) => Some(repository.as_str()),
                    DeliveryOutcome::Ignored(_) | DeliveryOutcome::Dead(_) => None,
                });
                repositories::hold(db, &changed.collect::<Vec<_>>()).await?;
                for (id, outcome) in settled {
                    settle(db, &id, outcome, now).await?;
                }
                Ok(())
            })
        })
        .await
    }
}

/// Counts a webhook that is there already, and looks at it again where that may lead to more.
async fn receive_again(
    db: &mut AnyConnection,
    hook: &str,
    delivery_id: &str,
) -> Result<(), StoreError> {
    // Who counts it holds it: what becomes of it meanwhile would be undone else.
    let (id, word, code): (String, String, Option<String>) = sqlx::query_as(
        "UPDATE deliveries SET times = times + 1 WHERE hook = $1 AND delivery_id = $2 \
         RETURNING id, outcome, reason_code",
    )
    .bind(hook)
    .bind(delivery_id)
    .fetch_one(&mut *db)
    .await?;
    if Outcome::parse(&word, code, None).is_reopened() {
        let query = sqlx::query("UPDATE deliveries SET outcome = 'pending' WHERE id = $1");
        query.bind(id).execute(db).await?;
    }
    Ok(())
}

async fn settle(
    db: &mut AnyConnection,
    id: &str,
    outcome: DeliveryOutcome,
    now: i64,
) -> Result<(), StoreError> {
    // One that has its outcome already is left as it is; one that waits is held until this is done.
    let query =
        sqlx::query("UPDATE deliveries SET times = times WHERE id = $1 AND outcome = 'pending'");
    if query.bind(id).execute(&mut *db).await?.rows_affected() == 0 {
        return Ok(());
    }
    let (word, reason) = match outcome {
        DeliveryOutcome::Accepted(repository, change) => {
            match take(db, &repository, *change, id, now).await? {
                None => ("accepted", None),
                Some(late) => ("ignored", Some(late)),
            }
        }
        DeliveryOutcome::Ignored(reason) => ("ignored", Some(reason)),
        DeliveryOutcome::Dead(reason) => ("dead", Some(reason)),
    };
    let (code, text) = reason.map(|reason| (reason.code, reason.text)).unzip();
    sqlx::query(
        "UPDATE deliveries SET outcome = $2, reason_code = $3, reason_text = $4 WHERE id = $1",
    )
    .bind(id)
    .bind(word)
    .bind(code)
    .bind(text)
    .execute(db)
    .await?;
    Ok(())
}

/// Makes the event of a change; returns the reason where it comes too late to count.
async fn take(
    db: &mut AnyConnection,
    repository: &RepoId,
    change: Change,
    delivery: &str,
    now: i64,
) -> Result<Option<Reason>, StoreError> {
    if let Change::PullRequest(pull) = &change
        && let Some(late) = pull_requests::take_down(db, repository, pull, now).await?
    {
        return Ok(Some(late));
    }
    events::insert(db, repository, &change, Some(delivery), now).await?;
    Ok(None)
}
