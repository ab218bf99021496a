//! The door: everything behind it is the library.

fn main() {}
