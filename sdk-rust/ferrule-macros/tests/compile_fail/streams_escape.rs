//! A stream and a room do not outlive the call.

use ferrule::{Background, Reader, Room};
use std::io::Read;

ferrule::plugin!(name: "escape", version: "1.0.0");

#[ferrule::export]
fn to_a_thread(input: &mut Reader) {
    std::thread::spawn(move || input.read_to_end(&mut Vec::new()));
}

#[ferrule::export]
fn as_the_result<'a>(_input: &'a [u8], out: &'a mut Room) -> ferrule::Result<()> {
    let kept: &'static mut [u8] = out.grow(10)?;
    kept[0] = 1;
    Ok(())
}

fn swapped<'a, 'b>(one: &mut Reader<'a>, two: &mut Reader<'b>) {
    std::mem::swap(one, two);
}

fn to_the_background(host: &Background, room: &mut Room) {
    let _ = host.spawn(move |_| drop(room.reserve(1)));
}

fn main() {
    let _ = (swapped, to_the_background);
}
