#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| clutch_executor::fuzzing::process_files(data));
