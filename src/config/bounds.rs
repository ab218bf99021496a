//! Checks between settings that are valid on their own.

use super::settings::{Api, Limits, Settings, SinkFrame};
use crate::diagnostic::{Node, Problem, Problems, Span, Unreliable};
use crate::units::{ByteSize, Duration};

/// A process with less cannot hold its own buffers.
const MIN_MEMORY: ByteSize = ByteSize::mib(16);
/// A journal with less cannot hold two segments and its cursors.
const MIN_JOURNAL: ByteSize = ByteSize::mib(1);
/// No operator would want to refuse events smaller than this.
const MIN_EVENT: ByteSize = ByteSize(1024);
/// The longest that an event may wait for company.
const MAX_AGE: Duration = Duration::from_secs(3600);

/// Paths are relative to the top level; `root` shows what was written explicitly. The caller drops problems at an
/// unreliable path; no other value is checked against one.
pub fn of_settings(settings: &Settings, unreliable: &Unreliable, root: &Node, problems: &mut Problems) {
    limits(&settings.limits, unreliable, problems);
    let (journal, event) = (&settings.journal, settings.limits.event);
    let least = MIN_JOURNAL.max(ByteSize(event.0.saturating_mul(2)));
    if journal.max_bytes < least && !unreliable.touch("limits.event") {
        complain(
            problems,
            "journal.max_bytes",
            format!("with events of up to {event} the journal needs at least {least}"),
        );
    }
    let is_written = |path: &str| root.find(path, Span::NOWHERE).1 != root.find("journal.keep", Span::NOWHERE).1;
    let is_less = journal.keep.bytes > journal.max_bytes && !unreliable.touch("journal.max_bytes");
    if is_less && is_written("journal.keep.bytes") {
        complain(problems, "journal.keep.bytes", "`keep` is larger than `journal.max_bytes`");
    }
    api(&settings.api, unreliable, problems);
}

fn complain(problems: &mut Problems, path: &str, message: impl Into<String>) {
    problems.push(Problem::error(path, Span::NOWHERE, message));
}

fn limits(limits: &Limits, unreliable: &Unreliable, problems: &mut Problems) {
    let is_measure = limits.memory >= MIN_MEMORY && !unreliable.touch("limits.memory");
    if limits.memory < MIN_MEMORY {
        complain(problems, "limits.memory", format!("the minimum is {MIN_MEMORY}"));
    }
    if limits.event < MIN_EVENT {
        complain(problems, "limits.event", format!("the minimum is {MIN_EVENT}"));
    } else if is_measure && limits.event.0 > limits.memory.0 / 4 {
        let most = ByteSize(limits.memory.0 / 4);
        complain(problems, "limits.event", format!("the maximum is a quarter of `limits.memory`: {most}"));
    }
}

fn api(api: &Api, unreliable: &Unreliable, problems: &mut Problems) {
    let admits_somebody = unreliable.touch("api.auth")
        || api.auth.as_ref().is_some_and(|auth| auth.jwt.is_some() || !auth.basic.is_empty());
    if api.enabled && !api.address.is_local() && !admits_somebody {
        problems.push(
            Problem::error(
                "api.address",
                Span::NOWHERE,
                format!("`{}` can be reached from other machines, so `api.auth` is required", api.address),
            )
            .hint("configure `api.auth.jwt` or `api.auth.basic`, or listen on 127.0.0.1 or a unix: socket"),
        );
    }
    if !api.base_path.is_empty() && (!api.base_path.starts_with('/') || api.base_path.ends_with('/')) {
        complain(problems, "api.base_path", "expected a path that starts with `/` and does not end with it");
    }
    if crate::units::zone(&api.timezone).is_none() {
        let message = format!("unknown time zone `{}`; expected one such as `Europe/Berlin`", api.timezone);
        complain(problems, "api.timezone", message);
    }
    for (index, origin) in api.cors.origins.iter().enumerate() {
        let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        if host.is_none_or(|host| host.is_empty() || host.contains(['/', '*', ' '])) {
            let message = format!("expected an origin such as `https://hub.example.org`, got `{origin}`");
            complain(problems, &format!("api.cors.origins[{index}]"), message);
        }
    }
    let Some(auth) = &api.auth else { return };
    if auth.revoked.is_some() && auth.jwt.is_none() && !unreliable.touch("api.auth.jwt") {
        complain(problems, "api.auth.revoked", "only tokens of `api.auth.jwt` can be revoked");
    }
    if let Some(jwt) = &auth.jwt {
        jwt.check("api.auth.jwt", problems);
    }
    for (name, user) in &auth.basic {
        user.check(name, &format!("api.auth.basic.{name}"), problems);
    }
}

/// Paths are relative to the sink.
pub fn of_frame(frame: &SinkFrame, unreliable: &Unreliable, problems: &mut Problems) {
    let mut least = |holds: bool, path: &str, message: &str| {
        if !holds {
            complain(problems, path, message);
        }
    };
    least(frame.batch.events > 0, "batch.events", "expected at least 1 event");
    least(frame.batch.bytes.0 > 0, "batch.bytes", "expected at least 1 byte");
    least(frame.batch.age <= MAX_AGE, "batch.age", "the maximum is 1h");
    least(!frame.retry.initial.is_zero(), "retry.initial", "expected more than 0");
    let is_measure = !unreliable.touch("retry.initial");
    least(!is_measure || frame.retry.max >= frame.retry.initial, "retry.max", "`max` is shorter than `initial`");
    least(frame.retry.attempts != Some(0), "retry.attempts", "expected at least 1 attempt");
    least(!frame.timeout.is_zero(), "timeout", "expected more than 0");
    least(frame.buffer.max_bytes != Some(ByteSize(0)), "buffer.max_bytes", "expected at least 1 byte");
    least(frame.buffer.max_age.is_none_or(|age| !age.is_zero()), "buffer.max_age", "expected more than 0");
}
