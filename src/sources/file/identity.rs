//! File identity: device, inode, birth time, and fingerprints of its growing content.
//!
//! A file system hands the inode of a deleted file to the next one at once, so the inode alone proves nothing; two
//! files may begin with the same lines, so the content alone proves nothing either.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Statx, StatxFlags};

/// Bytes at the head of a file that its print covers, as far as they are there.
pub const HEAD_BYTES: usize = 1024;

/// Bytes before an offset that the print of that place covers.
pub const PLACE_BYTES: u64 = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// Nanoseconds since 1970; 0 where the file system does not tell. First, so that order is order of birth.
    pub birth: i64,
    pub device: u64,
    pub inode: u64,
}

impl Identity {
    pub const LEN: usize = 24;

    pub fn to_bytes(self) -> [u8; Identity::LEN] {
        let mut bytes = [0; Identity::LEN];
        bytes[..8].copy_from_slice(&self.device.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.inode.to_le_bytes());
        bytes[16..].copy_from_slice(&self.birth.to_le_bytes());
        bytes
    }

    pub fn from_bytes(bytes: &[u8; Identity::LEN]) -> Identity {
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes are eight"));
        Identity { device: number(0), inode: number(8), birth: number(16) as i64 }
    }
}

/// By file. Each visit of a file looks for it a few times, which with the usual hash costs as much as a system call.
pub type ByIdentity<T> = HashMap<Identity, T, BuildHasherDefault<IdentityHasher>>;
pub type Identities = HashSet<Identity, BuildHasherDefault<IdentityHasher>>;

/// Mixes the numbers of an identity. Nobody but the file system chooses them, so that no secret is needed.
#[derive(Default)]
pub struct IdentityHasher(u64);

impl Hasher for IdentityHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        let product = u128::from(self.0.wrapping_add(0xD1B5_4A32_D192_ED03) ^ number) * 0x9E37_79B9_7F4A_7C15;
        self.0 = (product as u64) ^ (product >> 64) as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// What the file system says about a name or an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    pub identity: Identity,
    pub size: u64,
    /// Nanoseconds since 1970.
    pub modified: i64,
    pub owner: u32,
    pub links: u32,
    pub kind: FileType,
}

impl Stat {
    pub fn is_regular(&self) -> bool {
        self.kind == FileType::RegularFile
    }

    /// Of a name in an open folder. Symbolic links are followed only if asked for.
    pub fn at(folder: impl AsFd, name: &Path, follow: bool) -> std::io::Result<Stat> {
        let flags = if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
        Ok(Stat::from(rustix::fs::statx(folder, name, flags, StatxFlags::BASIC_STATS | StatxFlags::BTIME)?))
    }

    pub fn of(file: impl AsFd) -> std::io::Result<Stat> {
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        Ok(Stat::from(rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, wanted)?))
    }
}

impl From<Statx> for Stat {
    fn from(stat: Statx) -> Stat {
        let nanos = |time: rustix::fs::StatxTimestamp| {
            time.tv_sec.saturating_mul(1_000_000_000).saturating_add(i64::from(time.tv_nsec))
        };
        let knows_birth = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
        Stat {
            identity: Identity {
                birth: if knows_birth { nanos(stat.stx_btime) } else { 0 },
                device: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
                inode: stat.stx_ino,
            },
            size: stat.stx_size,
            modified: nanos(stat.stx_mtime),
            owner: stat.stx_uid,
            links: stat.stx_nlink,
            kind: FileType::from_raw_mode(u32::from(stat.stx_mode)),
        }
    }
}

/// The print of some bytes of a file: how many, and their hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Print {
    pub len: u16,
    pub hash: [u8; 16],
}

impl Print {
    pub const LEN: usize = 18;

    pub fn of(bytes: &[u8]) -> Print {
        if bytes.is_empty() {
            return Print::default();
        }
        let mut hash = [0; 16];
        hash.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
        Print { len: bytes.len() as u16, hash }
    }

    /// Whether these bytes begin with what was printed.
    pub fn fits(&self, bytes: &[u8]) -> bool {
        bytes.get(..usize::from(self.len)).is_some_and(|bytes| Print::of(bytes) == *self)
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn to_bytes(self) -> [u8; Print::LEN] {
        let mut bytes = [0; Print::LEN];
        bytes[..2].copy_from_slice(&self.len.to_le_bytes());
        bytes[2..].copy_from_slice(&self.hash);
        bytes
    }

    pub fn from_bytes(bytes: &[u8; Print::LEN]) -> Print {
        let (len, hash) = bytes.split_first_chunk().expect("a print is longer than its length");
        Print { len: u16::from_le_bytes(*len), hash: hash.try_into().expect("the rest is the hash") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_print_fits_the_file_that_grew_and_no_other() {
        let print = Print::of(b"{\"n\":1}\n");
        assert!(print.fits(b"{\"n\":1}\n{\"n\":2}\n"));
        assert!(!print.fits(b"{\"n\":2}\n{\"n\":2}\n"));
        assert!(!print.fits(b"{\"n\":1}"), "a shorter file is another file");
        assert_eq!(Print::from_bytes(&print.to_bytes()), print);
    }

    #[test]
    fn files_of_one_folder_have_hashes_of_their_own() {
        use std::hash::BuildHasher;

        let hash = |inode, birth| {
            BuildHasherDefault::<IdentityHasher>::default().hash_one(Identity { birth, device: 7, inode })
        };
        let hashes: Vec<u64> = (0..10_000).map(|n| hash(100_000 + n, 1_000 * n as i64)).collect();
        let distinct = |bits: &dyn Fn(u64) -> u64| hashes.iter().map(|h| bits(*h)).collect::<HashSet<u64>>().len();
        assert_eq!(distinct(&|hash| hash), 10_000);
        // A table takes its place from the low bits, and tells those of one place apart by the seven highest.
        assert!(
            distinct(&|hash| hash % 16_384) > 6_500,
            "of 10,000 in 16,384 places 7,400 have one of their own by chance"
        );
        assert_eq!(distinct(&|hash| hash >> 57), 128);
    }

    #[test]
    fn identities_survive_their_bytes() {
        let identity = Identity { birth: -5, device: 7, inode: u64::MAX };
        assert_eq!(Identity::from_bytes(&identity.to_bytes()), identity);
    }
}
