//! A simulated file system that loses unsynced data: the twin of [`Real`](super::fs::Real).
//!
//! It keeps what is in memory and what is on the platter apart, sector by sector. A power cut lets any subset of
//! the unsynced sectors survive and loses any subset of the unsynced names. A failed sync forgets what it was about,
//! as kernels do. Writes can stop half-way, and space can run out.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use super::format::SECTOR;
use super::fs::{File, Fs, Lock};

type Sector = Arc<[u8; SECTOR]>;

#[derive(Clone, Default)]
struct Image {
    sectors: BTreeMap<u64, Sector>,
    len: u64,
}

#[derive(Clone, Default)]
struct Inode {
    memory: Image,
    platter: Image,
    dirty: BTreeSet<u64>,
}

#[derive(Clone, Default)]
struct Disk {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    synced_names: BTreeMap<PathBuf, usize>,
    /// Handles of an earlier life do nothing.
    life: u64,
    locked: bool,
    capacity: Option<u64>,
    fail_syncs: u32,
    fail_writes: u32,
    fail_reads: bool,
    /// Reads wait for this.
    gate: Option<Arc<Gate>>,
    random: Random,
}

/// Holds reads up until it is opened; they fail where nobody does for ten seconds.
#[derive(Default)]
pub struct Gate(Mutex<bool>, Condvar);

impl Gate {
    pub fn open(&self) {
        *self.0.lock().expect("no panic while it is held") = true;
        self.1.notify_all();
    }

    fn pass(&self) -> io::Result<()> {
        let closed = self.0.lock().expect("no panic while it is held");
        let patience = std::time::Duration::from_secs(10);
        let (_open, waited) =
            self.1.wait_timeout_while(closed, patience, |open| !*open).expect("no panic while it is held");
        if waited.timed_out() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }
}

/// Numbers that look random and follow from a seed.
#[derive(Clone, Default)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// A handle on the disk. One that was booted dies with the next crash.
#[derive(Clone, Default)]
pub struct Sim {
    disk: Arc<Mutex<Disk>>,
    life: Option<u64>,
}

struct SimFile {
    disk: Arc<Mutex<Disk>>,
    inode: usize,
    life: u64,
}

struct SimLock {
    disk: Arc<Mutex<Disk>>,
    life: u64,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut disk = self.disk.lock().unwrap();
        if disk.life == self.life {
            disk.locked = false;
        }
    }
}

impl Sim {
    pub fn new(seed: u64) -> Sim {
        Sim { disk: Arc::new(Mutex::new(Disk { random: Random(seed), ..Disk::default() })), life: None }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap()
    }

    /// The file system as the next process sees it.
    pub fn boot(&self) -> Arc<Sim> {
        Arc::new(Sim { disk: self.disk.clone(), life: Some(self.disk().life) })
    }

