//! The agent as a whole: everything that can fail is built before anything is
//! served.

mod build;
mod lifeline;
mod ready;
mod serve;

use crate::cli::complain;
use crate::exit_code::Ending;
use crate::settings::{RawSettings, Settings};
use crate::telemetry;

/// Runs an agent to its end.
pub fn run(raw: RawSettings) -> Ending {
    let settings = match raw.with_file().and_then(Settings::resolve) {
        Ok(settings) => settings,
        Err(error) => {
            complain(&error);
            return Ending::Settings;
        }
    };
    if let Err(error) = telemetry::start(&settings.log) {
        complain(&error);
        return Ending::Settings;
    }
    let built = match build::build(settings) {
        Ok(built) => built,
        Err(error) => {
            complain(&error);
            return error.ending();
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&error);
            return Ending::Internal;
        }
    };
    let ending = runtime.block_on(serve::serve(built)).unwrap_or_else(|error| {
        complain(&error);
        Ending::Internal
    });
    // What still runs dies with this process.
    runtime.shutdown_background();
    ending
}
