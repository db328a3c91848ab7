//! The `clutch` binary.

use std::process::ExitCode;

use clap::Parser;
use clutch_executor::cli::{self, Cli, Command, ZygoteArguments};
use clutch_executor::exit_code::Ending;
use clutch_executor::{agent, doctor, host, operator};

fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(Cli { command: Command::Agent(settings) }) => agent::run(*settings).into(),
        Ok(Cli { command: Command::Doctor(settings) }) => doctor::run(*settings).into(),
        Ok(Cli { command: Command::Status(arguments) }) => operator::status(&arguments).into(),
        Ok(Cli { command: Command::Drain(arguments) }) => operator::drain(&arguments).into(),
        Ok(Cli { command: Command::Access(arguments) }) => operator::access(&arguments).into(),
        Ok(Cli { command: Command::Zygote(arguments) }) => zygote(arguments),
        Err(error) => cli::explain(&error).into(),
    }
}

fn zygote(arguments: ZygoteArguments) -> ExitCode {
    let code = match arguments.into_options() {
        Ok(options) => host::run(&options),
        Err(error) => {
            cli::complain(&error);
            return Ending::Host.into();
        }
    };
    match code {
        Ok(code) => u8::try_from(code).unwrap_or(Ending::Host.code()).into(),
        Err(error) => {
            cli::complain(&error);
            Ending::Host.into()
        }
    }
}
