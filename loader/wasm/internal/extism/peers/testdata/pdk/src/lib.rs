//! A plug-in that uses what Extism's Rust PDK has.
use extism_pdk::*;
use serde::{Deserialize, Serialize};

#[host_fn]
extern "ExtismHost" {
    fn shout(text: String) -> String;
    fn tell(text: String);
}

#[plugin_fn]
pub fn echo(input: Vec<u8>) -> FnResult<Vec<u8>> {
    Ok(input)
}

#[plugin_fn]
pub fn count_vowels(input: Vec<u8>) -> FnResult<Vec<u8>> {
    let n = input.iter().filter(|b| b"aeiouAEIOU".contains(b)).count() as u64;
    Ok(n.to_le_bytes().to_vec())
}

#[plugin_fn]
pub fn greet(input: String) -> FnResult<String> {
    let greeting = config::get("greeting")?.unwrap_or_else(|| "none".into());
    Ok(format!("{greeting}, {input}"))
}

#[plugin_fn]
pub fn count(_: ()) -> FnResult<String> {
    let n: u32 = var::get::<String>("n")?.map_or(0, |s| s.parse().unwrap()) + 1;
    var::set("n", n.to_string())?;
    Ok(n.to_string())
}

#[plugin_fn]
pub fn keep(input: Vec<u8>) -> FnResult<String> {
    var::set("kept", input)?;
    Ok("kept".into())
}

#[plugin_fn]
pub fn forget(_: ()) -> FnResult<String> {
    var::remove("kept")?;
    Ok(if var::get::<Vec<u8>>("kept")?.is_none() { "gone".into() } else { "there".into() })
}

#[plugin_fn]
pub fn say(input: String) -> FnResult<()> {
    trace!("t {}", input);
    debug!("d {}", input);
    info!("i {}", input);
    warn!("w {}", input);
    error!("e {}", input);
    Ok(())
}

#[plugin_fn]
pub fn refuse(input: String) -> FnResult<String> {
    Err(WithReturnCode::new(Error::msg(format!("no: {input}")), 7))
}

#[plugin_fn]
pub fn ask(input: String) -> FnResult<String> {
    unsafe {
        tell(input.clone())?;
        Ok(shout(input)?)
    }
}

#[plugin_fn]
pub fn fetch(input: String) -> FnResult<Vec<u8>> {
    let answer = http::request::<()>(&HttpRequest::new(input), None)?;
    Ok(answer.body())
}

#[derive(Serialize, Deserialize)]
struct Cart {
    items: Vec<String>,
    total: u64,
}

#[plugin_fn]
pub fn add(Json(mut cart): Json<Cart>) -> FnResult<Json<Cart>> {
    cart.items.push("tea".into());
    cart.total += 3;
    Ok(Json(cart))
}

#[plugin_fn]
pub fn trap(_: ()) -> FnResult<()> {
    panic!("on purpose")
}
