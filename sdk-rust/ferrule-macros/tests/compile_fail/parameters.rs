//! Parameters that are no input, no context and no state.

use ferrule::{Context, Json};

ferrule::plugin!(name: "fails", version: "1.0.0");

struct Cart;

#[ferrule::export]
fn not_an_input(_: Cart) {}

#[ferrule::export]
fn not_deserializable(_: Json<Cart>) {}

#[ferrule::export]
fn number(_: u32) {}

#[ferrule::export]
fn two_inputs(_: &str, _: Vec<u8>) {}

#[ferrule::export]
fn two_contexts(_: &Context, _: &str, _: &Context) {}

#[ferrule::export]
fn two_states(_: &Cart, _: &mut Cart) {}

#[ferrule::export]
fn not_the_state(_: &Cart) {}

#[ferrule::export]
fn borrowed_for_too_long(_: &'static str) {}

fn main() {}
