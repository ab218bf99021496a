//! Whether an open stream may go on: what opened it is checked again for as long as it lasts.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until};

use super::Api;
use super::access::{Access, Credentials};
use super::routes::{Call, Who};
use crate::net::Principal;
use crate::net::auth::now;

/// How often. A reload is followed at once, a revoked token or another role in the table only then.
const CHECK_EVERY: Duration = Duration::from_secs(5);

/// The right of one stream.
pub struct StreamAccess {
    access: watch::Receiver<Arc<Access>>,
    who: Principal,
    credentials: Credentials,
    needed: Who,
    /// When what opened the stream ends.
    ends: Option<Instant>,
    /// Rings when it has to be looked next. Set once for many frames: to set it for each takes the runtime's lock.
    alarm: Pin<Box<Sleep>>,
}

impl StreamAccess {
    /// Of a stream that the call opens, on a route for those who are `needed`.
    pub fn of(api: &Api, call: &Call, needed: Who) -> StreamAccess {
        let credentials = call.credentials.clone().expect("the route lets nobody in without credentials");
        let opened = Instant::now();
        let left = credentials.expires.map(|at| Duration::from_secs(at.saturating_sub(now()).max(0) as u64));
        // What ends in thousands of years does not end for us.
        let ends = left.and_then(|left| opened.checked_add(left));
        let (access, who) = (api.access.subscribe(), call.reader().clone());
        let alarm = Box::pin(sleep_until(next_look(opened, ends)));
        StreamAccess { access, who, credentials, needed, ends, alarm }
    }

    /// Waits until it has to be looked whether the right still [`holds`](Self::holds). Nothing is lost if that wait is
    /// given up; looking must not be given up, or a stream that always has something to send would never end.
    pub async fn due(&mut self) {
        tokio::select! {
            () = &mut self.alarm => {}
            Ok(()) = self.access.changed() => {}
        }
    }

    /// Whether it is still the same right: another role sees something else, and has to open a stream of its own.
    pub async fn holds(&mut self) -> bool {
        let now = Instant::now();
        if self.ends.is_some_and(|ends| ends <= now) {
            return false;
        }
        self.alarm.as_mut().reset(next_look(now, self.ends));
        let access = self.access.borrow_and_update().clone();
        let confirmed = access.confirm(&self.credentials).await;
        confirmed.is_some_and(|who| who == self.who && access.check(&who, self.needed).is_ok())
    }
}

/// When a stream is looked at that was looked at now.
fn next_look(now: Instant, ends: Option<Instant>) -> Instant {
    let at = now + CHECK_EVERY;
    ends.map_or(at, |ends| ends.min(at))
}
