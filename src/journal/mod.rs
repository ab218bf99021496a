//! The journal: one append-only log with a number for every event; everything downstream is a cursor over it.

use std::sync::Arc;

use bytes::Bytes;

use crate::event::Lines;
use crate::units::Timestamp;

/// The output of one component that at least one cursor reads.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct StreamId(pub u16);

/// What one commit gathered of one stream; the n-th event has `seq` `first_seq + n`.
#[derive(Debug)]
pub struct Record {
    pub stream: StreamId,
    pub first_seq: u64,
    /// Ordinal of the first event within its stream, counted since the journal began.
    pub stream_first: u64,
    pub received_at: Timestamp,
    pub lines: Lines,
}

/// How far a source has read one origin; stated with the events it gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    pub source: Arc<str>,
    pub key: Bytes,
    /// Empty: forget this origin.
    pub value: Bytes,
}

/// What makes a repeated request harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IdempotencyKey {
    /// Hash of sender and key.
    pub key: [u8; 16],
    /// Hash of the body.
    pub body: [u8; 16],
}

/// Bytes taken from the intake purse; given back when dropped.
#[derive(Debug)]
pub struct Room {}
