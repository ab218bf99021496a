//! Alerts by e-mail: one message to all recipients over SMTP, with TLS unless it is switched off.

use std::time::Duration;

use lettre::address::Envelope;
use lettre::message::header::ContentType;
use lettre::message::{Mailbox, MessageBuilder};
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{
    AsyncSmtpConnection, Certificate, CertificateStore, Identity, Tls, TlsParameters,
};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::{AsyncSmtpTransport, Error, commands};
use lettre::{AsyncTransport, Tokio1Executor};
use schemars::JsonSchema;
use serde::Deserialize;

use super::message::Message;
use crate::component::{Check, Failure, SinkContext};
use crate::net::address::Address;
use crate::net::tls::Trust;
use crate::secret::{Secret, SecretMask};
use crate::toolkit::reply;

/// The most who get a message.
const MAX_RECIPIENTS: usize = 50;

/// A mail server, and who writes to whom. All of it is fixed: nothing of an event becomes an address.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Mail server, `host:port`: usually port 587 with `starttls`, 465 with `tls`.
    pub server: Address,
    /// Encryption of the connection.
    #[serde(default)]
    pub security: Security,
    /// Sender, such as `Weir <weir@example.org>`.
    pub from: String,
    /// Recipients.
    pub to: Vec<String>,
    /// User name to log in with.
    #[serde(default)]
    pub username: Option<String>,
    /// Password to log in with.
    #[serde(default)]
    pub password: Option<Secret<String>>,
    /// Prefix of the subject.
    #[serde(default)]
    pub subject: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Security {
    /// The connection is encrypted before anything else is said.
    #[default]
    Starttls,
    /// It is encrypted from the beginning.
    Tls,
    /// Never; only without a password, or on this machine.
    None,
}

/// Checks what can be checked without a server.
pub fn check(config: &Config, check: &mut Check) {
    if !matches!(config.server, Address::Tcp { .. }) {
        check.problem("email.server", "expected `host:port`");
    }
    if config.from.parse::<Mailbox>().is_err() {
        check.problem("email.from", format!("`{}` is not an e-mail address", config.from));
    }
    if config.to.is_empty() || config.to.len() > MAX_RECIPIENTS {
        check.problem("email.to", format!("expected 1 to {MAX_RECIPIENTS} e-mail addresses"));
    }
    for (nth, to) in config.to.iter().enumerate().filter(|(_, to)| to.parse::<Mailbox>().is_err()) {
        check.problem(format!("email.to[{nth}]"), format!("`{to}` is not an e-mail address"));
    }
    if config.username.is_some() != config.password.is_some() {
        check.problem("email", "set both `username` and `password`");
    }
    if config.security == Security::None && config.password.is_some() && !config.server.is_local() {
        check.problem("email.security", "the password would be sent unencrypted: use `starttls` or `tls`");
    }
}

pub struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    host: String,
    port: u16,
    tls: Tls,
    credentials: Option<Credentials>,
    timeout: Duration,
    from: Mailbox,
    to: Vec<Mailbox>,
    subject: String,
}

impl Mailer {
    pub fn new(config: &Config, cx: &SinkContext, mask: &mut SecretMask) -> Result<Mailer, Failure> {
        let Address::Tcp { host, port } = &config.server else {
            return Err(Failure::configuration("expected `host:port`"));
        };
        let mailbox = |text: &String| {
            text.parse::<Mailbox>()
                .map_err(|error| Failure::configuration(format!("`{text}` is not an e-mail address: {error}")))
        };
        let tls = match config.security {
            Security::None => Tls::None,
            Security::Starttls => Tls::Required(parameters(host, &cx.tls)?),
            Security::Tls => Tls::Wrapper(parameters(host, &cx.tls)?),
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host.as_str())
            .port(*port)
            .tls(tls.clone())
            .timeout(Some(cx.timeout));
        let mut credentials = None;
        if let (Some(name), Some(password)) = (&config.username, &config.password) {
            mask.cover(password.expose());
            credentials = Some(Credentials::new(name.clone(), password.expose().clone()));
        }
        if let Some(credentials) = &credentials {
            builder = builder.credentials(credentials.clone());
        }
        Ok(Mailer {
            transport: builder.build(),
            host: host.clone(),
            port: *port,
            tls,
            credentials,
            timeout: cx.timeout,
            from: mailbox(&config.from)?,
            to: config.to.iter().map(mailbox).collect::<Result<_, _>>()?,
            subject: config.subject.clone(),
        })
    }

