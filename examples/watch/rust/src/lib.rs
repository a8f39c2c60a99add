//! Watches a folder, and tells the host of each change while no call runs.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, SystemTime};

use ferrule::{Background, Context, Level, State};

ferrule::plugin! {
    name: "watch",
    version: "1.0.0",
    description: "Tells of changes in a folder, whose path is the configuration.",
    state: Watch,
}

/// Gets a line for each change: `+`, `-` or `~`, a blank and the file's name.
#[ferrule::import]
fn changed(line: &str) -> ferrule::Result<()>;

/// What the folder holds, as it was when it was looked at last.
type Seen = BTreeMap<OsString, (SystemTime, u64)>;

struct Watch;

impl State for Watch {
    type Config = String;

    fn start(ctx: &Context, folder: String) -> ferrule::Result<Watch> {
        let mut seen = look(Path::new(&folder))?;
        // The thread ends when the instance is stopped, which joins it.
        ctx.background()?.spawn(move |host: &Background| {
            while !host.sleep(Duration::from_millis(20)) {
                match look(Path::new(&folder)) {
                    Ok(now) => {
                        tell(host, &seen, &now);
                        seen = now;
                    }
                    Err(error) => host.log(Level::Warn, format_args!("{folder}: {error}")),
                }
            }
        })?;
        Ok(Watch)
    }
}

fn look(folder: &Path) -> std::io::Result<Seen> {
    let mut seen = Seen::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        match entry.metadata() {
            Ok(about) => seen.insert(entry.file_name(), (about.modified()?, about.len())),
            Err(_) => None, // it is gone by now
        };
    }
    Ok(seen)
}

/// Tells the host what is different.
fn tell(host: &Background, before: &Seen, now: &Seen) {
    let added = now.keys().filter(|name| !before.contains_key(*name)).map(|name| ('+', name));
    let removed = before.keys().filter(|name| !now.contains_key(*name)).map(|name| ('-', name));
    let other = now.iter().filter(|(name, about)| before.get(*name).map_or(false, |old| old != *about));
    for (sign, name) in added.chain(removed).chain(other.map(|(name, _)| ('~', name))) {
        if let Err(error) = changed(&format!("{sign} {}", name.to_string_lossy())) {
            host.log(Level::Debug, format_args!("nobody takes it: {error}"));
        }
    }
}

/// How many files the folder at the path holds: a call, beside the events.
#[ferrule::export]
fn count(folder: &str) -> ferrule::Result<String> {
    Ok(look(Path::new(folder))?.len().to_string())
}
