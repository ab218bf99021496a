//! The postgres sink against the real server: what stands in the tables, counted from outside.

pub mod faults;
mod made;
mod reach;
mod refusals;
mod tables;
mod values;
