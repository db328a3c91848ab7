//! The table of settings in `docs/settings.md` is what `clutch agent` takes.
//! `UPDATE=1` rewrites it.

use std::error::Error;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, CommandFactory};
use clutch_executor::cli::Cli;
use clutch_executor::settings::{RawSettings, Settings};

const BEGIN: &str = "<!-- generated: `make generate` rewrites it -->\n";
const END: &str = "<!-- end of what is generated -->\n";

fn document() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/settings.md")
}

/// The settings, in the order of the code.
fn settings() -> Result<Vec<Arg>, Box<dyn Error>> {
    let command = Cli::command();
    let agent = command.find_subcommand("agent").ok_or("no `clutch agent`")?;
    let settings = agent.get_arguments().filter(|setting| setting.get_id() != "help");
    Ok(settings.cloned().collect())
}

/// The setting's name in a settings file; `None` for the file's own.
fn key(setting: &Arg) -> Result<Option<String>, Box<dyn Error>> {
    let flag = setting.get_long().ok_or("a setting without a flag")?;
    Ok(Some(flag.to_owned()).filter(|flag| flag != "settings"))
}

/// A line of the table.
fn line(setting: &Arg) -> Result<String, Box<dyn Error>> {
    let flag = setting.get_long().ok_or("a setting without a flag")?;
    let switch = matches!(setting.get_action(), ArgAction::SetTrue);
    let value = setting.get_value_names().and_then(|names| names.first());
    let value = value.filter(|_| !switch).map_or_else(String::new, |value| format!(" {value}"));
    let variable = setting.get_env().ok_or("a setting without a variable")?.to_string_lossy();
    let values = if switch { "=true" } else { "" };
    let key = key(setting)?.map_or_else(|| "none".to_owned(), |key| format!("`{key}`"));
    let help = setting.get_help().ok_or("a setting without a comment")?.to_string();
    let (meaning, default) = match help.split_once(" Default: ") {
        Some((meaning, default)) => (meaning, default),
        None if switch => (help.as_str(), "off"),
        None => (help.as_str(), "none"),
    };
    let meaning = meaning.trim_end_matches('.');
    let default = default.trim_end_matches('.');
    Ok(format!("| `--{flag}{value}` | `{variable}{values}` | {key} | {meaning}. | {default} |\n"))
}

fn table() -> Result<String, Box<dyn Error>> {
    let mut table =
        String::from("| Flag | Environment variable | Key in file | Meaning | Default |\n");
    table.push_str("|---|---|---|---|---|\n");
    for setting in settings()? {
        write!(table, "{}", line(&setting)?)?;
    }
    Ok(table)
}

#[test]
fn the_table_is_current() {
    let path = document();
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the begin of the table");
    let (_, after) = rest.split_once(END).expect("the end of the table");
    let expected = format!("{before}{BEGIN}\n{}\n{END}{after}", table().unwrap());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap();
    assert!(committed == expected, "{} is stale: run `make generate`", path.display());
}

#[test]
fn a_key_in_the_file_is_a_setting() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clutch.toml");
    for key in settings().unwrap().iter().filter_map(|setting| key(setting).unwrap()) {
        // One of them is of the setting's type.
        let taken = ["1", "'text'", "['text']", "true"].into_iter().any(|value| {
            std::fs::write(&path, format!("{key} = {value}\n")).unwrap();
            let raw = RawSettings { settings: Some(path.clone()), ..RawSettings::default() };
            raw.with_file().is_ok()
        });
        assert!(taken, "`{key}` is not taken from a file");
    }
}

#[test]
fn the_defaults_are_those_of_the_code() {
    let raw = RawSettings { python: vec!["/bin/sh".into()], ..RawSettings::default() };
    let Settings { scheduler, pool, session, drain, log, network, .. } =
        Settings::resolve(raw).unwrap();
    let table = table().unwrap();
    let applied = [
        ("worker-idle-seconds", scheduler.worker_idle.as_secs_f64().to_string()),
        ("worker-max-batches", pool.worker_max_batches.unwrap_or(0).to_string()),
        ("worker-max-growth-bytes", pool.worker_max_growth_bytes.unwrap_or(0).to_string()),
        ("start-seconds", pool.start.as_secs_f64().to_string()),
        ("warm", format!("`{}`", pool.warm.join(","))),
        ("learn-modules", format!("`{}`", pool.learn_modules)),
        ("max-connections", network.connections.max_connections.to_string()),
        ("keepalive-seconds", network.connections.keepalive.interval.as_secs_f64().to_string()),
        (
            "keepalive-timeout-seconds",
            network.connections.keepalive.timeout.as_secs_f64().to_string(),
        ),
        ("max-sessions", session.max_sessions.to_string()),
        ("max-open-batches", session.max_open_batches.to_string()),
        ("max-batch-bytes", session.max_batch_bytes.to_string()),
        ("drain-seconds", drain.deadline.as_secs_f64().to_string()),
        ("log", format!("`{log}`")),
    ];
    for (key, value) in applied {
        let line = table.lines().find(|line| line.contains(&format!("| `{key}` |"))).unwrap();
        let written = line.rsplit(" | ").next().and_then(|cell| cell.split(' ').next());
        assert_eq!(written, Some(value.as_str()), "{key}");
    }
    assert_eq!(scheduler.max_workers, scheduler.slots * 4);
}
