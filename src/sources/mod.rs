//! The catalogue of sources: one file each.

mod demo;
mod file;
mod http;
mod kafka;
mod socket;
mod stdin;

use crate::codec::Codec;
use crate::codec::framing::Framing;
use crate::component::{Check, SourceEntry};

/// Every type of source, by its word in the configuration.
pub const CATALOGUE: &[SourceEntry] = &[
    SourceEntry::of::<demo::Demo>(),
    SourceEntry::of::<file::File>(),
    SourceEntry::of::<http::Http>(),
    SourceEntry::of::<kafka::Kafka>(),
    SourceEntry::of::<socket::Socket>(),
    SourceEntry::of::<stdin::Stdin>(),
];

/// Whether a format can be cut into chunks at its frames; otherwise says what to do.
fn check_codec(codec: &Codec, framing: Framing, check: &mut Check) -> Option<()> {
    match codec {
        Codec::Syslog(syslog) => syslog.check().map_err(|wrong| check.problem("codec.syslog.timezone", wrong)).ok(),
        Codec::Msgpack if matches!(framing, Framing::Newline | Framing::Auto) => {
            check.problem_with_hint("codec", "msgpack is not line-based", "another `framing`, such as `length`");
            None
        }
        Codec::Csv(csv) if csv.columns.is_empty() => {
            check.problem_with_hint("codec", "csv lines need `columns`", "such as `csv: {columns: [time, user]}`");
            None
        }
        _ => Some(()),
    }
}
