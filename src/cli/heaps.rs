//! Starts the process again with fewer heaps, so that memory which one thread frees serves the others or goes back.

use std::env;
use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// How many heaps the GNU C library's allocator makes. By default it makes eight for each core and keeps what is freed in
/// each of them: an agent that filled its store held twice what it used, and more than `limits.memory`.
const VARIABLE: &str = "MALLOC_ARENA_MAX";
/// From how many bytes on a piece of memory is one of its own, which goes back as soon as it is free. By default that grows
/// with what is freed, up to 32 MiB, and what parts of the store are made in stays between what is in use: an agent that
/// answered queries while it filled its store held a tenth more than `limits.memory`. Columns are smaller, and are not
/// worth the calls.
const OWN: (&str, usize) = ("MALLOC_MMAP_THRESHOLD_", 2 << 20);
/// Where an operator may have said something else.
const TUNABLES: &str = "GLIBC_TUNABLES";

/// Only an environment variable tells the allocator, and only at the start of a process. Where that cannot be, the process
/// goes on as it is.
pub fn limit() {
    if !cfg!(target_env = "gnu") || env::var_os(VARIABLE).is_some() || env::var_os(TUNABLES).is_some() {
        return;
    }
    let (Ok(program), mut arguments) = (env::current_exe(), env::args_os()) else { return };
    let name = arguments.next();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut command = Command::new(&program);
    command.arg0(name.as_deref().unwrap_or(OsStr::new("weir"))).args(arguments);
    if env::var_os(OWN.0).is_none() {
        command.env(OWN.0, OWN.1.to_string());
    }
    // Returns only if it fails.
    let _ = command.env(VARIABLE, heaps(cores).to_string()).exec();
}

/// One for each core: threads that are busy at the same time do not wait for each other.
fn heaps(cores: usize) -> usize {
    cores.max(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_core_has_a_heap_and_one_core_two() {
        assert_eq!((heaps(1), heaps(2), heaps(16)), (2, 2, 16));
    }
}
