//! Telling people and programs that the verdict on a default branch has changed.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use lettre::message::Mailbox;
use lettre::transport::smtp::authentication::Credentials;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use muster_forge::github::sign;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::json;

use crate::forge::read_secret;
use crate::store::notices::Notice;

/// How long somebody may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// Who is told.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct NoticesConfig {
    /// Where a signed webhook goes.
    pub(crate) webhook: Option<String>,
    /// The file with the secret that it is signed with.
    pub(crate) webhook_secret_file: Option<PathBuf>,
    /// Whom mail goes to.
    pub(crate) mail_to: Vec<String>,
    /// Whom it comes from.
    pub(crate) mail_from: Option<String>,
    /// The mail server: `smtp://host:25`, `smtps://host`, with `?tls=required` for STARTTLS.
    pub(crate) smtp: Option<String>,
    /// The user at the mail server.
    pub(crate) smtp_user: Option<String>,
    /// The file with the user's password.
    pub(crate) smtp_password_file: Option<PathBuf>,
}

impl NoticesConfig {
    /// Returns the files that it names.
    pub(crate) fn files(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        [&mut self.webhook_secret_file, &mut self.smtp_password_file].into_iter().flatten()
    }
}

/// The channels of a server, ready to be used.
#[derive(Debug)]
pub(crate) struct Channels {
    channels: Vec<Channel>,
    public_url: String,
    http: reqwest::Client,
}

/// A way to tell.
#[derive(Debug)]
pub(crate) enum Channel {
    Webhook { url: String, secret: SecretString },
    Mail { to: Vec<Mailbox>, from: Mailbox, server: Box<AsyncSmtpTransport<Tokio1Executor>> },
}

impl Channel {
    /// Returns the name under which it is stored whom was told.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Webhook { .. } => "webhook",
            Self::Mail { .. } => "mail",
        }
    }
}

impl Channels {
    /// Reads the secrets, and judges the addresses.
    pub(crate) fn open(config: &NoticesConfig, public_url: &str) -> anyhow::Result<Self> {
        let mut channels = Vec::new();
        if let Some(url) = &config.webhook {
            reqwest::Url::parse(url).context("[notices] `webhook` is no address")?;
            let file = config.webhook_secret_file.as_ref();
            let file = file.context("[notices] `webhook` needs `webhook_secret_file`")?;
            let secret = read_secret(file)?.trim().to_owned();
            if secret.is_empty() {
                bail!("[notices] {} is empty", file.display());
            }
            channels.push(Channel::Webhook { url: url.clone(), secret: secret.into() });
        }
        if !config.mail_to.is_empty() {
            let mailbox = |address: &String| -> anyhow::Result<Mailbox> {
                address.parse().with_context(|| format!("[notices] `{address}` is no mail address"))
            };
            let from =
                config.mail_from.as_ref().context("[notices] `mail_to` needs `mail_from`")?;
            let url = config.smtp.as_ref().context("[notices] `mail_to` needs `smtp`")?;
            let server = AsyncSmtpTransport::<Tokio1Executor>::from_url(url);
            let server = server.context("[notices] `smtp` is no address of a mail server")?;
            let mut server = server.timeout(Some(PATIENCE));
            if let Some(user) = &config.smtp_user {
                let file = config.smtp_password_file.as_ref();
                let file = file.context("[notices] `smtp_user` needs `smtp_password_file`")?;
                let password = read_secret(file)?.trim().to_owned();
                server = server.credentials(Credentials::new(user.clone(), password));
            }
            channels.push(Channel::Mail {
                to: config.mail_to.iter().map(mailbox).collect::<Result<_, _>>()?,
                from: mailbox(from)?,
                server: Box::new(server.build()),
            });
        }
        let http = reqwest::Client::builder()
            .timeout(PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("cannot make an HTTP client")?;
        Ok(Self { channels, public_url: public_url.to_owned(), http })
    }

    /// Returns all channels.
    pub(crate) fn all(&self) -> &[Channel] {
        &self.channels
    }

    /// Tells of a change on one channel.
    pub(crate) async fn tell(&self, channel: &Channel, notice: &Notice) -> anyhow::Result<()> {
        let link = format!("{}/commits/{}", self.public_url, notice.sha);
        match channel {
            Channel::Webhook { url, secret } => {
                let body = json!({
                    "event": "verdict",
                    "repository": notice.repository,
                    "branch": notice.branch,
                    "sha": notice.sha,
                    "verdict": notice.verdict,
                    "was": notice.was,
                    "description": notice.description,
                    "url": link,
                    "at": notice.at,
                })
                .to_string();
                let request = self
                    .http
                    .post(url)
                    .header("content-type", "application/json")
                    .header("x-muster-event", "verdict")
                    .header("x-muster-delivery", &notice.id)
                    .header(
                        "x-muster-signature-256",
                        sign(secret.expose_secret(), body.as_bytes()),
                    );
                // The address itself may be a secret: chats have their token in its path.
                let answer =
                    request.body(body).send().await.map_err(reqwest::Error::without_url)?;
                if !answer.status().is_success() {
                    bail!("it answered {}", answer.status());
                }
            }
            Channel::Mail { to, from, server } => {
                let short = notice.sha.get(..7).unwrap_or(&notice.sha);
                let Notice { repository, branch, verdict, description, .. } = notice;
                let mut message = Message::builder()
                    .from(from.clone())
                    .subject(format!("{repository} {branch}: {verdict} at {short}"))
                    .message_id(Some(format!("<{}@muster>", notice.id)));
                for mailbox in to {
                    message = message.to(mailbox.clone());
                }
                let was = notice.was.as_deref().unwrap_or("not known");
                let text = format!(
                    "{repository} {branch}: {verdict} (was: {was})\n\n{description}\n{link}\n"
                );
                server.send(message.body(text)?).await?;
            }
        }
        Ok(())
    }
}