    /// Connects and logs in, and sends nothing.
    pub async fn knock(&self) -> Result<(), Failure> {
        match self.transport.test_connection().await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Failure::configuration("the server does not speak SMTP")),
            Err(error) => Err(classify(&error)),
        }
    }

    /// Sends one message to all; gives its bytes.
    pub async fn send(&self, message: &Message, suppressed: u64) -> Result<u64, Failure> {
        let mail = self.mail(message, suppressed)?;
        let mail_bytes = mail.formatted();
        let bytes = mail_bytes.len() as u64;
        match self.transport.send(mail).await {
            Ok(_) => Ok(bytes),
            Err(error) => match classify(&error) {
                Failure::Ambiguous { answer } => self.send_to_known(&mail_bytes, answer).await.map(|()| bytes),
                failure => Err(failure),
            },
        }
    }

    /// One recipient whom the server refuses keeps the others from nothing. What is refused although the server knows the
    /// sender and a recipient is the mail itself, or every mail: other messages show which.
    async fn send_to_known(&self, mail: &[u8], said: String) -> Result<(), Failure> {
        let (known, refused) = self.recipients().await?;
        if known.is_empty() {
            return Err(Failure::configuration(refused.join("; ")));
        }
        if refused.is_empty() {
            return Err(Failure::ambiguous(said));
        }
        let envelope = Envelope::new(Some(self.from.email.clone()), known)
            .map_err(|error| Failure::poison(format!("cannot address the message: {error}")))?;
        self.transport.send_raw(&envelope, mail).await.map_err(|error| classify(&error))?;
        tracing::warn!(refused = refused.join("; "), "a message was sent to some of its recipients only");
        Ok(())
    }

    /// Asks the server about each recipient, and sends nothing: whom it would take a mail for, and what it says of the others.
    async fn recipients(&self) -> Result<(Vec<lettre::Address>, Vec<String>), Failure> {
        // Whatever is refused before a recipient is named is refused for every mail.
        let for_all = |error: Error| match classify(&error) {
            Failure::Ambiguous { answer } => Failure::Configuration { answer },
            failure => failure,
        };
        let mut connection = self.connect().await.map_err(for_all)?;
        let sender = self.from.email.clone();
        connection.command(commands::Mail::new(Some(sender), Vec::new())).await.map_err(for_all)?;
        let (mut known, mut refused) = (Vec::new(), Vec::new());
        for to in &self.to {
            match connection.command(commands::Rcpt::new(to.email.clone(), Vec::new())).await {
                Ok(_) => known.push(to.email.clone()),
                Err(error) => match classify(&error) {
                    transient @ Failure::Transient { .. } => return Err(transient),
                    failure => refused.push(format!("{}: {}", to.email, failure.answer())),
                },
            }
        }
        connection.abort().await;
        Ok((known, refused))
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, Error> {
        let (name, server) = (ClientId::default(), (self.host.as_str(), self.port));
        let wrapper = match &self.tls {
            Tls::Wrapper(parameters) => Some(parameters.clone()),
            _ => None,
        };
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(server, Some(self.timeout), &name, wrapper, None).await?;
        if let Tls::Required(parameters) = &self.tls {
            connection.starttls(parameters.clone(), &name).await?;
        }
        if let Some(credentials) = &self.credentials {
            connection.auth(DEFAULT_MECHANISMS, credentials).await?;
        }
        Ok(connection)
    }

    pub fn mail(&self, message: &Message, suppressed: u64) -> Result<lettre::Message, Failure> {
        let subject = format!("{} {}", self.subject, message.headline());
        let headed = |builder: MessageBuilder| self.to.iter().fold(builder, |builder, to| builder.to(to.clone()));
        headed(lettre::Message::builder().from(self.from.clone()))
            .subject(subject.trim())
            .header(ContentType::TEXT_PLAIN)
            .body(message.text(suppressed))
            .map_err(|error| Failure::poison(format!("cannot build the message: {error}")))
    }
}

