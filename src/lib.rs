//! Weir: a log-pipeline agent for code executions and user activity.

pub mod event;
pub mod units;
