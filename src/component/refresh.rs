//! Periodic work of a transform beside its events, such as reading a table again.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// One reading; the error is for the operator.
pub type Reading = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// The wiring runs it before the first event and then at this interval.
#[derive(Clone)]
pub struct Refresh {
    pub every: Duration,
    pub read: Arc<dyn Fn() -> Reading + Send + Sync>,
}
