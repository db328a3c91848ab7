//! `clutch doctor`: what an agent with these settings would find on this
//! machine, for people.

mod limits;
mod sandbox;

use std::io::{self, Write};

use crate::cli::complain;
use crate::exit_code::Ending;
use crate::limits::Enforcer;
use crate::settings::{RawSettings, Settings};

/// Looks, tells on standard output, and leaves everything as it was.
pub fn run(raw: RawSettings) -> Ending {
    let settings = match raw.with_file().and_then(Settings::resolve) {
        Ok(settings) => settings,
        Err(error) => {
            complain(&error);
            return Ending::Settings;
        }
    };
    let enforcer = Enforcer::probe(&settings.limits);
    let mut text = limits::report(enforcer.enforcement(), enforcer.notes(), &settings.limits);
    text += &sandbox::report(settings.pool.sandbox);
    enforcer.close();
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => Ending::Done,
        Err(error) => {
            complain(&error);
            Ending::Internal
        }
    }
}
