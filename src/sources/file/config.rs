//! Configuration of the file source.

use std::path::PathBuf;
use std::sync::Arc;

use encoding_rs::Encoding;
use regex::bytes::Regex;
use rustix::process::{Resource, getrlimit};
use schemars::JsonSchema;
use serde::Deserialize;

use super::buffers::Buffers;
use super::container::{Containers, Message, Runtime};
use super::discover::Patterns;
use super::folders::Folders;
use super::reader::ChunkReader;
use super::shape::{Grouping, Shape};
use super::tail::Settings;
use crate::codec::Codec;
use crate::codec::framing::Framing;
use crate::component::Check;
use crate::event::Capture;
use crate::units::{ByteSize, Duration, OneOrMany, one_or_many};

/// Default number of files kept open, and the most as a share of the process's descriptors.
const MOST_OPEN: usize = 512;
const OPEN_SHARE: usize = 2;

/// The shortest line limit that makes sense.
const LEAST_LINE: u64 = 64;

/// Tails files through rotation by rename, by copy and truncate, and by compression. A file is identified by device,
/// inode, birth time and content, not by its name. Its read position is committed to the journal together with its
/// events, so that a restart neither loses nor repeats a line. A file that is created and rotated between two polls, or
/// while the agent is stopped, is found under its new name in the same folder. If it is removed or moved elsewhere
/// before that, its lines are lost: keep a rotated file for longer than `poll`, and do not rotate a busy file by
/// copying. Files are discovered and opened even while memory or the journal is full. Bytes that were removed before
/// they could be read are counted in `weir_bytes_lost_total`, truncations in `weir_file_truncations_total`. The format
/// is detected from the first bytes, not only from the name: gzip and zstd are decompressed; other compression formats,
/// binary files, and a `.gz` file that is not gzip are skipped, logged once and counted in
/// `weir_files_skipped_total{reason}`. Temporary files (`.tmp`, `.swp`, `.part`, `~`) are skipped unless `include` ends
/// the same way. Of a damaged compressed file the lines before the damage are read once; path and offset are logged,
/// and it is counted in `weir_errors_total{class="damaged"}`. If its lines were read before it was compressed, they are
/// not read again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Paths to read, such as `/var/log/app/*.log`. Patterns: `*`, `?`, `[…]`, `{a,b}`, and `**` for any depth of
    /// folders. Rotated files beside them (`app.log.1`, `app.log-20260101.gz`) are found automatically.
    #[serde(deserialize_with = "one_or_many")]
    #[schemars(with = "OneOrMany")]
    pub include: Vec<String>,
    /// Paths to skip although they match `include`.
    #[serde(default, deserialize_with = "one_or_many")]
    #[schemars(with = "OneOrMany")]
    pub exclude: Vec<String>,
    /// Where to start in files that exist when the source is new. Files that appear later are read from the beginning.
    #[serde(default)]
    pub read_from: ReadFrom,
    /// Joins several lines into one event.
    #[serde(default)]
    pub multiline: Option<Multiline>,
    /// Maximum length of a line. A longer line is cut there and ends with a note, so that JSON fails to parse and goes to the
    /// dead letters; the next line is read normally.
    #[serde(default = "default_max_line")]
    pub max_line: ByteSize,
    /// Format of a line.
    #[serde(default)]
    pub codec: Codec,
    /// Character encoding by its WHATWG label, such as `utf-16`, `latin1` or `windows-1256`. Default: UTF-8. A byte
    /// order mark at the start of a UTF-16 file is respected.
    #[serde(default)]
    pub encoding: Option<String>,
    /// Sets `user_id` on every event to the owner of the file, whatever the event says. As with `remove`, the folder
    /// must not be a symbolic link, and files with several hard links are not read.
    #[serde(default)]
    pub owner: Option<Owner>,
    /// Sets `capture` on every event: `kernel` for the spool folder of kernels, `server` for that of the Jupyter
    /// server. A value in the event itself moves to `metadata`.
    #[serde(default)]
    pub capture: Option<Capture>,
    /// Bytes per second that are read from the files of one owner, if `owner` or `remove` is set. What exceeds it waits
    /// in the files; other owners are not delayed.
    #[serde(default = "default_max_owner_bytes")]
    pub max_owner_bytes: ByteSize,
    /// Removes a file once all of it is durable and no process holds a lock on it. Folders are opened once and held, so
    /// that replacing one with a link cannot remove files elsewhere.
    #[serde(default)]
    pub remove: Option<Remove>,
    /// How often files are checked for new lines.
    #[serde(default = "default_poll")]
    pub poll: Duration,
    /// How long the last line may lack its line break before it is read as it is. An incomplete JSON value is read only
    /// after its file was rotated or removed.
    #[serde(default = "default_partial_timeout")]
    pub partial_timeout: Duration,
    /// Whether symbolic links are followed, within the folders of `include`.
    #[serde(default)]
    pub follow_symlinks: bool,
    /// Further folders that symbolic links may point into, such as `/var/log/pods` for the links in
    /// `/var/log/containers`. Rotated files beside the targets are found too.
    #[serde(default, deserialize_with = "one_or_many")]
    #[schemars(with = "OneOrMany")]
    pub symlinks_into: Vec<String>,
    /// Maximum number of open files; others are opened when they grow. Default: 512, or half of the process's limit if
    /// that is less.
    #[serde(default)]
    pub max_open_files: Option<usize>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReadFrom {
    #[default]
    Beginning,
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Owner {
    /// The owner's name becomes `user_id`.
    UserId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Remove {
    WhenDone,
}

/// Which lines belong together: say one of the three.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Multiline {
    /// An event starts with a line that matches this pattern.
    #[serde(default)]
    pub start: Option<String>,
    /// A line that matches this pattern continues the previous event, such as `^\s`.
    #[serde(default)]
    pub continues: Option<String>,
    /// Reads the log format of a container runtime and joins long lines that it split at 16 KiB. With `codec: json`, a
    /// line that is a JSON object becomes the event, with the runtime's `time` and `stream` unless it has its own; any
    /// other line, and every line with `codec: text`, becomes `{time, stream, message}`. Other codecs parse the
    /// program's output.
    #[serde(default)]
    pub preset: Option<Preset>,
}

/// How a container runtime keeps lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// Docker's `json-file`.
    Docker,
    /// containerd, CRI-O and other runtimes of Kubernetes.
    Cri,
    /// Either, decided line by line.
    Container,
}

