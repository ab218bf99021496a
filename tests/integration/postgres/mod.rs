//! The postgres sink against the real server: what stands in the tables, counted from outside.

mod faults;
mod made;
mod reach;
mod tables;
mod values;
