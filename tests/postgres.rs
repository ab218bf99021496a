//! The postgres sink against the real server: what stands in the tables, counted from outside.

mod support;

#[path = "postgres/database.rs"]
mod database;
#[path = "postgres/faults.rs"]
mod faults;
#[path = "postgres/made.rs"]
mod made;
#[path = "postgres/reach.rs"]
mod reach;
#[path = "postgres/tables.rs"]
mod tables;
#[path = "postgres/values.rs"]
mod values;
