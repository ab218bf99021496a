//! Rate limit for failed logins: attempts per address, in bounded memory.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failures an address may have at once.
const BURST: f64 = 100.0;
/// Failures an address may have each second in the long run.
const PER_SECOND: f64 = 5.0;
/// Addresses remembered; beyond it those that failed least are forgotten.
const MAX_ADDRESSES: usize = 4096;

/// Failures by address: each leaks away at [`PER_SECOND`].
#[derive(Default)]
pub struct Limiter {
    failures: Mutex<HashMap<IpAddr, Level>>,
}

#[derive(Clone, Copy)]
struct Level {
    failures: f64,
    at: Instant,
}

impl Level {
    fn now(&self, now: Instant) -> f64 {
        (self.failures - now.saturating_duration_since(self.at).as_secs_f64() * PER_SECOND).max(0.0)
    }
}

impl Limiter {
    /// How long the address has to wait before it may fail again, if at all. Unix peers never have to.
    pub fn wait(&self, peer: Option<IpAddr>, now: Instant) -> Option<Duration> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let excess = failures.get(&network(peer?))?.now(now) - BURST;
        (excess > 0.0).then(|| Duration::from_secs_f64(excess / PER_SECOND))
    }

    /// Remembers a failure; above the burst it adds little, so that the wait stays short.
    pub fn fail(&self, peer: Option<IpAddr>, now: Instant) {
        let Some(peer) = peer else { return };
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= MAX_ADDRESSES {
            make_space(&mut failures, now);
        }
        let level = failures.entry(network(peer)).or_insert(Level { failures: 0.0, at: now });
        *level = Level { failures: (level.now(now) + 1.0).min(BURST + PER_SECOND), at: now };
    }
}

/// Forgets who has been forgiven, or else the half with the fewest failures.
fn make_space(failures: &mut HashMap<IpAddr, Level>, now: Instant) {
    failures.retain(|_, level| level.now(now) > 0.0);
    if failures.len() < MAX_ADDRESSES {
        return;
    }
    let mut levels: Vec<f64> = failures.values().map(|level| level.now(now)).collect();
    let median = *levels.select_nth_unstable_by(MAX_ADDRESSES / 2, f64::total_cmp).1;
    let mut left = MAX_ADDRESSES / 2;
    failures.retain(|_, level| {
        let forget = left > 0 && level.now(now) <= median;
        left -= usize::from(forget);
        !forget
    });
}

/// One customer of a provider has a whole /64 of IPv6 addresses.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from(u128::from(ip) & !0 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect("an address"))
    }

    #[test]
    fn who_fails_too_often_has_to_wait_and_is_forgiven() {
        let (limiter, start) = (Limiter::default(), Instant::now());
        for _ in 0..=BURST as usize {
            assert_eq!(limiter.wait(ip("10.0.0.1"), start), None);
            limiter.fail(ip("10.0.0.1"), start);
        }
        assert!(limiter.wait(ip("10.0.0.1"), start).is_some());
        assert_eq!(limiter.wait(ip("10.0.0.2"), start), None);
        assert_eq!(limiter.wait(None, start), None);
        assert_eq!(limiter.wait(ip("10.0.0.1"), start + Duration::from_secs(1)), None);
    }

    #[test]
    fn a_network_of_ipv6_addresses_counts_as_one() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        for n in 0..=BURST as usize {
            limiter.fail(ip(&format!("2001:db8::{n:x}")), now);
        }
        assert!(limiter.wait(ip("2001:db8::ffff"), now).is_some());
        assert_eq!(limiter.wait(ip("2001:db8:0:1::"), now), None);
    }

    #[test]
    fn memory_is_bounded_and_the_worst_are_kept() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        for _ in 0..=BURST as usize {
            limiter.fail(ip("10.0.0.1"), now);
        }
        for n in 0..3 * MAX_ADDRESSES as u32 {
            limiter.fail(Some(IpAddr::V4((0x0B00_0000 + n).into())), now);
        }
        assert!(limiter.failures.lock().expect("no panic").len() <= MAX_ADDRESSES);
        assert!(limiter.wait(ip("10.0.0.1"), now).is_some());
    }
}
