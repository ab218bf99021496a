//! Rotated files: names, compression, and how many are kept.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use tracing::warn;

use super::Compression;
use super::identity::Identity;
use super::notes::Known;
use crate::units::Timestamp;

/// The time in a name, as in `20260131T235959.123456Z`.
const STAMP: &str = "00000000T000000.000000Z";

/// What may follow the name of a file that was put aside.
const PACKED: [&str; 3] = ["", ".gz", ".zst"];

/// `activity.ndjson` put aside is `activity-20260131T235959.123456Z.ndjson`.
pub fn name(name: &str, now: Timestamp) -> String {
    let (stem, extension) = split(name);
    let time = now.to_string();
    let digits: String = time.chars().filter(|c| c.is_ascii_digit()).collect();
    let micros = format!("{:0<6}", &digits[14..]);
    format!("{stem}-{}T{}.{micros}Z{extension}", &digits[..8], &digits[8..14])
}

/// Stem, and extension with its dot.
fn split(name: &str) -> (&str, &str) {
    let dot = name.rfind('.').filter(|dot| *dot > 0).unwrap_or(name.len());
    name.split_at(dot)
}

/// Gives a file its new name, unless that was done before a crash.
pub fn rename(folder: impl AsFd, from: &str, to: &str, known: &Known) -> io::Result<()> {
    let is_there = |suffix: &&str| Identity::at(&folder, &format!("{to}{suffix}")).is_ok();
    if PACKED.iter().any(is_there) {
        return Ok(());
    }
    match Identity::at(&folder, from) {
        Ok(here) if known.identity.is_same(&here) => {}
        Ok(_) | Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    match rustix::fs::renameat_with(&folder, from, &folder, to, RenameFlags::NOREPLACE) {
        // File systems without this flag: the name has microseconds in it.
        Err(Errno::INVAL | Errno::NOSYS) => rustix::fs::renameat(&folder, from, &folder, to)?,
        renamed => renamed?,
    }
    Ok(rustix::fs::fsync(&folder)?)
}

/// Compresses and removes in the background, one thread at a time.
#[derive(Debug, Default)]
pub struct Archiver {
    busy: Mutex<()>,
}

impl Archiver {
    /// Compresses what was put aside of a file and removes what is too much. If that is going on already, the next
    /// rotation sees to it.
    pub fn tidy(self: &Arc<Archiver>, folder: OwnedFd, name: String, keep: Option<u32>, compression: Compression) {
        if keep.is_none() && compression == Compression::None {
            return;
        }
        let archiver = self.clone();
        let work = move || {
            let Ok(_busy) = archiver.busy.try_lock() else { return };
            if let Err(error) = tidy(&folder, &name, keep, compression) {
                warn!(file = name, %error, "cannot compress or remove rotated files");
            }
        };
        if let Err(error) = std::thread::Builder::new().name("weir-file-tidy".into()).spawn(work) {
            warn!(%error, "cannot compress or remove rotated files");
        }
    }
}

pub fn tidy(folder: &OwnedFd, name: &str, keep: Option<u32>, compression: Compression) -> io::Result<()> {
    let mut aside = aside(folder, name)?;
    if let Some(keep) = keep {
        let too_many = aside.len().saturating_sub(keep as usize);
        for old in aside.drain(..too_many) {
            rustix::fs::unlinkat(folder, old, AtFlags::empty())?;
        }
    }
    let (_, extension) = split(name);
    for plain in aside.iter().filter(|other| other.ends_with(extension) && is_plain(other, name)) {
        match compression {
            Compression::None => {}
            Compression::Gzip => compress(folder, plain, ".gz", |from, to| {
                let mut encoder = flate2::write::GzEncoder::new(to, flate2::Compression::default());
                io::copy(from, &mut encoder)?;
                encoder.finish().map(drop)
            })?,
            Compression::Zstd => compress(folder, plain, ".zst", |from, to| zstd::stream::copy_encode(from, to, 3))?,
        }
    }
    Ok(rustix::fs::fsync(folder)?)
}

fn is_plain(aside: &str, name: &str) -> bool {
    let (stem, extension) = split(name);
    aside.len() == stem.len() + 1 + STAMP.len() + extension.len()
}

/// Names of files that were put aside, oldest first.
fn aside(folder: &OwnedFd, name: &str) -> io::Result<Vec<String>> {
    let (stem, extension) = split(name);
    let mut found = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let Ok(other) = entry.file_name().to_str() else { continue };
        let time = other.strip_prefix(stem).and_then(|rest| rest.strip_prefix('-'));
        let Some((time, rest)) = time.and_then(|time| time.split_at_checked(STAMP.len())) else { continue };
        let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        let suffix = rest.strip_prefix(extension);
        if shape == STAMP && suffix.is_some_and(|suffix| PACKED.contains(&suffix)) {
            found.push(other.to_owned());
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Writes the compressed file under a name of its own, and puts it in the place of the plain one when it is safe.
fn compress(
    folder: &OwnedFd,
    plain: &str,
    suffix: &str,
    work: impl FnOnce(&mut File, &File) -> io::Result<()>,
) -> io::Result<()> {
    let (temporary, to) = (format!(".{plain}.tmp"), format!("{plain}{suffix}"));
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut from = File::from(rustix::fs::openat(folder, plain, flags | OFlags::RDONLY, Mode::empty())?);
    let make = flags | OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
    let mut out = File::from(rustix::fs::openat(folder, &*temporary, make, Mode::from_raw_mode(0o640))?);
    work(&mut from, &out)?;
    out.flush()?;
    out.sync_all()?;
    match rustix::fs::renameat_with(folder, &*temporary, folder, &*to, RenameFlags::NOREPLACE) {
        // An archive of this name is there already. If it is this file's, a crash came before the plain one was removed.
        Err(Errno::EXIST) if is_archive_of(folder, &to, plain)? => {
            rustix::fs::unlinkat(folder, &*temporary, AtFlags::empty())?;
        }
        Err(Errno::EXIST) => {
            rustix::fs::unlinkat(folder, &*temporary, AtFlags::empty())?;
            return Err(io::Error::other(format!("`{to}` exists already, and is the archive of another file")));
        }
        // File systems without this flag.
        Err(Errno::INVAL | Errno::NOSYS) if Identity::at(folder, &to).is_err() => {
            rustix::fs::renameat(folder, &*temporary, folder, &*to)?;
        }
        renamed => renamed?,
    }
    rustix::fs::fsync(folder)?;
    Ok(rustix::fs::unlinkat(folder, plain, AtFlags::empty())?)
}

/// Whether an archive holds what a plain file holds.
fn is_archive_of(folder: &OwnedFd, archive: &str, plain: &str) -> io::Result<bool> {
    let open = |name: &str| {
        let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
        rustix::fs::openat(folder, name, flags, Mode::empty()).map(File::from)
    };
    let (packed, mut plain) = (open(archive)?, io::BufReader::new(open(plain)?));
    let mut unpacked: Box<dyn Read> = match archive.ends_with(".gz") {
        true => Box::new(flate2::read::MultiGzDecoder::new(packed)),
        false => Box::new(zstd::stream::read::Decoder::new(packed)?),
    };
    let mut block = vec![0; 64 << 10];
    let mut expected = vec![0; 64 << 10];
    loop {
        // An archive that cannot be read is not this file's.
        let Ok(len) = unpacked.read(&mut block) else { return Ok(false) };
        if len == 0 {
            return Ok(plain.read(&mut expected[..1])? == 0);
        }
        match plain.read_exact(&mut expected[..len]) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            read => read?,
        }
        if block[..len] != expected[..len] {
            return Ok(false);
        }
    }
}