    fn alive(&self) -> io::Result<MutexGuard<'_, Disk>> {
        let disk = self.disk();
        if self.life.is_some_and(|life| life != disk.life) { Err(broken("the process is dead")) } else { Ok(disk) }
    }

    /// An independent copy of everything on it.
    pub fn copy(&self) -> Sim {
        let mut disk = self.disk().clone();
        disk.locked = false;
        Sim { disk: Arc::new(Mutex::new(disk)), life: None }
    }

    pub fn fail_next_syncs(&self, count: u32) {
        self.disk().fail_syncs = count;
    }

    pub fn fail_next_writes(&self, count: u32) {
        self.disk().fail_writes = count;
    }

    /// Reads fail from now on, or no longer.
    pub fn fail_reads(&self, fail: bool) {
        self.disk().fail_reads = fail;
    }

    /// Reads block from now on until they are released.
    pub fn hold_reads(&self) -> Arc<Gate> {
        self.disk().gate.insert(Arc::default()).clone()
    }

    /// From now on no more than this can be allocated, beyond what is.
    pub fn set_free(&self, free: Option<u64>) {
        let mut disk = self.disk();
        let used = disk.used();
        disk.capacity = free.map(|free| used + free);
    }

    /// The process dies, the kernel lives on.
    pub fn kill(&self) {
        let mut disk = self.disk();
        disk.life += 1;
        disk.locked = false;
        (disk.fail_syncs, disk.fail_writes) = (0, 0);
    }

    /// The power goes.
    pub fn cut_power(&self) {
        self.kill();
        let mut disk = self.disk();
        let disk = &mut *disk;
        for inode in &mut disk.inodes {
            for sector in std::mem::take(&mut inode.dirty) {
                if disk.random.chance(50) {
                    inode.persist(sector);
                }
            }
            inode.memory = inode.platter.clone();
        }
        let paths: BTreeSet<PathBuf> = disk.names.keys().chain(disk.synced_names.keys()).cloned().collect();
        for path in paths {
            let (now, synced) = (disk.names.get(&path).copied(), disk.synced_names.get(&path).copied());
            if now != synced && disk.random.chance(50) {
                match now {
                    Some(inode) => disk.synced_names.insert(path, inode),
                    None => disk.synced_names.remove(&path),
                };
            }
        }
        disk.names = disk.synced_names.clone();
    }

    /// Everything on it, as far as it was written: path and length.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let disk = self.disk();
        disk.names.iter().map(|(path, inode)| (path.clone(), disk.inodes[*inode].memory.len)).collect()
    }

    /// Whether the byte stands in a sector that holds anything but zeros.
    pub fn is_used(&self, path: &Path, offset: u64) -> bool {
        let disk = self.disk();
        let image = &disk.inodes[disk.names[path]].memory;
        image.sectors.get(&(offset / SECTOR as u64)).is_some_and(|sector| sector.iter().any(|b| *b != 0))
    }

    /// Changes a byte behind everybody's back.
    pub fn flip(&self, path: &Path, offset: u64) {
        let mut disk = self.disk();
        let inode = disk.names[path];
        let inode = &mut disk.inodes[inode];
        let index = offset / SECTOR as u64;
        let mut sector = inode.memory.sectors.get(&index).map_or([0; SECTOR], |sector| **sector);
        sector[offset as usize % SECTOR] ^= 0x41;
        inode.memory.sectors.insert(index, Arc::new(sector));
        inode.platter.sectors.insert(index, Arc::new(sector));
    }

    /// Cuts a file off.
    pub fn truncate(&self, path: &Path, len: u64) {
        let mut disk = self.disk();
        let inode = disk.names[path];
        let image = &mut disk.inodes[inode].memory;
        image.len = len;
        let last = len / SECTOR as u64;
        image.sectors.split_off(&(last + 1));
        if let Some(sector) = image.sectors.get_mut(&last) {
            let mut cut = **sector;
            cut[len as usize % SECTOR..].fill(0);
            *sector = Arc::new(cut);
        }
    }
}

impl Disk {
    fn used(&self) -> u64 {
        self.names.values().map(|inode| self.inodes[*inode].memory.sectors.len() as u64 * SECTOR as u64).sum()
    }
}

impl Inode {
    fn persist(&mut self, sector: u64) {
        match self.memory.sectors.get(&sector) {
            Some(content) => self.platter.sectors.insert(sector, content.clone()),
            None => self.platter.sectors.remove(&sector),
        };
        let end = ((sector + 1) * SECTOR as u64).min(self.memory.len);
        self.platter.len = self.platter.len.max(end);
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::other(what.to_owned())
}

impl SimFile {
    fn disk(&self) -> io::Result<MutexGuard<'_, Disk>> {
        let disk = self.disk.lock().unwrap();
        if disk.life == self.life { Ok(disk) } else { Err(broken("the process is dead")) }
    }
}

