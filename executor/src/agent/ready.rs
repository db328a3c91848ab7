//! The ready line: one line of JSON on standard output, once the agent listens.

use std::io::{self, Write};

use clutch_protocol::{PROTOCOL_MAJOR, PROTOCOL_MINOR};
use serde_json::json;

use super::access::Advertised;
use super::build::Built;

/// Tells whoever started the agent where it listens.
pub(super) fn tell(built: &Built, advertised: Option<&Advertised>) -> io::Result<()> {
    let address = advertised.map_or(&built.listener.address, Advertised::address);
    let environments = built.environments.iter().map(|environment| {
        json!({
            "python": environment.executable.display().to_string(),
            "version": environment.python_version,
        })
    });
    let limits = built.enforcer.enforcement();
    let line = json!({
        "event": "ready",
        "address": address,
        "pid": std::process::id(),
        "slots": built.settings.scheduler.slots,
        "protocol": format!("{PROTOCOL_MAJOR}.{PROTOCOL_MINOR}"),
        "version": env!("CARGO_PKG_VERSION"),
        "environments": environments.collect::<Vec<_>>(),
        "limits": {
            "memory": limits.memory.name(),
            "cpus": limits.cpus.name(),
            "processes": limits.processes.name(),
            "kill": limits.kill.name(),
            "cannot": limits.cannot,
        },
    });
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}
