//! A context that outlives its call.

use ferrule::Context;

ferrule::plugin!(name: "fails", version: "1.0.0");

#[ferrule::export]
fn hands_it_to_a_thread(ctx: &Context) {
    std::thread::spawn(move || ctx.cancelled());
}

#[ferrule::export]
fn clones_it(ctx: &Context) {
    let kept: Context = ctx.clone();
    std::mem::forget(kept);
}

fn main() {}
