//! What is written to the room is the result, so there is no other.

use ferrule::{Room, Writer};

ferrule::plugin!(name: "room", version: "1.0.0");

#[ferrule::export]
fn two_results(_out: &mut Room) -> String {
    String::new()
}

#[ferrule::export]
fn twice(_a: &mut Room, _b: &mut Room) {}

#[ferrule::export]
fn fallible(_out: &mut Room) -> ferrule::Result<Vec<u8>> {
    Ok(Vec::new())
}

#[ferrule::configure]
fn configure(_out: &mut Writer) {}

fn main() {}