fn default_max_line() -> ByteSize {
    ByteSize::mib(1)
}

fn default_max_owner_bytes() -> ByteSize {
    ByteSize::mib(16)
}

fn default_poll() -> Duration {
    Duration::from_millis(250)
}

fn default_partial_timeout() -> Duration {
    Duration::from_secs(5)
}

impl Config {
    pub fn settings(self, check: &mut Check) -> Option<Settings> {
        if self.include.is_empty() {
            check.problem_with_hint("include", "expected at least one path", "such as `[/var/log/app/*.log]`");
        }
        let is_spool = self.remove.is_some() || self.owner.is_some();
        let follows = self.follow_symlinks || !self.symlinks_into.is_empty();
        if is_spool && follows {
            let hint = "not allowed with `remove` or `owner`: the owner of a folder there could have any file read as theirs, or removed";
            let key = if self.follow_symlinks { "follow_symlinks" } else { "symlinks_into" };
            check.problem_with_hint(key, "excludes `remove` and `owner`", hint);
        }
        let folders = if is_spool { Folders::held() } else { Folders::ByPath };
        let links = follows.then(|| self.symlinks_into.iter().map(PathBuf::from).collect());
        let patterns = Patterns::new(&self.include, &self.exclude, links, folders);
        let patterns = patterns.map_err(|(key, nth, error)| check.problem(format!("{key}[{nth}]"), error)).ok();
        let encoding = self.encoding.as_deref().and_then(|label| read_encoding(label, check));
        let grouping = self.multiline.as_ref().and_then(|multiline| multiline.grouping(&self.codec, check));
        let is_container = matches!(grouping, Some(Grouping::Containers(_)));
        if is_container && encoding.is_some() {
            check.problem("encoding", "container runtimes write UTF-8");
        }
        // What the preset makes of lines is JSON.
        let codec = if is_container && self.codec == Codec::Text { Codec::Json } else { self.codec.clone() };
        crate::sources::check_codec(&self.codec, Framing::Newline, check);
        if self.max_line.0 < LEAST_LINE {
            check.problem("max_line", format!("lines need at least {LEAST_LINE} bytes"));
        }
        if self.poll.is_zero() {
            check.problem("poll", "the minimum is 1ms");
        }
        if self.max_open_files == Some(0) {
            check.problem("max_open_files", "expected at least 1");
        }
        if self.max_owner_bytes.0 == 0 {
            check.problem("max_owner_bytes", "expected at least 1 byte");
        }
        if check.problems.has_errors() {
            return None;
        }
        Some(Settings {
            patterns: patterns?,
            reader: ChunkReader {
                shape: Shape { encoding, grouping, line_bytes: self.max_line.0.min(u32::MAX as u64 / 2) as usize },
                buffers: Buffers::default(),
            },
            is_json: self.codec == Codec::Json && !is_container,
            decoder: Arc::from(codec.decoder()),
            from_end: self.read_from == ReadFrom::End,
            removes: self.remove.is_some(),
            stamps_owner: self.owner.is_some(),
            capture: self.capture,
            owner_rate: is_spool.then_some(self.max_owner_bytes.0),
            poll: *self.poll,
            patience: *self.partial_timeout,
            most_open: self.max_open_files.unwrap_or_else(default_most_open),
        })
    }
}

