//! Keys of the meta text that are not known, or cannot have such a value.

ferrule::plugin!(name: "keys", version: "1.0.0");

#[ferrule::hook(wrapp)]
fn unknown() {}

#[ferrule::export(wrap)]
fn of_hooks() {}

#[ferrule::hook(order = "middle", priority = 1)]
fn no_such_word() {}

#[ferrule::hook(priority = "high")]
fn no_integer() {}

#[ferrule::import(optional = "yes")]
fn a_value() -> ferrule::Result<()>;

#[ferrule::hook(before = ["a\nb"])]
fn two_lines() {}

#[ferrule::export(since = 1)]
fn no_text() {}

#[ferrule::resume(since = "1")]
fn no_keys() {}

fn main() {}
