//! Process limits: raises the number of open files, and disables core dumps unless asked for.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// More is never asked for.
const MOST: u64 = 1 << 20;
/// With fewer, files are opened and closed all the time and connections are turned away.
const ENOUGH: u64 = 1024;

/// Raises the limit of this process, which is low by default for the sake of programs older than `poll`.
pub fn raise() {
    let limit = getrlimit(Resource::Nofile);
    if let Some(wanted) = wanted(limit.current, limit.maximum) {
        // Whether it was granted is seen below.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum });
    }
}

/// Whether a crash may write the memory of the process, with events and secrets in it, to disk.
pub fn core_dumps(allowed: bool) {
    let limit = getrlimit(Resource::Core);
    let current = if allowed { limit.maximum } else { Some(0) };
    if let Err(error) = setrlimit(Resource::Core, Rlimit { current, maximum: limit.maximum }) {
        tracing::warn!(%error, "cannot set the limit of core dumps");
    }
}

/// Says so if the limit is low all the same.
pub fn check() {
    if let Some(allowed) = getrlimit(Resource::Nofile).current.filter(|allowed| *allowed < ENOUGH) {
        tracing::warn!(allowed, "the limit of open files is low; allow at least {ENOUGH} (`ulimit -n`)");
    }
}

/// The limit to ask for, if it is more than there is; `None` in a limit means that there is none.
fn wanted(current: Option<u64>, maximum: Option<u64>) -> Option<u64> {
    let wanted = maximum.map_or(MOST, |maximum| maximum.min(MOST));
    (current? < wanted).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_only_grows_and_not_without_end() {
        assert_eq!(wanted(Some(1024), Some(524_288)), Some(524_288));
        assert_eq!(wanted(Some(1024), None), Some(MOST));
        assert_eq!(wanted(Some(64), Some(64)), None);
        assert_eq!(wanted(Some(2 * MOST), Some(4 * MOST)), None);
        assert_eq!(wanted(None, None), None);
    }
}
