//! `src/generated` is what the `.proto` files say. `UPDATE=1` rewrites it.

use std::error::Error;
use std::path::{Path, PathBuf};

use prost_types::FileDescriptorSet;

const GENERATED: &str = "clutch.v1.rs";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the parsed contract, comments included.
fn contract() -> Result<FileDescriptorSet, Box<dyn Error>> {
    let include = root().join("proto");
    let mut files: Vec<PathBuf> = std::fs::read_dir(include.join("clutch/v1"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.sort();
    Ok(protox::compile(files, [include])?)
}

/// Returns the Rust code for the contract.
fn generate(contract: FileDescriptorSet) -> Result<String, Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    tonic_prost_build::configure()
        .out_dir(directory.path())
        .bytes(".")
        .emit_rerun_if_changed(false)
        .compile_fds(contract)?;
    Ok(std::fs::read_to_string(directory.path().join(GENERATED))?)
}

/// Returns the messages, fields, values, services and RPCs without a comment.
fn undocumented(contract: &FileDescriptorSet) -> Vec<String> {
    // Numbers of the fields of the descriptors, which make up paths in a file.
    const MESSAGE: i32 = 4;
    const ENUM: i32 = 5;
    const SERVICE: i32 = 6;
    /// Fields of a message, values of an enum, methods of a service.
    const MEMBER: i32 = 2;
    const ONEOF: i32 = 8;

    let mut missing = Vec::new();
    for file in &contract.file {
        let documented: Vec<&[i32]> = file
            .source_code_info
            .iter()
            .flat_map(|info| &info.location)
            .filter(|location| !location.leading_comments().trim().is_empty())
            .map(|location| location.path.as_slice())
            .collect();
        let mut demand = |path: &[i32], name: String| {
            if !documented.contains(&path) {
                missing.push(name);
            }
        };
        for (index, message) in (0..).zip(&file.message_type) {
            demand(&[MESSAGE, index], message.name().to_owned());
            for (member, field) in (0..).zip(&message.field) {
                let name = format!("{}.{}", message.name(), field.name());
                demand(&[MESSAGE, index, MEMBER, member], name);
            }
            // An `optional` field makes a nameless oneof of its own.
            let written = |oneof: &str| !oneof.starts_with('_');
            for (member, oneof) in (0..).zip(&message.oneof_decl).filter(|(_, o)| written(o.name()))
            {
                let name = format!("{}.{}", message.name(), oneof.name());
                demand(&[MESSAGE, index, ONEOF, member], name);
            }
        }
        for (index, list) in (0..).zip(&file.enum_type) {
            demand(&[ENUM, index], list.name().to_owned());
            for (member, value) in (0..).zip(&list.value) {
                demand(&[ENUM, index, MEMBER, member], value.name().to_owned());
            }
        }
        for (index, service) in (0..).zip(&file.service) {
            demand(&[SERVICE, index], service.name().to_owned());
            for (member, method) in (0..).zip(&service.method) {
                demand(&[SERVICE, index, MEMBER, member], method.name().to_owned());
            }
        }
    }
    missing
}

/// Also what keeps an `UPDATE=1` from writing code that the crate's lints deny,
/// after which this test could not be built to mend it.
#[test]
fn everything_is_documented_and_generated() {
    let contract = contract().expect("the contract compiles");
    let missing = undocumented(&contract);
    assert!(missing.is_empty(), "without a comment in the .proto files: {missing:?}");

    let expected = generate(contract).expect("the contract can be generated");
    let path = root().join("src/generated").join(GENERATED);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &expected).expect("a writable checkout");
    }
    let committed = std::fs::read_to_string(&path).expect("committed generated code");
    // Not `assert_eq`, which would print both files.
    assert!(committed == expected, "{} is stale: run `make generate`", path.display());
}