impl Multiline {
    fn grouping(&self, codec: &Codec, check: &mut Check) -> Option<Grouping> {
        let mut compile = |key: &str, pattern: &str| {
            Regex::new(pattern).map_err(|error| check.problem(format!("multiline.{key}"), error.to_string())).ok()
        };
        match (&self.start, &self.continues, self.preset) {
            (Some(start), None, None) => compile("start", start).map(Grouping::Start),
            (None, Some(continues), None) => compile("continues", continues).map(Grouping::Continues),
            (None, None, Some(preset)) => Some(Grouping::Containers(preset.containers(codec))),
            _ => {
                check.problem_with_hint(
                    "multiline",
                    "set one of `start`, `continues` and `preset`",
                    "such as `continues: '^\\s'`, or `preset: container` for the logs of containers",
                );
                None
            }
        }
    }
}

impl Preset {
    fn containers(self, codec: &Codec) -> Containers {
        Containers {
            runtime: match self {
                Preset::Docker => Runtime::Docker,
                Preset::Cri => Runtime::Cri,
                Preset::Container => Runtime::Any,
            },
            message: match codec {
                Codec::Json => Message::Json,
                Codec::Text => Message::Text,
                _ => Message::Bare,
            },
        }
    }
}

/// UTF-8 needs no conversion: the codec takes what is not valid.
fn read_encoding(label: &str, check: &mut Check) -> Option<&'static Encoding> {
    let encoding = Encoding::for_label(label.as_bytes());
    if encoding.is_none() {
        let hint = "such as `utf-8`, `utf-16le`, `latin1` or `windows-1256`";
        check.problem_with_hint("encoding", format!("unknown encoding `{label}`"), hint);
    }
    encoding.filter(|encoding| *encoding != encoding_rs::UTF_8)
}

fn default_most_open() -> usize {
    let allowed = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |most| most as usize);
    MOST_OPEN.min(allowed / OPEN_SHARE).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(yaml: serde_json::Value) -> Vec<String> {
        let mut check = Check::new("logs", "/tmp", true);
        let config: Config = serde_json::from_value(yaml).unwrap();
        let settings = config.settings(&mut check);
        let found: Vec<String> = check.problems.iter().map(|p| format!("{}: {}", p.path, p.message)).collect();
        assert_eq!(settings.is_none(), !found.is_empty());
        found
    }

    #[test]
    fn every_problem_is_told_at_its_place() {
        assert!(problems(serde_json::json!({"include": ["/var/log/*.log"], "encoding": "utf-16le"})).is_empty());
        let found = problems(serde_json::json!({
            "include": ["/a", "/b/["], "encoding": "utf-9", "codec": "csv",
            "multiline": {"start": "("}, "max_line": "1 B", "max_open_files": 0,
        }));
        let places: Vec<&str> = found.iter().map(|p| p.split(':').next().unwrap()).collect();
        let expected = ["include[1]", "encoding", "multiline.start", "codec", "max_line", "max_open_files"];
        assert_eq!(places, expected, "{found:?}");
    }
}
