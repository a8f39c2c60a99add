//! An export without a plugin!.

#[ferrule::export]
fn function() {}

fn main() {}