impl File for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let gate = self.disk()?.gate.clone();
        gate.map_or(Ok(()), |gate| gate.pass())?;
        let disk = self.disk()?;
        if disk.fail_reads {
            return Err(broken("a sector cannot be read"));
        }
        let image = &disk.inodes[self.inode].memory;
        let len = buffer.len().min(image.len.saturating_sub(offset) as usize);
        let mut at = 0;
        while at < len {
            let (sector, within) = ((offset + at as u64) / SECTOR as u64, (offset as usize + at) % SECTOR);
            let count = (SECTOR - within).min(len - at);
            match image.sectors.get(&sector) {
                Some(content) => buffer[at..at + count].copy_from_slice(&content[within..within + count]),
                None => buffer[at..at + count].fill(0),
            }
            at += count;
        }
        Ok(len)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut disk = self.disk()?;
        let mut allowed = bytes.len();
        let mut failure = None;
        if disk.fail_writes > 0 {
            disk.fail_writes -= 1;
            allowed = disk.random.below(bytes.len() as u64 + 1) as usize;
            failure = Some(broken("a write failed"));
        }
        let mut free = disk.capacity.map(|capacity| capacity.saturating_sub(disk.used()) / SECTOR as u64);
        let inode = &mut disk.inodes[self.inode];
        let mut at = 0;
        while at < allowed {
            let (index, within) = ((offset + at as u64) / SECTOR as u64, (offset as usize + at) % SECTOR);
            let count = (SECTOR - within).min(allowed - at);
            if !inode.memory.sectors.contains_key(&index)
                && let Some(free) = &mut free
            {
                if *free == 0 {
                    failure = Some(io::Error::from(io::ErrorKind::StorageFull));
                    break;
                }
                *free -= 1;
            }
            let sector = inode.memory.sectors.entry(index).or_insert_with(|| Arc::new([0; SECTOR]));
            Arc::make_mut(sector)[within..within + count].copy_from_slice(&bytes[at..at + count]);
            inode.dirty.insert(index);
            at += count;
        }
        inode.memory.len = inode.memory.len.max(offset + at as u64);
        failure.map_or(Ok(()), Err)
    }

    fn allocate(&self, bytes: u32) -> io::Result<()> {
        // What was never written and what is zero are the same to whoever reads.
        self.write_at(&vec![0; bytes as usize], 0)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.disk()?.inodes[self.inode].memory.len)
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.disk()?;
        let disk = &mut *disk;
        let failing = disk.fail_syncs > 0;
        disk.fail_syncs = disk.fail_syncs.saturating_sub(1);
        let inode = &mut disk.inodes[self.inode];
        for sector in std::mem::take(&mut inode.dirty) {
            if !failing || disk.random.chance(50) {
                inode.persist(sector);
            }
        }
        if failing { Err(broken("a sync failed")) } else { Ok(()) }
    }
}

impl Sim {
    fn open_inode(&self, path: &Path, make: bool) -> io::Result<Arc<dyn File>> {
        let mut disk = self.alive()?;
        let inode = match disk.names.get(path) {
            Some(inode) => *inode,
            None if make => {
                disk.inodes.push(Inode::default());
                let inode = disk.inodes.len() - 1;
                disk.names.insert(path.to_owned(), inode);
                inode
            }
            None => return Err(io::Error::from(io::ErrorKind::NotFound)),
        };
        Ok(Arc::new(SimFile { disk: self.disk.clone(), inode, life: disk.life }))
    }
}

impl Fs for Sim {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.open_inode(path, true)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.open_inode(path, false)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let disk = self.alive()?;
        let inside = disk.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.alive()?;
        let inode = disk.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        disk.names.insert(to.to_owned(), inode);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.alive()?.names.remove(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut disk = self.alive()?;
        let disk = &mut *disk;
        disk.synced_names.retain(|path, _| path.parent() != Some(dir));
        let inside = disk.names.iter().filter(|(path, _)| path.parent() == Some(dir));
        disk.synced_names.extend(inside.map(|(path, inode)| (path.clone(), *inode)));
        Ok(())
    }

    fn available(&self, _: &Path) -> io::Result<u64> {
        let disk = self.alive()?;
        Ok(disk.capacity.map_or(1 << 40, |capacity| capacity.saturating_sub(disk.used())))
    }

    fn lock(&self, _: &Path) -> io::Result<Lock> {
        let mut disk = self.alive()?;
        if std::mem::replace(&mut disk.locked, true) {
            return Ok(Lock::Taken(Some(1)));
        }
        Ok(Lock::Held(Box::new(SimLock { disk: self.disk.clone(), life: disk.life })))
    }
}
