//! Rate limit for messages, and the number of events held back by it.

use std::collections::VecDeque;
use std::time::Instant;

use crate::units::Rate;

/// More than this many messages in the configured time are not counted one by one.
const MAX_COUNTED: u64 = 10_000;

pub struct Limit {
    rate: Rate,
    sent: VecDeque<Instant>,
    suppressed: u64,
}

impl Limit {
    pub fn new(rate: Rate) -> Limit {
        Limit { rate, sent: VecDeque::new(), suppressed: 0 }
    }

    /// Whether a message may be sent now, and how many held-back events it must report.
    pub fn next(&mut self, now: Instant) -> Option<u64> {
        while self.sent.front().is_some_and(|sent| now.saturating_duration_since(*sent) >= self.rate.per()) {
            self.sent.pop_front();
        }
        ((self.sent.len() as u64) < self.rate.count.min(MAX_COUNTED)).then_some(self.suppressed)
    }

    /// A message was sent that reported this many.
    pub fn sent(&mut self, now: Instant, told: u64) {
        self.sent.push_back(now);
        self.suppressed = self.suppressed.saturating_sub(told);
    }

    /// So many events have no message.
    pub fn suppress(&mut self, events: u64) {
        self.suppressed += events;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn so_many_messages_go_in_any_stretch_and_the_next_one_tells_of_the_rest() {
        let (mut limit, start) = (Limit::new("2/m".parse().expect("a rate")), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for second in [0, 30] {
            assert_eq!(limit.next(at(second)), Some(0));
            limit.sent(at(second), 0);
        }
        assert_eq!(limit.next(at(59)), None);
        limit.suppress(3);
        assert_eq!(limit.next(at(60)), Some(3));
        assert_eq!(limit.next(at(60)), Some(3), "a message that was not taken has told nobody");
        limit.sent(at(60), 3);
        assert_eq!(limit.next(at(89)), None);
        assert_eq!(limit.next(at(90)), Some(0));
    }
}