/// What an SMTP answer means: 4xx and a lost connection pass, a login that is refused needs somebody to act, and of any
/// other refusal it is not known whether it is about this mail.
fn classify(error: &Error) -> Failure {
    let said = reply::shown(&with_causes(error));
    match error.status().map(|code| code.to_string()) {
        Some(code) if code.starts_with('4') => Failure::transient(said),
        // Commands, logins and relaying: the same for every mail.
        Some(code)
            if matches!(code.as_str(), "500" | "501" | "502" | "503" | "504" | "530" | "534" | "535" | "538") =>
        {
            Failure::configuration(said)
        }
        Some(_) => enhanced(&said),
        None if error.is_tls() || error.is_client() => Failure::configuration(said),
        None => Failure::transient(said),
    }
}

/// What a refusal means by its enhanced status code (RFC 3463), if it has one: `550 5.7.1 refused`.
fn enhanced(said: &str) -> Failure {
    let mut codes = said.split(|c: char| !c.is_ascii_digit() && c != '.').filter_map(|word| {
        let (subject, detail) = word.strip_prefix("5.")?.split_once('.')?;
        Some((subject.parse::<u16>().ok()?, detail.parse::<u16>().ok()?))
    });
    match codes.next() {
        // This mail is too long, or its content cannot be taken.
        Some((2 | 3, 3) | (3, 4) | (6, _)) => Failure::poison(said),
        // The mail system, the network, the protocol.
        Some((3..=5, _)) => Failure::configuration(said),
        _ => Failure::ambiguous(said),
    }
}

fn with_causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        let more = next.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = next.source();
    }
    text
}

/// What the frame's `tls` says, for the mail library.
fn parameters(host: &str, trust: &Trust) -> Result<TlsParameters, Failure> {
    let read = |path: &std::path::Path| {
        std::fs::read(path)
            .map_err(|error| Failure::configuration(format!("cannot read `{}`: {error}", path.display())))
    };
    let unusable = |error: Error| Failure::configuration(format!("cannot set up TLS: {}", with_causes(&error)));
    let name = trust.server_name.clone().unwrap_or_else(|| host.to_owned());
    let mut builder = TlsParameters::builder(name).certificate_store(CertificateStore::None);
    if trust.verify {
        let path = trust.authorities().map_err(Failure::configuration)?;
        for certificate in certificates(&read(path)?) {
            builder = builder.add_root_certificate(Certificate::from_der(certificate).map_err(unusable)?);
        }
    } else {
        builder = builder.dangerous_accept_invalid_certs(true);
    }
    if let (Some(cert), Some(key)) = (&trust.cert, &trust.key) {
        builder = builder.identify_with(Identity::from_pem(&read(cert)?, &read(key)?).map_err(unusable)?);
    }
    builder.build_rustls().map_err(unusable)
}

fn certificates(pem: &[u8]) -> Vec<Vec<u8>> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    CertificateDer::pem_slice_iter(pem).flatten().map(|certificate| certificate.to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enhanced_codes_tell_a_mail_from_its_server() {
        let class = |said: &str| match enhanced(said) {
            Failure::Poison { .. } => "mail",
            Failure::Configuration { .. } => "server",
            Failure::Ambiguous { .. } => "either",
            _ => "else",
        };
        for (said, expected) in [
            ("permanent error (552): 5.3.4 Message too big for system", "mail"),
            ("permanent error (552): 5.2.3 too long", "mail"),
            ("permanent error (554): 5.6.0 no 8 bit", "mail"),
            ("permanent error (550): 5.3.2 not accepting network messages", "server"),
            ("permanent error (554): 5.4.6 routing loop", "server"),
            ("permanent error (550): 5.7.1 refused by policy", "either"),
            ("permanent error (552): 5.2.2 mailbox full", "either"),
            ("permanent error (554): seen at 10.5.6.1, version 15.6.0", "either"),
            ("permanent error (554): we do not like this", "either"),
        ] {
            assert_eq!(class(said), expected, "{said}");
        }
    }
}
